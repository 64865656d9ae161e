import { unknownCommand } from "../arguments.js";
import type { CommandCall } from "../command.js";
import { findCommand } from "../command-table.js";
import { EXIT } from "../exit-code.js";
import { commandHelp, generalHelp } from "../help.js";

export async function run(call: CommandCall): Promise<number> {
  const { out, width } = call.terminal;
  const name = call.operands.join(" ");
  if (name === "") {
    out(generalHelp(width));
    return EXIT.ok.code;
  }
  const command = findCommand(name);
  if (command === null) throw unknownCommand(name);
  out(commandHelp(command, width));
  return EXIT.ok.code;
}
