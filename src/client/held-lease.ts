// A lease that this process holds: its descriptors, and the ways to use and to end it.

import type { OwnedDescriptor } from "../descriptor.js";
import { native, type VfioRegionInfo } from "../native.js";
import { unwrap } from "./errors.js";
import type { FrameRecallCause } from "./frame.js";
import { type LeasedDescriptor, LeasedDeviceAccess } from "./leased-device.js";
import type { Backend, DescriptorKind, EndCause, Lease, LeasedDevice, LeaseKind, Region } from "./model.js";
import type { RegionMapping } from "./region-mapping.js";
import type { TicketOptions } from "./requests.js";
import type { VmmArguments } from "./vmm.js";

/**
 * Why a lease is over for this process. CHANNEL_CLOSED: the descriptor channel ended (the daemon stopped or restarted), so nobody will tell this process
 * about the lease any more; whether the daemon still has it is told by ApertureClient.lease.
 */
export interface LeaseEnd {
  readonly cause: EndCause | "CHANNEL_CLOSED";
}

/** The daemon asks for the lease: stop using it, close and release, before the deadline. */
export interface Recalled {
  readonly cause: FrameRecallCause;
  /** When the daemon ends the lease by itself. */
  readonly deadline: Date;
}

/** A lease and the ticket for it: 16 bytes to give to one other process over a way that nobody else can read. */
export interface LeaseTicket {
  readonly lease: Lease;
  readonly ticket: Uint8Array;
  /** When they were asked for (LeaseTerms.vmm). */
  readonly vmmArguments?: VmmArguments;
}

/** What a held lease asks of its client. */
export interface LeaseCalls {
  lease(leaseId: string): Promise<Lease>;
  release(leaseId: string, timeoutMs: number | undefined): Promise<Lease>;
  nameSuccessor(leaseId: string, ticket: TicketOptions): Promise<LeaseTicket>;
}

/**
 * Made by ApertureClient.acquire. It owns the descriptors. The lease lives until release() or until this process exits, also when the
 * connection to the daemon is lost.
 *
 * A device of kind DEVICE_UNBOUND is not bound to the lease's iommufd when it arrives, because binding is final for a descriptor and a VMM that is
 * given it must bind it itself. bind(), and map, read, write and regionInfo on first use, bind it for this process: afterwards no
 * VMM can use that descriptor.
 */
export class HeldLease {
  /** UUID. */
  readonly id: string;
  readonly kind: LeaseKind;
  readonly backend: Backend;
  /** What the driver said of the devices before the lease, in the order of the request. */
  readonly devices: readonly LeasedDevice[];
  /** In the order in which they were sent. */
  readonly descriptors: readonly LeasedDescriptor[];
  /**
   * Settles when the lease ends: by release(), by the daemon (device removed, daemon stopping, ...), or with the channel. Never rejects.
   * The descriptors stay usable after an end that was not asked for; close them, or the device stays in quarantine.
   */
  readonly ended: Promise<LeaseEnd>;

  /** Settles when the daemon asks for the lease back; never otherwise. Never rejects. A second recall, with an earlier deadline, is told by onRecalled only. */
  readonly recalled: Promise<Recalled>;
  /** True: the descriptors came from a holder before, in use already. On iommufd they are bound: neither bind nor give them to a VMM that would. */
  readonly succeeded: boolean;
  /** What the VMM is started with, when it was asked for (LeaseTerms.vmm). */
  readonly vmmArguments: VmmArguments | null;

  readonly #devices: ReadonlyMap<string, LeasedDeviceAccess>;
  readonly #calls: LeaseCalls;
  readonly #recallListeners = new Set<(recalled: Recalled) => void>();
  #settleRecalled: (recalled: Recalled) => void = () => undefined;
  #settleEnded: (end: LeaseEnd) => void = () => undefined;
  #closing: Promise<void> | null = null;
  #released: Promise<Lease> | null = null;

  /** Takes ownership of the descriptors. */
  constructor(
    lease: Lease,
    descriptors: readonly OwnedDescriptor[],
    calls: LeaseCalls,
    succeeded: boolean,
    vmmArguments: VmmArguments | null = null,
  ) {
    this.id = lease.id;
    this.kind = lease.kind;
    this.backend = lease.backend;
    this.devices = lease.devices;
    this.descriptors = lease.descriptors.flatMap((info, index) => {
      const descriptor = descriptors[index];
      return descriptor === undefined ? [] : [{ info, descriptor }];
    });
    this.#devices = new Map(lease.devices.map((device) => [device.address, new LeasedDeviceAccess(device, this.descriptors, succeeded)]));
    this.#calls = calls;
    this.succeeded = succeeded;
    this.vmmArguments = vmmArguments;
    this.recalled = new Promise((resolve) => {
      this.#settleRecalled = resolve;
    });
    this.ended = new Promise((resolve) => {
      this.#settleEnded = resolve;
    });
  }

  /**
   * The one descriptor of a kind, of a device where the kind has one. number: region index for REGION, group number for GROUP.
   * Throws RangeError when the lease has none or several of that description.
   */
  descriptor(kind: DescriptorKind, address: string | null = null, number: number | null = null): OwnedDescriptor {
    const matching = this.descriptors.filter(
      ({ info }) =>
        info.kind === kind &&
        (address === null || info.address === address) &&
        (number === null || info.region === number || info.group === number),
    );
    const [only] = matching;
    if (only !== undefined && matching.length === 1) return only.descriptor;
    const have = this.descriptors.map(({ info }) => info.kind).join(", ");
    throw new RangeError(
      `the lease has ${matching.length} descriptors of kind ${kind}${address === null ? "" : ` of ${address}`}; it holds ${have}`,
    );
  }

