import type { DeviceEvent } from "../../client/index.js";
import type { CommandCall } from "../command.js";
import { ids } from "../device-facts.js";
import { leasability } from "../device-state.js";
import { EXIT } from "../exit-code.js";
import { writeStep } from "../output.js";
import { printable } from "../printable.js";

export async function run(call: CommandCall): Promise<number> {
  const stop = new AbortController();
  const abort = (): void => stop.abort();
  process.once("SIGINT", abort);
  process.once("SIGTERM", abort);
  await call.withClient(async (client) => {
    for await (const event of client.watch({ addresses: call.operands }, { signal: stop.signal })) {
      // A name for "the list is complete" would be taken for an address.
      if (call.format === "name" && event.device === null) continue;
      await writeStep(call.terminal, call.format, { value: event, name: event.device?.address ?? "" }, () => line(event));
    }
  });
  return EXIT.ok.code;
}

function line(event: DeviceEvent): string {
  const { device } = event;
  const time = new Date().toISOString();
  if (device === null) return `${time} ${event.kind}\n`;
  const cell = leasability(device);
  const words = [
    event.kind.padEnd(8),
    device.address,
    ids(device),
    device.driver || "-",
    device.state,
    typeof cell === "string" ? cell : cell.text,
  ];
  return `${time} ${words.map(printable).join(" ")}\n`;
}
