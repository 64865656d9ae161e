import { once } from "node:events";
import type { HeldLease, LeaseEnd } from "../../client/index.js";
import type { CommandCall } from "../command.js";
import { EXIT } from "../exit-code.js";
import { endedByItself, withLease } from "../lease-session.js";
import { type NumberedDescriptor, renderDescriptors } from "../lease-view.js";
import { writeOne } from "../output.js";

export async function run(call: CommandCall): Promise<number> {
  return await withLease(call, async (lease) => {
    // Whoever has read the lease may signal at once.
    const interrupted = Promise.race([once(process, "SIGINT"), once(process, "SIGTERM")]);
    await show(call, lease);
    call.terminal.message(`holding lease ${lease.id} in process ${process.pid}; Ctrl-C or SIGTERM gives it back`);
    const end = await Promise.race([interrupted.then(() => null), lease.ended]);
    return end === null ? EXIT.ok.code : endedEarly(call, lease, end);
  });
}

async function show(call: CommandCall, lease: HeldLease): Promise<void> {
  const descriptors: NumberedDescriptor[] = lease.descriptors.map(({ info, descriptor }) => ({ fd: descriptor.borrow(), ...info }));
  const { id, kind, backend, devices } = lease;
  await writeOne(call.terminal, call.format, { value: { id, kind, backend, holderPid: process.pid, devices, descriptors }, name: id }, () =>
    renderDescriptors(descriptors, call.terminal),
  );
}

function endedEarly(call: CommandCall, lease: HeldLease, { cause }: LeaseEnd): number {
  call.terminal.message(`aperturectl: ${endedByItself(lease, cause)}`, "red");
  return cause === "CHANNEL_CLOSED" ? EXIT.unavailable.code : EXIT.conflict.code;
}
