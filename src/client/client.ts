// The way in: connect() gives a client, the client gives devices, leases and events.

import { randomUUID } from "node:crypto";
import { resolve } from "node:path";
import { decodeDevice, decodeHostInfo, decodeLease } from "./decode.js";
import { type BindDriverOptions, changeDriver, type DriverOptions, type DriverOutcome } from "./driver.js";
import { GrpcCalls, required } from "./grpc-calls.js";
import type { HeldLease, LeaseTicket } from "./held-lease.js";
import type { AcquireOptions, LeaseAcquirer } from "./lease-acquirer.js";
import type { LeaseSession } from "./lease-session.js";
import type { Device, DeviceEvent, DeviceFilter, HostInfo, Lease, LeaseEvent } from "./model.js";
import {
  decodePolicyAnswer,
  decodeReload,
  decodeRescan,
  encodeQuestion,
  type PolicyAnswer,
  type PolicyQuestion,
  type ReloadAnswer,
  type RescanAnswer,
} from "./operator.js";
import { protoFiles } from "./proto-files.js";
import { type AcquireTarget, encodeAcquire, encodeFilter, type TicketOptions } from "./requests.js";
import { defaultSocketPath } from "./socket-path.js";
import { MOST_SPIN_MICROSECONDS } from "./spin.js";
import { decodeVmmArguments, encodeGetArguments, type VmmArguments, type VmmDevices, type VmmOptions } from "./vmm.js";
import { watchDevices, watchLeases } from "./watch.js";

const CALL_TIMEOUT_MS = 10_000;
const SLOW_CALL_TIMEOUT_MS = 60_000;
const PAGE_SIZE = 100;

export interface ConnectOptions {
  /** Path of the daemon's gRPC socket. Default: APERTURE_SOCKET, else the system's daemon, else this user's. */
  readonly socket?: string;
  /** Milliseconds for each call that has no timeout of its own. Default 10,000. */
  readonly timeoutMs?: number;
  /**
   * Microseconds, 0 to 10,000, for which an acquisition waits with the processor awake before it sleeps. Saves what
   * waking takes, where that is long (docs/BENCHMARKS.md has what it came to), and costs that much processor time at most. Default 0.
   */
  readonly spinMicroseconds?: number;
}

/** Connects to the daemon and asks who it is. Throws ApertureConnectionError when there is none, with what to do about it; RangeError for an option outside its bounds. */
export async function connect(options: ConnectOptions = {}): Promise<ApertureClient> {
  const { spinMicroseconds = 0 } = options;
  if (!(spinMicroseconds >= 0 && spinMicroseconds <= MOST_SPIN_MICROSECONDS)) {
    throw new RangeError(`spinMicroseconds: ${spinMicroseconds} is outside 0 to ${MOST_SPIN_MICROSECONDS}`);
  }
  const calls = await GrpcCalls.open(options.socket === undefined ? defaultSocketPath() : resolve(options.socket));
  const timeoutMs = options.timeoutMs ?? CALL_TIMEOUT_MS;
  try {
    return new ApertureClient(calls, { timeoutMs, spinMicroseconds }, await askHost(calls, timeoutMs));
  } catch (error) {
    calls.close();
    throw error;
  }
}

async function askHost(calls: GrpcCalls, timeoutMs: number): Promise<HostInfo> {
  return decodeHostInfo(await calls.call(protoFiles().aperture.v1.HostService.service.GetHostInfo, {}, timeoutMs));
}

/**
 * A connection to one daemon. Every method throws ApertureError (the daemon refused: `reason` is one of docs/REASONS.md) or ApertureConnectionError
 * (it is not there). The connection alone does not keep the process alive; a descriptor channel, opened by the first acquire, does until close().
 */
export class ApertureClient {
  /** What the daemon said of itself when this client connected; hostInfo() asks again. */
  readonly host: HostInfo;
  readonly #calls: GrpcCalls;
  readonly #timeoutMs: number;
  readonly #spinMicroseconds: number;
  #acquirer: Promise<LeaseAcquirer> | null = null;

  /** Use connect(). */
  constructor(calls: GrpcCalls, options: { readonly timeoutMs: number; readonly spinMicroseconds: number }, host: HostInfo) {
    this.#calls = calls;
    this.#timeoutMs = options.timeoutMs;
    this.#spinMicroseconds = options.spinMicroseconds;
    this.host = host;
  }

  /** Path of the daemon's gRPC socket. */
  get socketPath(): string {
    return this.#calls.socketPath;
  }

