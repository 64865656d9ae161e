import type { Lease, LeaseEvent } from "../../client/index.js";
import type { CommandCall } from "../command.js";
import { EXIT } from "../exit-code.js";
import { renderLeases } from "../lease-view.js";
import { writeList, writeStep } from "../output.js";
import { printable } from "../printable.js";

export async function run(call: CommandCall): Promise<number> {
  if (call.flags.has("watch")) return await watch(call);
  const leases = await call.withClient(async (client) => {
    const found: Lease[] = [];
    for await (const lease of client.leases()) found.push(lease);
    return found;
  });
  await writeList(
    call.terminal,
    call.format,
    leases.map((lease) => ({ value: lease, name: lease.id })),
    () => renderLeases(leases, call.terminal),
  );
  return EXIT.ok.code;
}

async function watch(call: CommandCall): Promise<number> {
  const stop = new AbortController();
  const abort = (): void => stop.abort();
  process.once("SIGINT", abort);
  process.once("SIGTERM", abort);
  await call.withClient(async (client) => {
    for await (const event of client.watchLeases({ signal: stop.signal })) {
      if (call.format === "name" && event.lease === null) continue;
      await writeStep(call.terminal, call.format, { value: event, name: event.lease?.id ?? "" }, () => line(event));
    }
  });
  return EXIT.ok.code;
}

function line({ kind, lease }: LeaseEvent): string {
  const time = new Date().toISOString();
  if (lease === null) return `${time} ${kind}\n`;
  const state = lease.state === "ENDED" ? `ENDED ${lease.endCause}` : lease.state;
  const words = [kind.padEnd(8), lease.id, lease.kind, state, ...lease.devices.map(({ address }) => address), `uid ${lease.holderUid}`];
  return `${time} ${words.map(printable).join(" ")}\n`;
}
