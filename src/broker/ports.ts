// What the broker needs of the world, as interfaces. The broker imports nothing outside its folder; host, peer, handover and telemetry implement these.

import type { Address, BackendName, DeviceFacts, DeviceProbe } from "./device.js";
import type { DriverControl, DriverOutcome } from "./driver-control.js";
import type { NumaNode } from "./facts.js";
import type { Outcome, Refusal } from "./refusal.js";

export type DescriptorKind = "IOMMUFD" | "DEVICE_UNBOUND" | "CONTAINER" | "GROUP" | "DEVICE" | "REGION";
export type Scope = "DEVICE" | "REGION" | "IOMMU";

/** What a client is told of one descriptor; the fields are those of aperture.v1.Descriptor. */
export interface DescriptorInfo {
  readonly kind: DescriptorKind;
  readonly scope: Scope;
  readonly address: Address | null;
  readonly region: number | null;
  readonly group: number | null;
  readonly offset: bigint;
  readonly size: bigint;
}

/** One descriptor of a lease. */
export interface LeaseDescriptor {
  readonly info: DescriptorInfo;
  /** The descriptor's number while the broker's copy is open; throws afterwards. For sending only: never stored. */
  borrow(): number;
}

/** Descriptors opened for one lease. Whoever got it from Host.open owns it. */
export interface OpenedLease {
  readonly descriptors: readonly LeaseDescriptor[];
  /** VF tokens (16 bytes) that the holder shows when it opens the devices itself. For it alone: never for a log. null or left out: no device needs one. */
  readonly vfTokens?: ReadonlyMap<Address, Uint8Array> | null;
  /** Closes the broker's copies of what a HAND_OFF lease gave away (all of a device lease; nothing of a region lease, whose owner the broker stays). */
  closeHandedOff(): Promise<void>;
  /** Closes everything that is still open. Can take as long as a reset. Twice is harmless. */
  close(): Promise<void>;
}

/** A device lease names devices; a region lease names one device and some of its regions. */
export type OpenRequest =
  | { readonly kind: "DEVICE"; readonly addresses: readonly Address[] }
  | { readonly kind: "REGION"; readonly address: Address; readonly regions: readonly number[]; readonly allowDeviceScope: boolean };

/** A device with what is known of it. */
export interface KnownDevice {
  readonly facts: DeviceFacts;
  readonly probe: DeviceProbe;
}

/** The devices are ours again: nobody else has a descriptor or a mapping. Held until close(), so that nobody can slip in before the reset. */
export interface Proof {
  /** VFIO_DEVICE_RESET of each device of the set, its result checked. UNSUPPORTED: at least one has no reset (the others were reset). */
  reset(): Promise<{ readonly result: "DONE" | "UNSUPPORTED" } | { readonly result: "FAILED"; readonly detail: string }>;
  close(): Promise<void>;
}

export type ProofOutcome =
  | { readonly result: "PROVEN"; readonly proof: Proof }
  /** Someone still holds a descriptor or a mapping (EBUSY from the group, EINVAL from BIND). */
  | { readonly result: "STILL_HELD"; readonly detail: string }
  | { readonly result: "GONE" }
  | { readonly result: "FAILED"; readonly detail: string };

export interface HostCapability {
  readonly name: string;
  readonly availability: "AVAILABLE" | "UNAVAILABLE" | "UNKNOWN";
  readonly detail: string;
}

/** What a host has noticed by itself. A hint: whoever is told asks again. */
export type HostChange =
  /** The facts of these devices may be others now. */
  | { readonly kind: "DEVICES"; readonly addresses: readonly Address[] }
  /** Those of any device may: something was lost. */
  | { readonly kind: "ALL" }
  /** Somebody has closed the last copy of a descriptor of the device. */
  | { readonly kind: "CLOSED"; readonly address: Address };

/**
 * The machine. Three implementations: iommufd, legacy, simulated; test/contract holds for all. No call blocks the event loop; operations on one device
 * are done in order.
 */
