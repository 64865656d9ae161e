// The broker itself: commands and events in, leases out. It decides nothing that stands elsewhere: admission.ts says whether, lease-table.ts what follows, reclaim.ts
// how a device comes back. What this file owns is the order of steps, and that nothing is half-done when one of them fails.

import { type Admission, admit } from "./admission.js";
import { Book } from "./book.js";
import { callerOf, identify, needsProgram } from "./caller.js";
import type { Address } from "./device.js";
import type { DriverLimits } from "./driver-change.js";
import { DriverChanges } from "./driver-changes.js";
import type { FormerBindings } from "./driver-control.js";
import type { DeviceView, Inventory } from "./inventory.js";
import { type AcquireRequest, type Claim, Lease, type LeaseSession, type LeaseView, type TicketOptions, watchProcess } from "./lease.js";
import { LeaseEnd } from "./lease-end.js";
import { LeaseOpening } from "./lease-opening.js";
import { type LeaseChange, LeaseRegister } from "./lease-register.js";
import { type Granted, RequestMemory } from "./memory.js";
import type { PolicyRule } from "./policy.js";
import type { Clock, Handover, HandoverChannel, HandoverSlot, Host, NewId, Observer, Peer, RecallCause, TicketSource } from "./ports.js";
import { Recalls } from "./recall.js";
import { Reclaimer, type RetryLimits } from "./reclaim.js";
import { granted, type Outcome, type Refusal, refuse } from "./refusal.js";
import { Succession } from "./succession.js";
import { TenantMemory } from "./tenant.js";
import { type LiveTicket, Tickets } from "./tickets.js";
import { within } from "./within.js";

export interface LeaseLimits extends RetryLimits, DriverLimits {
  readonly leasesPerUid: number;
  /** How long an ended lease is remembered, milliseconds, and how many at the most. */
  readonly endedMs: number;
  readonly endedKept: number;
  /** From a recall to the end of the lease, milliseconds. */
  readonly recallGraceMs: number;
  /** How long a caller waits for devices, milliseconds. */
  readonly callMs: number;
}

/**
 * Milliseconds that a request waits for the acknowledgement of the offer before it. That has been sent before this request, but on another socket, so it can come later; and who
 * has not sent it is told so soon.
 */
const ACK_ON_ITS_WAY_MS = 250;

/** A lease with its ticket, when one was asked for. The ticket is for the caller alone: never for a log. */
export interface GrantedLease {
  readonly lease: LeaseView;
  readonly ticket: Uint8Array | null;
}

export class Leases {
  /** They lock devices in the same book. */
  readonly drivers: DriverChanges;
  readonly #inventory: Inventory;
  readonly #handover: Handover;
  readonly #clock: Clock;
  readonly #newId: NewId;
  readonly #observer: Observer;
  readonly #limits: LeaseLimits;
  readonly #book: Book;
  readonly #tenants = new TenantMemory();
  readonly #tickets: Tickets;
  readonly #register: LeaseRegister;
  readonly #reclaimer: Reclaimer;
  readonly #end: LeaseEnd;
  readonly #recalls: Recalls;
  readonly #opening: LeaseOpening;
  readonly #succession: Succession;
  readonly #requests = new RequestMemory();
  #rules: readonly PolicyRule[];
  #draining = false;

