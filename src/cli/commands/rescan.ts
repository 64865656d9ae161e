import type { CommandCall } from "../command.js";
import { EXIT } from "../exit-code.js";
import { writeOne } from "../output.js";
import { withProgress } from "../progress.js";

export async function run(call: CommandCall): Promise<number> {
  const answer = await call.withClient((client) => withProgress(call.terminal, "scanning the machine's devices", client.rescan()));
  await writeOne(
    call.terminal,
    call.format,
    { value: answer, name: answer.revision.toString() },
    () => `${answer.devices} devices, revision ${answer.revision} of the inventory\n`,
  );
  return EXIT.ok.code;
}
