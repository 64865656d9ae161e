// A whole broker on fakes: what the unit tests of the rules start from.

import type { Address } from "../../src/broker/device.js";
import type { FormerBinding, FormerBindings } from "../../src/broker/driver-control.js";
import { Inventory } from "../../src/broker/inventory.js";
import type { AcquireRequest, LeaseView } from "../../src/broker/lease.js";
import { type GrantedLease, Leases } from "../../src/broker/leases.js";
import type { PolicyRule } from "../../src/broker/policy.js";
import type { TicketSource } from "../../src/broker/ports.js";
import { granted, type Outcome } from "../../src/broker/refusal.js";
import { FakeClock } from "./clock.js";
import { FakeHandover, FakePeer } from "./handover.js";
import { FakeHost } from "./host.js";
import { RecordingObserver } from "./observer.js";

export const ANYBODY: PolicyRule = {
  ...{ name: "anybody", uids: null, gids: null, executables: null, cgroups: null, devices: [{ by: "any" }] },
  ...{ kinds: ["DEVICE", "REGION"], modes: ["HAND_OFF", "RETAIN"], delegate: true },
  ...{ allowDeviceScope: false, allowUnreset: false, maxLeases: null, maxDurationMs: null },
};

/** How long a call waits for a device. */
export const CALL_MS = 70_000;
/** How long holders and the kernel get when drivers are changed. */
export const DRIVER_MS = 15_000;
/** From a recall to the end. */
export const GRACE_MS = 30_000;

export interface FakeBroker {
  readonly host: FakeHost;
  readonly clock: FakeClock;
  readonly handover: FakeHandover;
  readonly observer: RecordingObserver;
  readonly inventory: Inventory;
  readonly leases: Leases;
  readonly formerBindings: FakeFormerBindings;
}

/** A file that is always there. */
export class FakeFormerBindings implements FormerBindings {
  kept: readonly FormerBinding[] = [];

  async load(): Promise<readonly FormerBinding[]> {
    return this.kept;
  }

  async save(all: readonly FormerBinding[]): Promise<void> {
    this.kept = all;
  }
}

export async function fakeBroker(
  groups: readonly (readonly number[])[],
  rules: readonly PolicyRule[] = [ANYBODY],
  leasesPerUid = 8,
): Promise<FakeBroker> {
  const host = new FakeHost(groups);
  const clock = new FakeClock();
  const handover = new FakeHandover();
  const observer = new RecordingObserver();
  const inventory = new Inventory(host, clock, observer);
  let next = 0;
  const newId = (): string => {
    next += 1;
    return `00000000-0000-4000-8000-${next.toString(16).padStart(12, "0")}`;
  };
  const limits = {
    leasesPerUid,
    endedMs: 3_600_000,
    endedKept: 16,
    retryMinMs: 1000,
    retryMaxMs: 30_000,
    recallGraceMs: GRACE_MS,
    callMs: CALL_MS,
    driverMs: DRIVER_MS,
  };
  const formerBindings = new FakeFormerBindings();
  const leases = new Leases({
    host,
    inventory,
    handover,
    clock,
    newId,
    ticketSource: countedTickets(),
    observer,
    limits,
    rules,
    operators: [0],
    formerBindings,
  });
  await inventory.refresh();
  await inventory.settled();
  return { host, clock, handover, observer, inventory, leases, formerBindings };
}

/** Tickets 1, 2, 3, ... whose digests are not themselves. */
function countedTickets(): TicketSource {
  let made = 0;
  return {
    make: () => {
      made += 1;
      return Uint8Array.from({ length: 16 }, (_, i) => (i === 0 ? made & 0xff : i === 1 ? made >> 8 : 0xaa));
    },
    digest: (ticket) => `digest of ${Buffer.from(ticket).toString("hex")}`,
  };
}

/** A client with its channel. */
export function client(broker: FakeBroker, processId: number, uid: number): FakePeer {
  const peer = new FakePeer(processId, uid);
  broker.handover.attach(peer);
  return peer;
}

export function wish(address: Address, change: Partial<AcquireRequest> = {}): AcquireRequest {
  const whole = { requestId: "", kind: "DEVICE", mode: "HAND_OFF", channel: 0n, ticket: null, maxDurationMs: null } as const;
  return { ...whole, devices: [{ address, regions: [] }], ...change };
}

/** Acquires and acknowledges. */
export async function hold(
  broker: FakeBroker,
  peer: FakePeer,
  address: Address,
  change: Partial<AcquireRequest> = {},
): Promise<Outcome<LeaseView>> {
  const outcome = leaseOf(await broker.leases.acquire(peer, wish(address, change)));
  if (outcome.refusal === null) broker.handover.channels.get(peer.processId)?.answer({ result: "ACKNOWLEDGED" });
  await settle();
  return outcome;
}

export function leaseOf(outcome: Outcome<GrantedLease>): Outcome<LeaseView> {
  return outcome.refusal ? outcome : granted(outcome.value.lease);
}

/** Lets every promise that can go on go on. */
export async function settle(): Promise<void> {
  for (let i = 0; i < 20; i += 1) await new Promise((resolve) => setImmediate(resolve));
}
