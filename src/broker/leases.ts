// The broker itself: commands and events in, leases out. It decides nothing that stands elsewhere: admission.ts says whether, lease-table.ts what follows, reclaim.ts
// how a device comes back. What this file owns is the order of steps, and that nothing is half-done when one of them fails.

import { type Admission, admit } from "./admission.js";
import { Book } from "./book.js";
import { callerOf, identify, needsProgram } from "./caller.js";
import type { Address } from "./device.js";
import type { Inventory } from "./inventory.js";
import { type AcquireRequest, type Claim, type Lease, type LeaseView, leasePhase } from "./lease.js";
import { EndedLeases, RequestMemory } from "./memory.js";
import type { PolicyRule } from "./policy.js";
import type {
  Clock,
  EndCause,
  Handover,
  HandoverChannel,
  HandoverResult,
  HandoverSlot,
  Host,
  NewId,
  Observer,
  OpenedLease,
  OpenRequest,
  Peer,
} from "./ports.js";
import { Reclaimer, type RetryLimits } from "./reclaim.js";
import { granted, type Outcome, type Refusal, refuse } from "./refusal.js";
import { TenantMemory } from "./tenant.js";

export interface LeaseLimits extends RetryLimits {
  readonly leasesPerUid: number;
  /** How long an ended lease is remembered, milliseconds, and how many at the most. */
  readonly endedMs: number;
  readonly endedKept: number;
}

export class Leases {
  readonly #host: Host;
  readonly #inventory: Inventory;
  readonly #handover: Handover;
  readonly #clock: Clock;
  readonly #newId: NewId;
  readonly #observer: Observer;
  readonly #limits: LeaseLimits;
  readonly #operators: ReadonlySet<number>;
  readonly #book: Book;
  readonly #tenants = new TenantMemory();
  readonly #reclaimer: Reclaimer;
  readonly #active = new Map<string, Lease>();
  readonly #requests = new RequestMemory();
  readonly #ended: EndedLeases;
  #rules: readonly PolicyRule[];
  #draining = false;

