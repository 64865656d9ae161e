// One lease and the claims under it, as data. A lease is what a client has; a claim is one atomic set of devices locked for it. When a lease ends, each
// claim goes its own way: free, or quarantined long after the lease is over.

import type { Address, BackendName, Region } from "./device.js";
import type { LeaseState } from "./lease-table.js";
import type { LeaseKind, LeaseMode } from "./policy.js";
import type { DescriptorInfo, EndCause, HandoverChannel, KnownDevice, OpenedLease, Peer, RecallCause } from "./ports.js";
import type { LiveTicket } from "./tickets.js";

/** State of a lease as clients see it. */
export type LeasePhase = "RESERVED" | "OPENING" | "OFFERED" | "HELD" | "RELEASING" | "RESETTING" | "ENDED";

/** For whom a ticket is, and how long. */
export interface TicketOptions {
  /** null: whoever shows it. */
  readonly uid: number | null;
  /** Milliseconds. */
  readonly lifetimeMs: number;
}

export interface DeviceSelection {
  readonly address: Address;
  /** Empty for a device lease. */
  readonly regions: readonly number[];
}

export interface AcquireRequest {
  /** UUID, or empty. */
  readonly requestId: string;
  readonly kind: LeaseKind;
  readonly mode: LeaseMode;
  readonly devices: readonly DeviceSelection[];
  /** 0n: the channel attached last. */
  readonly channel: bigint;
  /** null: for the process that calls. */
  readonly ticket: TicketOptions | null;
  /** Milliseconds until the lease is recalled. null: as long as policy allows. */
  readonly maxDurationMs: number | null;
}

/** What policy granted, for as long as the lease lives. */
export interface LeaseTerms {
  readonly allowDeviceScope: boolean;
  readonly allowUnreset: boolean;
  /** It may pass to another user. */
  readonly mayDelegate: boolean;
  /** Name of the rule; empty when several rules allowed it, one a device. */
  readonly policyRule: string;
  readonly maxDurationMs: number | null;
}

/** A snapshot of a lease for callers. */
export interface LeaseView {
  readonly id: string;
  readonly kind: LeaseKind;
  readonly mode: LeaseMode;
  readonly phase: LeasePhase;
  readonly devices: readonly { readonly address: Address; readonly regions: readonly Region[] }[];
  readonly descriptors: readonly DescriptorInfo[];
  readonly backend: BackendName;
  /** 0: nobody has it yet, and then holderUid is the owner's. */
  readonly holderPid: number;
  readonly holderUid: number;
  readonly ownerUid: number;
  readonly policyRule: string;
  /** Milliseconds since the epoch, as the other times. */
  readonly createTime: number;
  readonly ackDeadline: number | null;
  readonly endTime: number | null;
  /** SUCCEEDED: for a user who may not see the holder that it has passed to; it goes on. */
  readonly endCause: EndCause | "SUCCEEDED" | null;
  readonly quarantined: readonly Address[];
  readonly expireTime: number | null;
  readonly ticketExpireTime: number | null;
  readonly recall: { readonly cause: RecallCause; readonly deadline: number } | null;
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
  /** The lease it was made for, which may be over, and the user who had the devices last. Empty: a change of drivers, which is no lease. */
  readonly leaseId: string;
  uid: number;
  retryDelay: number;
  cancelRetry: (() => void) | null;
  /**
   * Processes that were sent descriptors, by number, with what ends the watch on each. It lasts until the devices are free: a quarantined set is tried again when
   * one of them exits.
   */
  readonly watched: Map<number, () => void>;
}

/** The leases, by id, that end together when a session does. */
export interface LeaseSession {
  readonly leases: Set<string>;
  over: boolean;
}

/** What is settled of a lease when it is made. */
export type NewLease = Pick<
  Lease,
  "id" | "kind" | "mode" | "owner" | "terms" | "requestKey" | "session" | "devices" | "claims" | "createTime" | "expireTime" | "delegated"
>;

/** A class, so that all of them have one shape; made as one that nobody holds yet. */
export class Lease {
  readonly id: string;
  readonly kind: LeaseKind;
  readonly mode: LeaseMode;
  /** Who acquired it: its user's quota is charged. */
  readonly owner: Peer;
  readonly terms: LeaseTerms;
  /** Key in the memory of request ids; null when the client gave none. */
  readonly requestKey: string | null;
  /** It leaves this when it ends. */
  readonly session: LeaseSession | null;
  readonly devices: LeaseView["devices"];
  readonly claims: readonly Claim[];
  readonly createTime: number;
  readonly expireTime: number | null;
  /** Made with a ticket: its owner was answered before anything was opened. */
  readonly delegated: boolean;
  /** Whose exit ends it, and its channel. null: RESERVED. */
  holder: Peer | null = null;
  channel: HandoverChannel | null = null;
  /** The holder has exited, and a successor is awaited. */
  orphaned = false;
  /** The ticket that is out for it. */
  ticket: LiveTicket | null = null;
  /** Has been sent the descriptors of a HELD lease, and has not acknowledged them yet. */
  successor: { readonly peer: Peer; readonly channel: HandoverChannel } | null = null;
  /** Cancels the timer of expireTime. */
  cancelExpiry: (() => void) | null = null;
  recall: { readonly cause: RecallCause; readonly deadline: number; readonly cancel: () => void } | null = null;
  /** Owned until closed; null before and after. */
  opened: OpenedLease | null = null;
  descriptors: readonly DescriptorInfo[] = [];
  /** Not in its view: for the holder alone (Leases.vfTokens). */
  vfTokens: ReadonlyMap<Address, Uint8Array> | null = null;
  ackDeadline: number | null = null;
  /** END or REMOVED came while opening. */
  doomed: EndCause | null = null;
  endCause: EndCause | null = null;
  endTime: number | null = null;
  quarantined: readonly Address[] = [];
  /** Settles when the lease has ENDED. */
  readonly ended: Promise<void>;
  markEnded: () => void = () => {};

  constructor(made: NewLease) {
    this.id = made.id;
    this.kind = made.kind;
    this.mode = made.mode;
    this.owner = made.owner;
    this.terms = made.terms;
    this.requestKey = made.requestKey;
    this.session = made.session;
    this.devices = made.devices;
    this.claims = made.claims;
    this.createTime = made.createTime;
    this.expireTime = made.expireTime;
    this.delegated = made.delegated;
    this.ended = new Promise((resolve) => {
      this.markEnded = resolve;
    });
  }
}

/** The process is about to be sent descriptors of the lease: from now on its exit is of interest. */
export function watchProcess(lease: Lease, peer: Peer): void {
  for (const claim of lease.claims) if (!claim.watched.has(peer.processId)) claim.watched.set(peer.processId, peer.watch());
}

/** The phase follows from the claims: while it lives they move together; when it ends the slowest counts. */
export function leasePhase(lease: Lease): LeasePhase {
  if (lease.endTime !== null) return "ENDED";
  for (const phase of PHASES) for (const claim of lease.claims) if (claim.state === phase) return phase;
  return "RESETTING";
}

const PHASES = ["RESERVED", "OPENING", "OFFERED", "HELD", "RELEASING", "RESETTING"] as const;
