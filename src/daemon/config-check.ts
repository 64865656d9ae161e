// What is allowed and still looks like a mistake: told by `apertured config check`, and in the log at each start and reload.

import { coveredBy, matchesNobody } from "../broker/policy-cover.js";
import type { Config } from "./config.js";

export function warningsOf({ policy, ruleOrigins, warnings }: Config): readonly string[] {
  const found = [...warnings];
  for (const [index, rule] of policy.entries()) {
    const warn = (what: string): void => {
      found.push(`${ruleOrigins[index]}: policy rule ${JSON.stringify(rule.name)} ${what}`);
    };
    const earlier = coveredBy(policy, index);
    if (matchesNobody(rule)) warn("matches nobody: one of its lists is empty");
    else if (earlier) warn(`can never match: whatever it matches, ${JSON.stringify(earlier.name)} before it matches first`);
    const byProgram = rule.executables !== null || rule.cgroups !== null;
    if (rule.executables !== null && rule.kinds.length === 0) {
      warn("denies by executable: a copy of the program under another name escapes it. Allow by executable, and deny the rest");
    }
    if (
      byProgram &&
      rule.uids === null &&
      rule.gids === null &&
      rule.kinds.length > 0 &&
      rule.executables !== null &&
      rule.cgroups === null
    ) {
      warn("allows any user who can run that program, and whoever runs it can make it do their will. Name uid or gid too");
    }
  }
  return found;
}