  constructor(deps: {
    host: Host;
    inventory: Inventory;
    handover: Handover;
    clock: Clock;
    newId: NewId;
    ticketSource: TicketSource;
    observer: Observer;
    limits: LeaseLimits;
    rules: readonly PolicyRule[];
    /** Users who see and may release every lease, and change drivers. */
    operators: readonly number[];
    formerBindings: FormerBindings;
  }) {
    this.#inventory = deps.inventory;
    this.#handover = deps.handover;
    this.#clock = deps.clock;
    this.#newId = deps.newId;
    this.#observer = deps.observer;
    this.#limits = deps.limits;
    this.#rules = deps.rules;
    const book = new Book(deps.inventory, deps.observer, (claim) => this.#stepped(claim));
    const tickets = new Tickets(deps.ticketSource, deps.clock);
    const onForgotten = (lease: Lease): void => {
      if (lease.requestKey !== null) this.#requests.forget(lease.requestKey);
    };
    const register = new LeaseRegister({ ...deps, backend: deps.host.backend, onForgotten });
    const reclaimer = new Reclaimer({ ...deps, book, tenants: this.#tenants });
    const end = new LeaseEnd({ ...deps, book, register, reclaimer, tickets });
    const recalls = new Recalls({ ...deps, end, register });
    this.#book = book;
    this.#tickets = tickets;
    this.#register = register;
    this.#reclaimer = reclaimer;
    this.#end = end;
    this.#recalls = recalls;
    this.#opening = new LeaseOpening({ ...deps, book, end, recalls });
    this.drivers = new DriverChanges({ ...deps, book, isDraining: () => this.#draining });
    this.#succession = new Succession({ ...deps, register, end, recalls, tickets });
    deps.inventory.subscribe((change) => {
      if (change.kind === "REMOVED") this.#deviceRemoved(change.view.facts.address);
      else this.#deviceChanged(change.view);
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
    return this.#register.isOperator(peer);
  }

  /** Refuses new leases from now on. Leases that are held go on: their descriptors are with the clients. */
  drain(): void {
    this.#draining = true;
  }

  /** session: the ids of what was acquired on it and has not ended are kept there. */
  async acquire(peer: Peer, request: AcquireRequest, session: LeaseSession | null = null): Promise<Outcome<GrantedLease>> {
    const key = request.requestId === "" ? null : `${peer.processId} ${request.requestId}`;
    const make = (): Promise<Outcome<Granted>> => this.#acquire(peer, request, key, session);
    const outcome = await (key === null ? make() : this.#requests.once(key, request, make));
    if (outcome.refusal) {
      this.#observer.acquireRefused(peer, outcome.refusal);
      return outcome;
    }
    const { lease, ticket } = outcome.value;
    return granted({ lease: this.#register.view(lease), ticket });
  }

  /** Ends a lease that the caller may see, and waits until its devices are proven free and reset, or quarantined. */
  async release(peer: Peer, id: string): Promise<Outcome<LeaseView>> {
    const found = this.#register.visible(peer, id);
    if (found.refusal) return found;
    this.#end.start(found.value, "RELEASED", peer);
    const over = await this.#within(found.value.ended);
    if (over === "LATE") return this.#late("still has to prove them free or to reset them. The lease is over and needs no second release");
    return granted(this.#register.view(found.value));
  }

  get(peer: Peer, id: string): Outcome<LeaseView> {
    const found = this.#register.visible(peer, id);
    return found.refusal ? found : granted(this.#register.view(found.value));
  }

  /** VF tokens of the devices of a lease, when the caller is the process that holds it. null: no device needs one, or the lease is not the caller's. */
  vfTokens(peer: Peer, id: string): ReadonlyMap<Address, Uint8Array> | null {
    const lease = this.#register.get(id);
    return lease?.vfTokens && lease.holder?.processId === peer.processId && lease.holder.uid === peer.uid ? lease.vfTokens : null;
  }

  /** Leases that have not ended and that the caller may see, oldest first. */
  list(peer: Peer): readonly LeaseView[] {
    return this.#register.list(peer);
  }

  /** Those of list(), and from now on every change of one that the caller may see. */
  watch(peer: Peer, listener: (change: LeaseChange) => void): { readonly snapshot: readonly LeaseView[]; readonly stop: () => void } {
    return this.#register.watch(peer, listener);
  }

  /** A ticket with which another process takes over a RETAIN lease. */
  nameSuccessor(peer: Peer, id: string, options: TicketOptions): Outcome<GrantedLease> {
    const found = this.#register.visible(peer, id);
    if (found.refusal) return found;
    const ticket = this.#succession.name(found.value, options);
    return ticket.refusal ? ticket : granted({ lease: this.#register.view(found.value), ticket: ticket.value });
  }

  /** A process shows a ticket on its channel. Granted: the offer was sent. */
  async show(peer: Peer, channel: HandoverChannel, ticket: Uint8Array): Promise<Outcome<null>> {
    let outcome: Outcome<null>;
    try {
      outcome = await this.#show(peer, channel, ticket);
    } catch (error) {
      this.#observer.fault("a ticket that was shown", error);
      outcome = refuse("HOST_OPERATION_FAILED", "an internal fault (see the daemon's log)");
    }
    this.#observer.ticketShown(peer, outcome.refusal);
    return outcome;
  }

  /** Asks for a lease back, and ends it after the grace (default: limits.recall_grace_ms). False: there is no such lease, or it has ended. */
  recall(id: string, cause: RecallCause, graceMs?: number): boolean {
    const lease = this.#register.get(id);
    if (lease === null) return false;
    this.#recalls.recall(lease, cause, graceMs);
    return true;
  }

  /** A session is over, and with it what was acquired on it. */
  sessionEnded(session: LeaseSession): void {
    session.over = true;
    for (const id of [...session.leases]) {
      const lease = this.#register.get(id);
      if (lease !== null) this.#end.start(lease, "SESSION_ENDED");
    }
  }

  activeCount(): number {
    return this.#register.size;
  }

  /** A process is gone: its leases end, and what it may have kept of others is free to be proven. */
  processExited(processId: number): void {
    for (const lease of [...this.#register.all()]) {
      if (lease.holder?.processId === processId && !this.#succession.outlives(lease)) this.#end.start(lease, "HOLDER_DIED");
    }
    for (const claim of this.#book.claims()) {
      claim.watched.get(processId)?.();
      claim.watched.delete(processId);
    }
    this.#reclaimer.retryAll();
  }

  /** While a lease ends, its last claim to come free is followed by the end itself. */
  #stepped(claim: Claim): void {
    const lease = this.#register.get(claim.leaseId);
    if (lease?.claims.some((each) => each.state !== "FREE" && each.state !== "REMOVED")) this.#register.changed(lease);
  }

  #deviceRemoved(address: Address): void {
    const claim = this.#book.claimOf(address);
    if (!claim?.leased.some((device) => device.facts.address === address)) return;
    const lease = this.#register.get(claim.leaseId);
    if (lease && lease.endCause === null) this.#end.start(lease, "DEVICE_REMOVED");
    // Some of a set may be left and still held: those go on being proven.
    else if (claim.leased.every((device) => this.#inventory.get(device.facts.address) === null)) this.#book.step(claim, "REMOVED");
  }

  #deviceChanged({ facts, state }: DeviceView): void {
    if (state === "FREE") this.#book.adopt(facts);
    if (!facts.leaving) return;
    const claim = this.#book.claimOf(facts.address);
    // Its driver waits until the last descriptor is closed: whoever has one is asked.
    const lease = claim?.leased.some((device) => device.facts.address === facts.address) ? this.#register.get(claim.leaseId) : null;
    if (lease) this.#recalls.recall(lease, "DEVICE_REMOVED");
  }

  #within<T>(work: Promise<T>): Promise<T | "LATE"> {
    return within(this.#clock, this.#limits.callMs, work);
  }

  #late(what: string): ReturnType<typeof refuse> {
    return refuse("HOST_SLOW", `${this.#limits.callMs / 1000} s were not enough for the kernel to answer for these devices: it ${what}`);
  }

  // ---- acquire ----

  async #acquire(peer: Peer, request: AcquireRequest, requestKey: string | null, session: LeaseSession | null): Promise<Outcome<Granted>> {
    const caller = needsProgram(this.#rules) ? await identify(peer, () => this.#rules) : granted(callerOf(peer));
    if (caller.refusal) return caller;
    const late = this.#clock.now() + ACK_ON_ITS_WAY_MS;
    // Of several requests that wait the first goes on to take the channel before the next one looks: there is no await in between.
    for (let busy = this.#busy(peer, request); busy !== null; busy = this.#busy(peer, request)) {
      if ((await within(this.#clock, late - this.#clock.now(), busy)) === "LATE") break;
    }
    if (this.#draining) return this.#drained();
    // While the caller was looked at, or an acknowledgement awaited.
    if (session?.over === true) return refuse("HANDOVER_FAILED", "the session of this request has ended");
    const { inventory, book, tenants } = { inventory: this.#inventory, book: this.#book, tenants: this.#tenants };
    const context = {
      inventory,
      book,
      tenants,
      rules: this.#rules,
      caller: caller.value,
      own: this.#register.ownedBy(peer.uid),
      leasesPerUid: this.#limits.leasesPerUid,
    };
    const admission = admit(context, peer, request);
    if (admission.refusal) return admission;
    const make = (): Lease => this.#make(peer, request, requestKey, session, admission.value);
    if (request.ticket !== null) return this.#reserve(make(), request.ticket);
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
    const lease = make();
    this.#give(lease, peer, channel);
    for (const claim of lease.claims) this.#book.step(claim, "ACQUIRE");
    const opened = await this.#within(this.#opening.run(lease, peer, slot.value));
    if (opened === "LATE") {
      this.#end.start(lease, "OPEN_FAILED");
      return this.#late("is still opening them. The lease is undone as soon as it has");
    }
    return opened.refusal ? opened : granted({ lease, ticket: null });
  }

  /** Settles when the channel of the request is free; null: it is, or none is needed. */
  #busy(peer: Peer, { ticket, channel }: AcquireRequest): Promise<void> | null {
    return ticket === null ? (this.#handover.channelOf(peer, channel)?.busy() ?? null) : null;
  }

  #reserve(lease: Lease, options: TicketOptions): Outcome<Granted> {
    const ticket = this.#tickets.make(lease, options, () => this.#end.start(lease, "TICKET_EXPIRED"));
    for (const claim of lease.claims) this.#book.step(claim, "RESERVE");
    const addresses = lease.devices.map((device) => device.address);
    this.#observer.leaseReserved(lease.id, lease.owner, addresses, lease.kind);
    return granted({ lease, ticket });
  }

  /** A lease over locked claims that are still FREE, and that nobody holds. */
  #make(peer: Peer, request: AcquireRequest, requestKey: string | null, session: LeaseSession | null, admission: Admission): Lease {
    const id = this.#newId();
    const claims = admission.sets.map(
      ({ members, leased }): Claim => ({
        members,
        leased,
        state: "FREE",
        detail: "",
        leaseId: id,
        uid: peer.uid,
        retryDelay: 0,
        cancelRetry: null,
        watched: new Map(),
      }),
    );
    const { terms } = admission;
    const createTime = this.#clock.now();
    const durations = [request.maxDurationMs, terms.maxDurationMs].flatMap((duration) => duration ?? []);
    const lease = new Lease({
      id,
      kind: request.kind,
      mode: request.mode,
      owner: peer,
      terms,
      requestKey,
      session,
      devices: admission.devices.map(({ known, regions }) => ({ address: known.facts.address, regions })),
      claims,
      createTime,
      expireTime: durations.length === 0 ? null : createTime + Math.min(...durations),
      delegated: request.ticket !== null,
    });
    this.#register.add(lease);
    session?.leases.add(id);
    for (const claim of claims) this.#book.lock(claim);
    this.#recalls.expect(lease);
    return lease;
  }

  /** From now on the lease is this process's. */
  #give(lease: Lease, holder: Peer, channel: HandoverChannel): void {
    lease.holder = holder;
    lease.channel = channel;
    for (const claim of lease.claims) claim.uid = holder.uid;
    watchProcess(lease, holder);
  }

  // ---- tickets ----

  async #show(peer: Peer, channel: HandoverChannel, bytes: Uint8Array): Promise<Outcome<null>> {
    const ticket = this.#tickets.find(bytes);
    if (ticket === null) return refuse("TICKET_UNKNOWN", "this ticket was never made, or was forgotten");
    if (ticket === "EXPIRED") return refuse("TICKET_EXPIRED", "the ticket was not shown in time, or what it was for is over");
    if (ticket === "USED") return refuse("TICKET_USED", "the ticket was shown before");
    const obstacle = this.#obstacle(ticket, peer);
    if (obstacle !== null) return { value: null, refusal: obstacle };
    const slot = channel.reserve();
    if (slot.refusal) return slot;
    const { lease } = ticket;
    if (lease.holder !== null) return this.#succession.offer(ticket, peer, channel, slot.value);
    return this.#take(ticket, peer, channel, slot.value);
  }

  /** Why this process may not use the ticket; for another, or later, it stays good. */
  #obstacle({ lease, uid }: LiveTicket, peer: Peer): Refusal | null {
    if (uid !== null && uid !== peer.uid) return refuse("TICKET_OTHER_USER", `the ticket is for uid ${uid}, not for ${peer.uid}`).refusal;
    if (this.#draining) return this.#drained().refusal;
    // A successor takes over a running device with all that is in it: that is what it is for.
    if (lease.holder !== null) return null;
    for (const { address } of lease.devices) {
      const tenant = this.#tenants.check(address, peer.uid, lease.terms.allowUnreset);
      if (tenant.refusal) return tenant.refusal;
    }
    return null;
  }

  async #take(ticket: LiveTicket, peer: Peer, channel: HandoverChannel, slot: HandoverSlot): Promise<Outcome<null>> {
    const { lease } = ticket;
    this.#tickets.use(ticket);
    this.#give(lease, peer, channel);
    for (const claim of lease.claims) this.#book.step(claim, "SHOWN");
    return await this.#opening.run(lease, peer, slot);
  }

  #drained(): ReturnType<typeof refuse> {
    return refuse("DRAINING", "the daemon is stopping and takes no new leases");
  }
}
