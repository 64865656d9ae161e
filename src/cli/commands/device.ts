import type { CommandCall } from "../command.js";
import { renderDevice } from "../device-view.js";
import { EXIT } from "../exit-code.js";
import { writeOne } from "../output.js";

export async function run(call: CommandCall): Promise<number> {
  const [address = ""] = call.operands;
  const device = await call.withClient((client) => client.device(address));
  await writeOne(call.terminal, call.format, { value: device, name: device.address }, () => renderDevice(device, call.terminal));
  return EXIT.ok.code;
}
