import type { ReloadAnswer, SettingChange } from "../../client/index.js";
import type { CommandCall } from "../command.js";
import { EXIT } from "../exit-code.js";
import { writeOne } from "../output.js";
import { printable } from "../printable.js";

export async function run(call: CommandCall): Promise<number> {
  const answer = await call.withClient((client) => client.reloadConfig());
  await writeOne(call.terminal, call.format, { value: answer, name: answer.applied ? "applied" : "refused" }, () => render(answer));
  for (const problem of answer.problems) call.terminal.message(printable(problem), "red");
  if (answer.applied) return EXIT.ok.code;
  call.terminal.message("aperturectl: nothing was changed; correct this and reload again", "red");
  return EXIT.failed.code;
}

function render({ applied, changed, needsRestart, policyRules, policyChanged }: ReloadAnswer): string {
  if (!applied) return "";
  const lines = (title: string, changes: readonly SettingChange[]): readonly string[] =>
    changes.map(({ name, from, to }) => `${title}: ${printable(name)} ${printable(from)} -> ${printable(to)}`);
  const policy = `policy: ${policyChanged ? "new" : "as before"}, ${policyRules} rule${policyRules === 1 ? "" : "s"}`;
  return `${[policy, ...lines("changed", changed), ...lines("needs a restart", needsRestart)].join("\n")}\n`;
}