export interface Host {
  readonly backend: BackendName;
  /** What was asked of the running kernel so far, ordered by name. */
  capabilities(): readonly HostCapability[];
  /** Every PCI function with a type-0 header, ordered by address; with `only`, those of them that are in the machine. Opens nothing. */
  scan(only?: ReadonlySet<Address>): Promise<readonly DeviceFacts[]>;
  /** The NUMA nodes that the last scan of all found, ordered; empty before it, and where the kernel shows none. */
  numaNodes(): readonly NumaNode[];
  /** Calls back on what the host notices from now on; the returned function ends it. Nothing may come for ever: the capability `uevents` tells. */
  changes(listener: (change: HostChange) => void): () => void;
  /**
   * Opens the device, reads everything, closes it: resets the device where it can. Only on devices that nobody holds. Refusals: DEVICE_IN_USE, NO_PERMISSION,
   * DEVICE_REMOVED, GROUP_NOT_VIABLE, HOST_OPERATION_FAILED.
   */
  probe(facts: DeviceFacts): Promise<Outcome<DeviceProbe>>;
  /**
   * Opens fresh descriptors for a lease: all or nothing. The devices' facts and probes are those the broker last saw. Refusals as probe, and
   * REGION_SCOPE_UNAVAILABLE, REGION_NOT_FOUND, DESCRIPTOR_LIMIT.
   */
  open(request: OpenRequest, devices: readonly KnownDevice[]): Promise<Outcome<OpenedLease>>;
  /**
   * Asks the kernel whether the devices are free of all other holders, and takes them for the time of the reset. They are the leased devices of one atomic
   * set (one IOMMU group): on legacy kernels the group opens only once, so they are proven together.
   */
  prove(devices: readonly KnownDevice[]): Promise<ProofOutcome>;
  /** Changes of drivers. They are no operations on an open device: the broker keeps them apart from those. */
  readonly drivers: DriverControl;
  /** Closes what the host itself holds (nothing that belongs to a lease). */
  close(): Promise<void>;
}

/** What a process runs and where: paths, as policy matches them. */
export interface Program {
  readonly executable: string | null;
  readonly cgroup: string | null;
}

/** A process that called, identified at accept; liveness is asked last, before a side effect. */
export interface Peer {
  /** Number of the process in this run of the daemon: never used twice. */
  readonly processId: number;
  readonly pid: number;
  readonly uid: number;
  readonly gid: number;
  /** Supplementary groups at connect time. null: more than are kept (peer/groups.ts). */
  readonly groups: readonly number[] | null;
  /**
   * What the process runs and where, read once in its life, at the first call; a part that cannot be known is null. Asks for the executable's name in the file
   * system only when `named` wants that path. The process may have exited meanwhile: ask isAlive() afterwards.
   */
  program(named: (executable: string) => boolean): Promise<Program>;
  /** False once the process has exited (pidfd). */
  isAlive(): boolean;
  /** Keeps its exit watched (Leases.processExited) although all its connections may close; the returned function ends that, once. */
  watch(): () => void;
}

/** One offer that waits for its acknowledgement. */
export interface Offer {
  readonly leaseId: string;
  readonly kind: "DEVICE" | "REGION";
  readonly backend: BackendName;
  readonly opened: OpenedLease;
  /** The descriptors are those that the holder before has: used already, not fresh. */
  readonly succession: boolean;
}

export type HandoverResult =
  | { readonly result: "ACKNOWLEDGED" }
  /** count: what the client says it received. */
  | { readonly result: "SHORT"; readonly count: number }
  | { readonly result: "NOT_ACKNOWLEDGED"; readonly detail: string };

/** The right to send one offer on a channel: a channel carries at most one that is not acknowledged. */
export interface HandoverSlot {
  /**
   * Sends the offer now. On success `done` settles exactly once: acknowledged, short, or not in time; the slot is free again then. Refusals:
   * HANDOVER_FAILED (the channel is gone or full), DESCRIPTOR_LIMIT (too many for one message, too many in flight, or ETOOMANYREFS). A refused offer sent nothing.
   */
  offer(offer: Offer): Outcome<{ readonly ackDeadline: number; readonly done: Promise<HandoverResult> }>;
  /** Gives the slot back unused. */
  cancel(): void;
}