  /** What the daemon probed and which limits it enforces. */
  hostInfo(): Promise<HostInfo> {
    return askHost(this.#calls, this.#timeoutMs);
  }

  /**
   * What policy would answer to a lease, and why; asks for nothing else. The operator may ask about anybody, every other process about its own uid. Throws
   * ApertureError NOT_OPERATOR, DEVICE_NOT_FOUND, INVALID_FIELD.
   */
  async testPolicy(question: PolicyQuestion): Promise<PolicyAnswer> {
    const { HostService } = protoFiles().aperture.v1;
    return decodePolicyAnswer(await this.#calls.call(HostService.service.TestPolicy, encodeQuestion(question), this.#timeoutMs));
  }

  /** Makes the daemon read its configuration again; a mistake in it is an answer (`applied` false), no error. Throws ApertureError NOT_OPERATOR. */
  async reloadConfig(): Promise<ReloadAnswer> {
    return decodeReload(await this.#calls.call(protoFiles().aperture.v1.HostService.service.ReloadConfig, {}, this.#timeoutMs));
  }

  /** Makes the daemon look at the machine's devices now. Throws ApertureError NOT_OPERATOR. */
  async rescan(): Promise<RescanAnswer> {
    return decodeRescan(await this.#calls.call(protoFiles().aperture.v1.HostService.service.Rescan, {}, this.#timeoutMs));
  }

  /**
   * Gives a device to a VFIO driver; with wholeGroup all of its IOMMU group. Resolves when it can be leased. Has no timeout of its own: the daemon's limits.driver_ms holds for each
   * device. Throws ApertureError NOT_OPERATOR, GROUP_CONSENT_REQUIRED, DRIVER_BUSY, DEVICE_BUSY and others of docs/REASONS.md: then every device has what it had before, or
   * the message says which has not.
   */
  async bindDriver(address: string, options: BindDriverOptions = {}): Promise<readonly DriverOutcome[]> {
    const { DriverService } = protoFiles().aperture.v1;
    const request = { address, driver: options.driver ?? "", wholeGroup: options.wholeGroup ?? false };
    return await changeDriver(this.#calls, DriverService.service.BindDriver, request, options);
  }

  /** Gives a device back to what it had before bindDriver. Throws ApertureError as bindDriver, and NO_FORMER_DRIVER. */
  async restoreDriver(address: string, options: DriverOptions = {}): Promise<readonly DriverOutcome[]> {
    return await changeDriver(this.#calls, protoFiles().aperture.v1.DriverService.service.RestoreDriver, { address }, options);
  }

  /**
   * Makes so many virtual functions of a physical one, without drivers, or destroys them (0). Their addresses. Default timeout 60 s. Throws ApertureError NOT_OPERATOR,
   * NO_VIRTUAL_FUNCTIONS, VIRTUAL_FUNCTIONS_EXIST, DEVICE_BUSY, DRIVER_BUSY.
   */
  async setVirtualFunctions(address: string, count: number, options: { readonly timeoutMs?: number } = {}): Promise<readonly string[]> {
    const { DriverService } = protoFiles().aperture.v1;
    const answer = await this.#calls.call(
      DriverService.service.SetVirtualFunctions,
      { address, count },
      options.timeoutMs ?? SLOW_CALL_TIMEOUT_MS,
    );
    return answer.addresses;
  }

  /** Devices ordered by address, fetched page by page while the caller iterates. */
  async *devices(filter: DeviceFilter = {}): AsyncGenerator<Device, void, undefined> {
    const { DeviceService } = protoFiles().aperture.v1;
    let pageToken = "";
    do {
      const request = { pageSize: PAGE_SIZE, pageToken, filter: encodeFilter(filter) };
      const page = await this.#calls.call(DeviceService.service.ListDevices, request, this.#timeoutMs);
      yield* page.devices.map(decodeDevice);
      pageToken = page.nextPageToken;
    } while (pageToken !== "");
  }

  /** One device. Throws ApertureError DEVICE_NOT_FOUND, MALFORMED_ADDRESS. */
  async device(address: string): Promise<Device> {
    const answer = await this.#calls.call(protoFiles().aperture.v1.DeviceService.service.GetDevice, { address }, this.#timeoutMs);
    return decodeDevice(required(answer.device, "device"));
  }

  /**
   * What a VMM is started with to have these devices: arguments, or parts of its configuration. Takes nothing. Throws ApertureError VMM_NEEDS_IOMMUFD, BAR_NOT_POWER_OF_TWO,
   * DEVICE_NOT_FOUND, DEVICE_NOT_PROBED, LEASE_NOT_FOUND, INVALID_FIELD.
   */
  async vmmArguments(options: VmmOptions, devices: VmmDevices): Promise<VmmArguments> {
    const { service } = protoFiles().aperture.v1.VmmService;
    const answer = await this.#calls.call(service.GetArguments, encodeGetArguments(options, devices), this.#timeoutMs);
    return decodeVmmArguments(required(answer.arguments, "arguments"));
  }

  /**
   * SNAPSHOT of every device, one SYNCED, then CHANGED and REMOVED as they happen. Ends when the signal aborts or the caller leaves the loop; throws
   * when the daemon goes away. A caller that is slow gets the last state of each device, not every state between.
   */
  watch(filter: DeviceFilter = {}, options: { readonly signal?: AbortSignal } = {}): AsyncGenerator<DeviceEvent, void, undefined> {
    return watchDevices(this.#calls, filter, options.signal);
  }

  /** Leases of this user that have not ended, oldest first; the operator sees all. */
  async *leases(): AsyncGenerator<Lease, void, undefined> {
    const { LeaseService } = protoFiles().aperture.v1;
    let pageToken = "";
    do {
      const request = { pageSize: PAGE_SIZE, pageToken };
      const page = await this.#calls.call(LeaseService.service.ListLeases, request, this.#timeoutMs);
      yield* page.leases.map(decodeLease);
      pageToken = page.nextPageToken;
    } while (pageToken !== "");
  }

  /** One lease; an ended one is remembered for an hour. Throws ApertureError LEASE_NOT_FOUND, also for a lease of somebody else. */
  async lease(leaseId: string): Promise<Lease> {
    const answer = await this.#calls.call(protoFiles().aperture.v1.LeaseService.service.GetLease, { leaseId }, this.#timeoutMs);
    return decodeLease(required(answer.lease, "lease"));
  }

  /**
   * Leases devices or regions: all or none. Descriptors are close-on-exec. Calls of one client wait for each other. Throws ApertureError
   * (DEVICE_BUSY, POLICY_DENIED, LEASE_QUOTA, ...), HandoverError, SystemCallError, RangeError for a target that names nothing; on every error all descriptors
   * that arrived are closed and the lease is undone.
   */
  async acquire(target: AcquireTarget, options: AcquireOptions = {}): Promise<HeldLease> {
    return await (await this.#leaseAcquirer()).acquire(target, options);
  }

  /**
   * Locks devices for another process, which takes them by showing the ticket (showTicket, or frame SHOW of docs/PROTOCOL.md). Nothing is opened, and this process may exit.
   * Throws ApertureError as acquire.
   */
  async reserve(target: AcquireTarget, ticket: TicketOptions = {}, options: AcquireOptions = {}): Promise<LeaseTicket> {
    const request = encodeAcquire(target, options.requestId ?? randomUUID(), 0n, options, ticket);
    const { service } = protoFiles().aperture.v1.LeaseService;
    const answer = await this.#calls.call(service.AcquireLease, request, options.timeoutMs ?? this.#timeoutMs);
    const made = answer.arguments === null ? {} : { vmmArguments: decodeVmmArguments(answer.arguments) };
    return { lease: decodeLease(required(answer.lease, "lease")), ticket: answer.ticket, ...made };
  }

  /**
   * Takes the lease of a ticket that another process got for this one (reserve, nameSuccessor). Works once. Throws HandoverError TICKET_EXPIRED, TICKET_USED, TICKET_OTHER_USER,
   * TICKET_UNKNOWN (the daemon closes the channel too: held leases go on), why the devices could not be opened; RangeError when it is not 16 bytes.
   */
  async showTicket(ticket: Uint8Array, options: { readonly timeoutMs?: number } = {}): Promise<HeldLease> {
    return await (await this.#leaseAcquirer()).showTicket(ticket, options.timeoutMs);
  }

  /** See HeldLease.nameSuccessor; also for a lease that another process of this user holds. */
  async nameSuccessor(leaseId: string, ticket: TicketOptions = {}): Promise<LeaseTicket> {
    return await (await this.#leaseAcquirer()).nameSuccessor(leaseId, ticket, this.#timeoutMs);
  }

  /** One stream for many calls, for clients that lease often. endLeases: leases acquired on it end with it. */
  async session(options: { readonly endLeases?: boolean } = {}): Promise<LeaseSession> {
    const { LeaseSession } = await import("./lease-session.js");
    return new LeaseSession(this.#calls, await this.#leaseAcquirer(), options.endLeases ?? false);
  }

  /**
   * SNAPSHOT of every lease that this user may see, one SYNCED, then CHANGED and ENDED as they happen; as watch() otherwise. A caller that is slow gets the last state of each
   * lease, and the end of every one that it was told of.
   */
  watchLeases(options: { readonly signal?: AbortSignal } = {}): AsyncGenerator<LeaseEvent, void, undefined> {
    return watchLeases(this.#calls, options.signal);
  }

  /**
   * Ends a lease by its id, also one that another process of this user holds (HeldLease.release is the way for one's own: it closes the descriptors first).
   * Default timeout 60 s. Throws ApertureError LEASE_NOT_FOUND.
   */
  async release(leaseId: string, options: { readonly timeoutMs?: number } = {}): Promise<Lease> {
    return await (await this.#leaseAcquirer()).release(leaseId, options.timeoutMs);
  }

  /**
   * Ends the connection and the descriptor channel. Held leases go on until the process exits; their descriptors stay open. An acquisition that is under way
   * fails, and what the daemon had granted it ends with the process.
   */
  async close(): Promise<void> {
    if (this.#acquirer !== null) (await this.#acquirer).close();
    this.#calls.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  /** Loaded on first use: reading the inventory needs no native helper. */
  #leaseAcquirer(): Promise<LeaseAcquirer> {
    this.#acquirer ??= import("./lease-acquirer.js").then((module) => new module.LeaseAcquirer(this.#calls, this.#spinMicroseconds));
    return this.#acquirer;
  }
}
