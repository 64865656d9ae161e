import type { Lease } from "../../client/index.js";
import type { CommandCall } from "../command.js";
import { EXIT } from "../exit-code.js";
import { renderLeases } from "../lease-view.js";
import { writeList } from "../output.js";

export async function run(call: CommandCall): Promise<number> {
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