  constructor(deps: {
    host: Host;
    inventory: Inventory;
    handover: Handover;
    clock: Clock;
    newId: NewId;
    observer: Observer;
    limits: LeaseLimits;
    rules: readonly PolicyRule[];
    /** Users who see and may release every lease. */
    operators: readonly number[];
  }) {
    this.#host = deps.host;
    this.#inventory = deps.inventory;
    this.#handover = deps.handover;
    this.#clock = deps.clock;
    this.#newId = deps.newId;
    this.#observer = deps.observer;
    this.#limits = deps.limits;
    this.#ended = new EndedLeases(deps.limits, (lease) => {
      if (lease.requestKey !== null) this.#requests.forget(lease.requestKey);
    });
    this.#rules = deps.rules;
    this.#operators = new Set(deps.operators);
    this.#book = new Book(deps.inventory, deps.observer);
    this.#reclaimer = new Reclaimer({ ...deps, book: this.#book, tenants: this.#tenants });
    deps.inventory.subscribe((change) => {
      if (change.kind === "REMOVED") this.#deviceRemoved(change.view.facts.address);
      else if (change.view.state === "FREE") this.#book.adopt(change.view.facts);
    });
  }

  get policy(): readonly PolicyRule[] {
    return this.#rules;
  }

  /** From now on. Leases that are there stay as they are. */
  setPolicy(rules: readonly PolicyRule[]): void {
    this.#rules = rules;
  }

  isOperator(peer: Peer): boolean {
    return this.#operators.has(peer.uid);
  }

  /** Refuses new leases from now on. Leases that are held go on: their descriptors are with the clients. */
  drain(): void {
    this.#draining = true;
  }

  async acquire(peer: Peer, request: AcquireRequest): Promise<Outcome<LeaseView>> {
    const key = request.requestId === "" ? null : `${peer.processId} ${request.requestId}`;
    const make = (): Promise<Outcome<Lease>> => this.#acquire(peer, request, key);
    const outcome = await (key === null ? make() : this.#requests.once(key, request, make));
    if (outcome.refusal) {
      this.#observer.acquireRefused(peer, outcome.refusal);
      return outcome;
    }
    return granted(this.#view(outcome.value));
  }

  /** Ends a lease of the caller, and waits until its devices are proven free and reset, or quarantined. */
  async release(peer: Peer, id: string): Promise<Outcome<LeaseView>> {
    const found = this.#visible(peer, id);
    if (found.refusal) return found;
    this.#end(found.value, "RELEASED", peer);
    await found.value.ended;
    return granted(this.#view(found.value));
  }

  get(peer: Peer, id: string): Outcome<LeaseView> {
    const found = this.#visible(peer, id);
    return found.refusal ? found : granted(this.#view(found.value));
  }

  /** Leases that have not ended and that the caller may see, oldest first. */
  list(peer: Peer): readonly LeaseView[] {
    return [...this.#active.values()].filter((lease) => this.#maySee(peer, lease)).map((lease) => this.#view(lease));
  }

  activeCount(): number {
    return this.#active.size;
  }

  /** A process is gone: its leases end, and what it may have kept of others is free to be proven. */
  processExited(processId: number): void {
    for (const lease of [...this.#active.values()]) if (lease.peer.processId === processId) this.#end(lease, "HOLDER_DIED");
    this.#reclaimer.retryAll();
  }

  #deviceRemoved(address: Address): void {
    const claim = this.#book.claimOf(address);
    if (!claim?.leased.some((device) => device.facts.address === address)) return;
    const lease = this.#active.get(claim.leaseId);
    if (lease && lease.endCause === null) this.#end(lease, "DEVICE_REMOVED");
    // Some of a set may be left and still held: those go on being proven.
    else if (claim.leased.every((device) => this.#inventory.get(device.facts.address) === null)) this.#book.step(claim, "REMOVED");
  }

  // ---- acquire ----

  async #acquire(peer: Peer, request: AcquireRequest, requestKey: string | null): Promise<Outcome<Lease>> {
    const caller = needsProgram(this.#rules) ? await identify(peer, () => this.#rules) : granted(callerOf(peer));
    if (caller.refusal) return caller;
    if (this.#draining) return refuse("DRAINING", "the daemon is stopping and takes no new leases");
    const { inventory, book, tenants } = { inventory: this.#inventory, book: this.#book, tenants: this.#tenants };
    const context = {
      inventory,
      book,
      tenants,
      rules: this.#rules,
      caller: caller.value,
      active: this.#active.values(),
      leasesPerUid: this.#limits.leasesPerUid,
    };
    const admission = admit(context, peer, request);
    if (admission.refusal) return admission;
    const channel = this.#handover.channelOf(peer, request.channel);
    if (channel === null) {
      return refuse(
        "NO_DESCRIPTOR_CHANNEL",
        `process ${peer.pid} has no attached descriptor channel${request.channel === 0n ? "" : ` ${request.channel}`}`,
      );
    }
    const slot = channel.reserve();
    if (slot.refusal) return slot;
    // Everything is locked before the first await: a second request for any of these devices is refused from here on.
    const lease = this.#lock(peer, request, requestKey, channel, admission.value);
    return this.#open(lease, request, admission.value, slot.value);
  }

  #lock(peer: Peer, request: AcquireRequest, requestKey: string | null, channel: HandoverChannel, admission: Admission): Lease {
    const id = this.#newId();
    const claims = admission.sets.map(
      ({ members, leased }): Claim => ({
        ...{ members, leased, state: "FREE", detail: "", leaseId: id, uid: peer.uid },
        ...{ retryDelay: 0, cancelRetry: null, unwatch: peer.watch() },
      }),
    );
    let markEnded = (): void => {};
    const ended = new Promise<void>((resolve) => {
      markEnded = resolve;
    });
    const devices = admission.devices.map(({ known, regions }) => ({ address: known.facts.address, regions }));
    const lease: Lease = {
      ...{ id, kind: request.kind, peer, channel, requestKey, devices, claims, createTime: this.#clock.now(), ended, markEnded },
      ...{ opened: null, descriptors: [], ackDeadline: null, doomed: null, endCause: null, endTime: null, quarantined: [] },
    };
    this.#active.set(id, lease);
    for (const claim of claims) {
      this.#book.lock(claim);
      this.#book.step(claim, "ACQUIRE");
    }
    return lease;
  }

  async #open(lease: Lease, request: AcquireRequest, admission: Admission, slot: HandoverSlot): Promise<Outcome<Lease>> {
    const opened = await this.#openOnHost(lease, request, admission);
    const refusal = opened.refusal ?? this.#lateRefusal(lease);
    if (refusal !== null) {
      slot.cancel();
      await this.#undo(lease, opened.value);
      return { value: null, refusal };
    }
    const ready = opened.value as OpenedLease;
    const sent = slot.offer({ leaseId: lease.id, kind: lease.kind, backend: this.#host.backend, opened: ready });
    if (sent.refusal) {
      this.#observer.handover("SEND_FAILED");
      slot.cancel();
      await this.#undo(lease, ready);
      return sent;
    }
    lease.opened = ready;
    lease.descriptors = ready.descriptors.map((descriptor) => descriptor.info);
    lease.ackDeadline = sent.value.ackDeadline;
    for (const claim of lease.claims) this.#book.step(claim, "OPENED");
    const addresses = lease.devices.map((device) => device.address);
    this.#observer.leaseGranted(lease.id, lease.peer, addresses, lease.kind);
    void sent.value.done.then((result) => this.#handedOver(lease, result));
    return granted(lease);
  }

  async #openOnHost(lease: Lease, request: AcquireRequest, admission: Admission): Promise<Outcome<OpenedLease>> {
    const known = admission.devices.map((device) => device.known);
    const [first] = request.devices;
    const wanted: OpenRequest =
      request.kind === "REGION" && first
        ? { kind: "REGION", address: first.address, regions: first.regions, allowDeviceScope: admission.allowDeviceScope }
        : { kind: "DEVICE", addresses: request.devices.map((device) => device.address) };
    const begin = this.#clock.now();
    let ok = false;
    try {
      const outcome = await this.#host.open(wanted, known);
      ok = outcome.refusal === null;
      return outcome;
    } catch (error) {
      this.#observer.fault(`open for lease ${lease.id}`, error);
      return refuse("HOST_OPERATION_FAILED", "the devices could not be opened (see the daemon's log)");
    } finally {
      this.#observer.operation("open", this.#clock.now() - begin, ok);
    }
  }

  /** What happened while the host was opening. Liveness is asked last, as close as can be to the side effect it guards. */
  #lateRefusal(lease: Lease): Refusal | null {
    if (lease.doomed === "DEVICE_REMOVED") return refuse("DEVICE_REMOVED", "the device left the machine while it was being opened").refusal;
    if (lease.doomed === "RELEASED") return refuse("DEVICE_BUSY", "the lease was released while it was being opened").refusal;
    if (lease.doomed !== null || !lease.peer.isAlive()) return refuse("PEER_GONE", `process ${lease.peer.pid} has exited`).refusal;
    return null;
  }

  /** Back to where it was before ACQUIRE: nothing was sent, so no proof is due. */
  async #undo(lease: Lease, opened: OpenedLease | null): Promise<void> {
    if (opened) await this.#close(lease, opened);
    this.#active.delete(lease.id);
    lease.endCause = lease.doomed ?? "HANDOVER_FAILED";
    lease.endTime = this.#clock.now();
    for (const claim of lease.claims) this.#book.step(claim, "OPEN_FAILED");
    lease.markEnded();
  }

  #handedOver(lease: Lease, result: HandoverResult): void {
    this.#observer.handover(result.result);
    if (result.result !== "ACKNOWLEDGED") {
      this.#end(lease, result.result === "SHORT" ? "SHORT_HANDOVER" : "NOT_ACKNOWLEDGED");
      return;
    }
    const effects = lease.claims.map((claim) => this.#book.step(claim, "ACKED"));
    lease.ackDeadline = null;
    if (effects.some((list) => list?.includes("DROP_COPIES")) && lease.opened) {
      lease.opened.closeHandedOff().catch((error: unknown) => this.#observer.fault(`closing copies of lease ${lease.id}`, error));
    }
  }

  // ---- end ----

  /** Starts the end of a lease; lease.ended tells when it is over. Later causes change nothing. */
  #end(lease: Lease, cause: EndCause, by: Peer | null = null): void {
    if (lease.endCause !== null || lease.doomed !== null) return;
    const event = cause === "DEVICE_REMOVED" ? "REMOVED" : "END";
    const effects = lease.claims.flatMap((claim) => this.#book.step(claim, event) ?? []);
    if (effects.includes("DOOM")) {
      lease.doomed = cause;
      return;
    }
    lease.endCause = cause;
    // Who released it knows; the holder is told of everything else, also of a release by the operator or another process of its user.
    if (by?.processId !== lease.peer.processId) lease.channel.ended(lease.id, cause);
    void this.#conclude(lease);
  }

  async #conclude(lease: Lease): Promise<void> {
    const { opened } = lease;
    lease.opened = null;
    if (opened) await this.#close(lease, opened);
    await Promise.all(lease.claims.map((claim) => this.#reclaimer.run(claim)));
    const quarantined = lease.claims.filter((claim) => claim.state === "QUARANTINED");
    lease.quarantined = quarantined.flatMap((claim) => claim.leased.map((device) => device.facts.address));
    lease.endTime = this.#clock.now();
    lease.ackDeadline = null;
    this.#active.delete(lease.id);
    this.#ended.add(lease, lease.endTime);
    this.#observer.leaseEnded(lease.id, lease.endCause ?? "RELEASED", lease.quarantined);
    lease.markEnded();
  }

  async #close(lease: Lease, opened: OpenedLease): Promise<void> {
    try {
      await opened.close();
    } catch (error) {
      this.#observer.fault(`closing lease ${lease.id}`, error);
    }
  }

  // ---- reading ----

  /** A lease of somebody else answers exactly as one that never was. */
  #visible(peer: Peer, id: string): Outcome<Lease> {
    const lease = this.#active.get(id) ?? this.#ended.get(id);
    if (!lease || !this.#maySee(peer, lease)) return refuse("LEASE_NOT_FOUND", `there is no lease ${id}`, { leaseId: id });
    return granted(lease);
  }

  #maySee(peer: Peer, lease: Lease): boolean {
    return lease.peer.uid === peer.uid || this.#operators.has(peer.uid);
  }

  #view(lease: Lease): LeaseView {
    const { id, kind, devices, descriptors, createTime, ackDeadline, endTime, endCause, quarantined } = lease;
    const holder = { holderPid: lease.peer.pid, holderUid: lease.peer.uid };
    return {
      id,
      kind,
      phase: leasePhase(lease),
      devices,
      descriptors,
      backend: this.#host.backend,
      ...holder,
      createTime,
      ackDeadline,
      endTime,
      endCause,
      quarantined,
    };
  }
}
