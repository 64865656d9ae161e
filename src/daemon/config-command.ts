// `apertured config check|default|dump`: needs no daemon and changes nothing.

import { type ConfigOutcome, loadConfig } from "./config.js";
import { warningsOf } from "./config-check.js";
import { defaultConfig, dumpConfig } from "./config-print.js";
import type { ConfigCommand, Flags } from "./flags.js";
import { checkDescriptorLimit } from "./start-checks.js";

export interface CommandResult {
  readonly out: string;
  readonly messages: readonly string[];
  readonly status: 0 | 1 | 2;
}

export function runConfigCommand(command: ConfigCommand, flags: Flags, env: NodeJS.ProcessEnv, uid: number): CommandResult {
  if (command === "default") return { out: defaultConfig(), messages: [], status: 0 };
  const outcome = loadConfig(flags, env, uid);
  if (outcome.problems) return { out: "", messages: outcome.problems, status: outcome.usage ? 2 : 1 };
  if (command === "dump") return { out: dumpConfig(outcome.config), messages: [], status: 0 };
  return check(outcome);
}

function check({ config }: Extract<ConfigOutcome, { problems: null }>): CommandResult {
  const warnings = [...warningsOf(config)];
  // Of this shell, not of the daemon's unit: a warning, no problem.
  const limit = checkDescriptorLimit(config.settings);
  if (limit !== null) warnings.push(`started from here, the daemon would stop: ${limit}`);
  const read = config.files.length === 0 ? "no file" : config.files.join(", ");
  const rules = `${config.policy.length} policy rule${config.policy.length === 1 ? "" : "s"}`;
  return { out: `good: ${read}; ${rules}\n`, messages: warnings.map((warning) => `warning: ${warning}`), status: 0 };
}