  /** All regions of a device for a device lease, the leased ones for a region lease. Throws RangeError for a device of another lease. */
  regions(address: string): readonly Region[] {
    const device = this.devices.find((candidate) => candidate.address === address);
    if (device === undefined) throw this.#unknown(address);
    return device.regions;
  }

  /**
   * Binds the device to the lease's iommufd (VFIO_DEVICE_BIND_IOMMUFD); once, for good. Nothing happens on back ends whose descriptors
   * come ready. The kernel resets the device meanwhile: this can take seconds. Throws SystemCallError.
   */
  async bind(address: string): Promise<void> {
    await this.#access(address).bind();
  }

  /**
   * Maps a region: its areas MAP_SHARED in a reservation of its padded size, the tail without access. write false maps read-only. Binds on first use.
   * Throws SystemCallError, RangeError for a region that the lease has not or that cannot be mapped.
   */
  async map(address: string, region: number, options: { readonly write: boolean }): Promise<RegionMapping> {
    return await this.#access(address).map(region, options.write);
  }

  /**
   * Reads length bytes (at most 64 MiB) at offset of a region, by pread. The tail reads 0xFF. Binds on first use.
   * Throws SystemCallError, RangeError beyond the region's padded size.
   */
  async read(address: string, region: number, offset: bigint, length: number): Promise<Uint8Array> {
    return await this.#access(address).read(region, offset, length);
  }

  /** Writes at offset of a region, by pwrite; bytes that fall into the tail are dropped. Binds on first use. Errors as read. */
  async write(address: string, region: number, offset: bigint, data: Uint8Array): Promise<void> {
    await this.#access(address).write(region, offset, data);
  }

  /** Asks the driver itself (VFIO_DEVICE_GET_REGION_INFO); not on the simulated host, which has no driver. Binds on first use. Throws SystemCallError. */
  async regionInfo(address: string, region: number): Promise<VfioRegionInfo> {
    return await this.#access(address).regionInfo(region);
  }

  /**
   * Closes this process's descriptors and keeps the lease: for a parent that has given them to a child. Mappings stay usable. Can take as
   * long as a device reset; every call waits for the end of it. Throws SystemCallError, after having closed all.
   */
  closeDescriptors(): Promise<void> {
    this.#closing ??= this.#closeDescriptors();
    return this.#closing;
  }

  /**
   * Closes mappings and descriptors, then ends the lease; answers with the ended lease, whose `quarantined` names devices that did not come
   * free. Default timeout 60 s, because the daemon resets the devices first. Twice is harmless, after a failure it tries again. Throws ApertureError, SystemCallError: what
   * this process held is closed in any case. A lease that has passed to a successor goes on: it is answered as it is.
   */
  release(options: { readonly timeoutMs?: number } = {}): Promise<Lease> {
    this.#released ??= this.#release(options.timeoutMs).catch((error: unknown) => {
      this.#released = null;
      throw error;
    });
    return this.#released;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.release();
  }

  /** Calls back on every recall; the returned function ends that. */
  onRecalled(listener: (recalled: Recalled) => void): () => void {
    this.#recallListeners.add(listener);
    return () => this.#recallListeners.delete(listener);
  }

  /**
   * A ticket with which another process takes this lease over (mode RETAIN): give it to that process, which calls showTicket. When it has the descriptors, `ended` settles here
   * with SUCCEEDED; until then nothing changes, and this process may exit. Throws ApertureError LEASE_NOT_RETAINED, LEASE_NOT_HELD, POLICY_DENIED.
   */
  nameSuccessor(ticket: TicketOptions = {}): Promise<LeaseTicket> {
    return this.#calls.nameSuccessor(this.id, ticket);
  }

  /** For the client that made this lease: the daemon asks for it. */
  markRecalled(recalled: Recalled): void {
    this.#settleRecalled(recalled);
    for (const listener of this.#recallListeners) listener(recalled);
  }

  /** For the client that made this lease: the daemon or the channel ended it. */
  markEnded(end: LeaseEnd): void {
    this.#settleEnded(end);
  }

  async #closeDescriptors(): Promise<void> {
    const results = await Promise.allSettled([...this.#devices.values()].map((device) => device.closeDescriptors()));
    // The IOMMU context goes last: closing it while a device is in it would leave the device without one.
    const queue = new native.BlockingQueue(`lease ${this.id}`);
    const shared = this.descriptors.filter(({ descriptor }) => descriptor.isOpen);
    const closed = await Promise.all(shared.map(({ descriptor }) => queue.close(descriptor.take())));
    await queue.finish();
    for (const result of results) if (result.status === "rejected") throw result.reason;
    for (const result of closed) unwrap(result);
  }

  async #release(timeoutMs: number | undefined): Promise<Lease> {
    const mappings = await Promise.allSettled([...this.#devices.values()].map((device) => device.closeMappings()));
    const [descriptors] = await Promise.allSettled([this.closeDescriptors()]);
    // A race that a lease which has ended already wins. One that a successor has is the successor's: this process only lets go of it.
    const end = await Promise.race([this.ended, null]);
    const passedOn = end?.cause === "SUCCEEDED";
    const lease = passedOn ? await this.#calls.lease(this.id) : await this.#calls.release(this.id, timeoutMs);
    if (!passedOn) this.markEnded({ cause: lease.endCause });
    for (const result of [...mappings, descriptors]) if (result.status === "rejected") throw result.reason;
    return lease;
  }

  #access(address: string): LeasedDeviceAccess {
    const device = this.#devices.get(address);
    if (device === undefined) throw this.#unknown(address);
    return device;
  }

  #unknown(address: string): RangeError {
    return new RangeError(`device ${address} is not in this lease; it has ${this.devices.map((device) => device.address).join(", ")}`);
  }
}
