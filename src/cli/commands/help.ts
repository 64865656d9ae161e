import { nearest } from "../../nearest.js";
import type { CommandCall } from "../command.js";
import { COMMAND_NAMES, findCommand } from "../command-table.js";
import { CliError, EXIT } from "../exit-code.js";
import { commandHelp, generalHelp } from "../help.js";
import { printable } from "../printable.js";

export async function run(call: CommandCall): Promise<number> {
  const [name] = call.operands;
  call.terminal.out(name === undefined ? generalHelp() : helpOf(name));
  return EXIT.ok.code;
}

function helpOf(name: string): string {
  const command = findCommand(name);
  if (command !== null) return commandHelp(command);
  const near = nearest(name, COMMAND_NAMES);
  throw new CliError("usage", `there is no command \`${printable(name)}\``, near === null ? null : `did you mean \`${near}\`?`);
}
