import { suggestion } from "../arguments.js";
import type { CommandCall } from "../command.js";
import { COMPLETION_SCRIPTS, SHELLS } from "../completion-scripts.js";
import { CliError, EXIT } from "../exit-code.js";
import { printable } from "../printable.js";

export async function run(call: CommandCall): Promise<number> {
  const [name = ""] = call.operands;
  const shell = SHELLS.find((each) => each === name);
  if (shell === undefined) {
    throw new CliError(
      "usage",
      `there is no completion for \`${printable(name)}\``,
      suggestion(name, SHELLS) ?? `one of ${SHELLS.join(", ")}`,
    );
  }
  call.terminal.out(COMPLETION_SCRIPTS[shell]);
  return EXIT.ok.code;
}
