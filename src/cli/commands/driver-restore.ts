import type { CommandCall } from "../command.js";
import { runChange } from "../driver-view.js";

export async function run(call: CommandCall): Promise<number> {
  const [address = ""] = call.operands;
  return await call.withClient((client) => runChange(call, (onStep) => client.restoreDriver(address, { onStep })));
}