/** Where a lease's descriptors go: one attached channel of one process. */
export interface HandoverChannel {
  readonly id: bigint;
  /** Refusal HANDOVER_PENDING while another offer is being made or waits for its acknowledgement. */
  reserve(): Outcome<HandoverSlot>;
  /** Settles when that offer is over; null: there is none. */
  busy(): Promise<void> | null;
  /** Tells the client that a lease ended without its own Release, or for it alone (SUCCEEDED). Best effort. */
  ended(leaseId: string, cause: EndCause | "SUCCEEDED"): void;
  /** Asks the client to give a lease back within graceMs. Best effort. */
  recalled(leaseId: string, cause: RecallCause, graceMs: number): void;
}

export interface Handover {
  /** The channel that a process attached: the one named, or (0n) the latest. null: none. */
  channelOf(peer: Peer, channel: bigint): HandoverChannel | null;
}

/** Why a lease ended; the values of aperture.v1.EndCause. */
export type EndCause =
  | "RELEASED"
  | "HOLDER_DIED"
  | "NOT_ACKNOWLEDGED"
  | "SHORT_HANDOVER"
  | "HANDOVER_FAILED"
  | "DEVICE_REMOVED"
  | "TICKET_EXPIRED"
  | "EXPIRED"
  | "SESSION_ENDED"
  | "OPEN_FAILED";

/** Why the daemon asks for a lease back. */
export type RecallCause = Extract<EndCause, "DEVICE_REMOVED" | "EXPIRED">;

/** Time, in milliseconds since the epoch, and timers that tests can turn by hand. */
export interface Clock {
  now(): number;
  /** Calls back once after ms; the returned function cancels. Does not keep the process alive. */
  after(ms: number, callback: () => void): () => void;
}

/** UUIDs from the system's generator. */
export type NewId = () => string;

/** A long operation on the host. */
export type HostOperation = "open" | "probe" | "prove" | "reset" | "scan" | "driver_bind" | "driver_restore" | "virtual_functions";

/** Tickets from the system's generator. */
export interface TicketSource {
  /** 16 random bytes. */
  make(): Uint8Array;
  /** A one-way digest to find a ticket by: how long a look-up takes then tells nothing of the ticket. */
  digest(ticket: Uint8Array): string;
}

/** What happened, for logs and metrics; names are constants so that dashboards and alerts can rely on them. */
export interface Observer {
  leaseStateChanged(leaseId: string, from: string, to: string, event: string): void;
  leaseGranted(leaseId: string, peer: Peer, addresses: readonly Address[], kind: OpenRequest["kind"]): void;
  /** Locked for whoever shows its ticket. */
  leaseReserved(leaseId: string, peer: Peer, addresses: readonly Address[], kind: OpenRequest["kind"]): void;
  leaseRecalled(leaseId: string, cause: RecallCause, graceMs: number): void;
  /** A successor has all descriptors: it is the holder now. */
  leasePassedOn(leaseId: string, from: Peer, to: Peer): void;
  leaseEnded(leaseId: string, cause: EndCause, quarantined: readonly Address[]): void;
  /** refusal null: descriptors were sent for it. */
  ticketShown(peer: Peer, refusal: Refusal | null): void;
  acquireRefused(peer: Peer, refusal: Refusal): void;
  handover(result: HandoverResult["result"] | "SEND_FAILED"): void;
  deviceQuarantined(address: Address, detail: string): void;
  deviceRecovered(address: Address): void;
  /** Devices have other drivers, all that were asked for. */
  driversChanged(peer: Peer, what: "BOUND" | "RESTORED", devices: readonly DriverOutcome[]): void;
  virtualFunctionsSet(peer: Peer, address: Address, count: number): void;
  driverChangeRefused(peer: Peer, refusal: Refusal): void;
  /** The kernel has not finished a change of drivers; its caller has been answered, and the devices stay locked. */
  driverChangeLate(addresses: readonly Address[], detail: string): void;
  /** It has now. */
  driverChangeSettled(addresses: readonly Address[]): void;
  /** A long operation on the host ended. */
  operation(operation: HostOperation, milliseconds: number, ok: boolean): void;
  /** A fault: a bug or an answer the code does not expect. Never thrown away. */
  fault(where: string, error: unknown): void;
}
