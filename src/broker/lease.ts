// One lease and the claims under it, as data. A lease is what a client has; a claim is one atomic set of devices locked for it. When a lease ends, each
// claim goes its own way: free, or quarantined long after the lease is over.

import type { Address, BackendName, Region } from "./device.js";
import type { LeaseState } from "./lease-table.js";
import type { LeaseKind } from "./policy.js";
import type { DescriptorInfo, EndCause, HandoverChannel, KnownDevice, OpenedLease, Peer } from "./ports.js";

/** State of a lease as clients see it. */
export type LeasePhase = "OPENING" | "OFFERED" | "HELD" | "RELEASING" | "RESETTING" | "ENDED";

export interface DeviceSelection {
  readonly address: Address;
  /** Empty for a device lease. */
  readonly regions: readonly number[];
}

export interface AcquireRequest {
  /** UUID, or empty. */
  readonly requestId: string;
  readonly kind: LeaseKind;
  readonly devices: readonly DeviceSelection[];
  /** 0n: the channel attached last. */
  readonly channel: bigint;
}

/** A snapshot of a lease for callers. */
export interface LeaseView {
  readonly id: string;
  readonly kind: LeaseKind;
  readonly phase: LeasePhase;
  readonly devices: readonly { readonly address: Address; readonly regions: readonly Region[] }[];
  readonly descriptors: readonly DescriptorInfo[];
  readonly backend: BackendName;
  readonly holderPid: number;
  readonly holderUid: number;
  /** Milliseconds since the epoch, as the other times. */
  readonly createTime: number;
  readonly ackDeadline: number | null;
  readonly endTime: number | null;
  readonly endCause: EndCause | null;
  readonly quarantined: readonly Address[];
}

/** One atomic set, locked. */
export interface Claim {
  /** Every device of the set, leased or not; grows when a device joins the set (Book.adopt). */
  members: readonly Address[];
  /** Those that the lease names, with what was known of them when it was made. */
  readonly leased: readonly KnownDevice[];
  state: LeaseState;
  /** Words on QUARANTINED. */
  detail: string;
  /** The lease it was made for, which may be over, and its user. */
  readonly leaseId: string;
  readonly uid: number;
  retryDelay: number;
  cancelRetry: (() => void) | null;
  /** Ends the watch on the holder's process, which lasts until the devices are free: a quarantined set is tried again when it exits. */
  readonly unwatch: () => void;
}

export interface Lease {
  readonly id: string;
  readonly kind: LeaseKind;
  readonly peer: Peer;
  readonly channel: HandoverChannel;
  /** Key in the memory of request ids; null when the client gave none. */
  readonly requestKey: string | null;
  readonly devices: LeaseView["devices"];
  readonly claims: readonly Claim[];
  readonly createTime: number;
  /** Owned until closed; null before and after. */
  opened: OpenedLease | null;
  descriptors: readonly DescriptorInfo[];
  ackDeadline: number | null;
  /** END or REMOVED came while opening. */
  doomed: EndCause | null;
  endCause: EndCause | null;
  endTime: number | null;
  quarantined: readonly Address[];
  /** Settles when the lease has ENDED. */
  readonly ended: Promise<void>;
  readonly markEnded: () => void;
}

/** The phase follows from the claims: while it lives they move together; when it ends the slowest counts. */
export function leasePhase(lease: Lease): LeasePhase {
  if (lease.endTime !== null) return "ENDED";
  const states = lease.claims.map((claim) => claim.state);
  for (const state of ["OPENING", "OFFERED", "HELD", "RELEASING", "RESETTING"] as const) if (states.includes(state)) return state;
  return "RESETTING";
}
