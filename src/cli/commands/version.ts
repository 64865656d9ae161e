import type { CommandCall } from "../command.js";
import { EXIT } from "../exit-code.js";
import { version } from "../version.js";

export async function run(call: CommandCall): Promise<number> {
  call.terminal.out(`aperturectl ${version()}\n`);
  return EXIT.ok.code;
}
