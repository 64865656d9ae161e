import type { CommandCall } from "../command.js";
import { runChange } from "../driver-view.js";

export async function run(call: CommandCall): Promise<number> {
  const [address = ""] = call.operands;
  const driver = call.values.get("driver");
  const options = { wholeGroup: call.flags.has("whole-group"), ...(driver === undefined ? {} : { driver }) };
  return await call.withClient((client) => runChange(call, (onStep) => client.bindDriver(address, { ...options, onStep })));
}
