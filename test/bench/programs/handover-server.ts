// The daemon's hand-over without leases: what descriptors alone cost it.
//   frames: its poll set (src/poll-set.ts and the addon) answers each frame with one of the same length and DESCRIPTORS descriptors: what baselines/scm_server.c does.
//   offers: its channels too: every acknowledged offer is followed by the next.
// Usage: handover-server.js SOCKET frames|offers DESCRIPTORS FRAME_BYTES

import { randomUUID } from "node:crypto";
import type { DescriptorInfo, HandoverChannel, OpenedLease } from "../../../src/broker/ports.js";
import { granted } from "../../../src/broker/refusal.js";
import { OwnedDescriptor } from "../../../src/descriptor.js";
import { Channels } from "../../../src/handover/channels.js";
import { native } from "../../../src/native.js";
import { Processes } from "../../../src/peer/processes.js";
import { listenAt } from "../../../src/peer/socket-path.js";
import { type Accepted, PollSet } from "../../../src/poll-set.js";

const [socket = "", mode = "frames", descriptorCount = "2", frameBytes = "300"] = process.argv.slice(2);

/** The client has gone before its last answer: EPIPE, or EBADF when the poll set has noticed. */
const GONE: readonly number[] = [32, 9];

const fail = (error: unknown): never => {
  process.stderr.write(`${error instanceof Error ? error.stack : String(error)}\n`);
  process.exit(1);
};

const descriptors = Array.from({ length: Number(descriptorCount) }, (_, i) => {
  const made = native.memfdCreate(`region ${i}`, 4096n);
  return made.error === null ? new OwnedDescriptor(made.value, `region ${i}`) : fail(made.error.code);
});
const numbers = descriptors.map((descriptor) => descriptor.borrow());

const listening = listenAt({ path: socket, type: "seqpacket", mode: 0o600, gid: -1 });
if (listening.problem !== null) throw new Error(listening.problem);
const pollSet = new PollSet(fail);
const processes: Processes = new Processes(pollSet, "pidfd", () => undefined);

function answerFrames(accepted: Accepted): void {
  const answer = new Uint8Array(Number(frameBytes));
  const made = pollSet.channel(accepted, {
    frame: () => {
      const errno = pollSet.send(made.value ?? -1, answer, numbers);
      if (errno !== 0 && !GONE.includes(errno)) fail(`sendmsg: errno ${errno}`);
    },
    gone: () => undefined,
  });
  if (made.error) fail(made.error.code);
  native.closeDescriptor(accepted.pidfd);
}

const channels = new Channels({
  pollSet,
  limits: { firstCallMs: 10_000, ackMs: 10_000, descriptorsInFlight: 65_536, descriptorsPerMessage: pollSet.maxDescriptors },
  now: Date.now,
  onRejected: () => undefined,
  onShown: async () => granted(null),
});
const info: DescriptorInfo = { kind: "REGION", scope: "REGION", address: null, region: 0, group: null, offset: 0n, size: 4096n };
const opened: OpenedLease = {
  descriptors: numbers.map((number) => ({ info, borrow: () => number })),
  closeHandedOff: async () => undefined,
  close: async () => undefined,
};

async function offerForEver(channel: HandoverChannel): Promise<void> {
  for (;;) {
    const slot = channel.reserve();
    if (slot.refusal) return;
    const sent = slot.value.offer({ leaseId: randomUUID(), kind: "DEVICE", backend: "SIMULATED", succession: false, opened });
    if (sent.refusal || (await sent.value.done).result !== "ACKNOWLEDGED") return;
  }
}

let added = 0n;

function offerTo(accepted: Accepted): void {
  const identified = processes.identify(accepted);
  if (identified.refusal !== null) {
    fail(identified.refusal);
    return;
  }
  channels.add(accepted, identified.peer, () => undefined);
  // Channels are numbered in the order in which they are added.
  added += 1n;
  const id = added;
  const look = (): void => {
    const channel = channels.channelOf(identified.peer, id);
    if (channel === null) setImmediate(look);
    else void offerForEver(channel);
  };
  look();
}

const listened = pollSet.listen(listening.socket.fd, {
  accepted: mode === "offers" ? offerTo : answerFrames,
  starved: (errno) => fail(`accept: errno ${errno}`),
});
if (listened.error) fail(listened.error.code);
process.stdout.write("READY\n");
process.on("SIGTERM", () => process.exit(0));
