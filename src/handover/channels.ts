// The descriptor channels: who has attached one, and what is under way on each. Two facts of the kernel shape it:
//   * descriptors that nobody has received yet are charged to the sender's user over all its sockets (ETOOMANYREFS beyond RLIMIT_NOFILE), so one client that never reads could
//     stop every hand-over: one unacknowledged offer a channel, and a bound over all channels;
//   * the sender of a frame is not always the process that connected (a socket can be inherited or passed on), so each frame is checked.

import type { EndCause, Handover, HandoverChannel, HandoverResult, HandoverSlot, Offer, Peer, RecallCause } from "../broker/ports.js";
import { type GoodbyeReason, granted, type Outcome, refuse } from "../broker/refusal.js";
import type { Accepted, PollSet } from "../poll-set.js";
import { decodeClientFrame, encodeAttached, encodeEnded, encodeGoodbye, encodeOffer, encodeRecall, encodeRefused } from "./frames.js";

export interface ChannelLimits {
  /** Milliseconds from accept to ATTACH. */
  readonly firstCallMs: number;
  /** Milliseconds from OFFER to ACK. */
  readonly ackMs: number;
  /** Descriptors sent and not acknowledged, over all channels. */
  readonly descriptorsInFlight: number;
  /** Descriptors in one message; at most the Poller's. */
  readonly descriptorsPerMessage: number;
}

/** A peer as the listener identified it; forget() when its channel is closed. */
export interface ChannelPeer extends Peer {
  pidfd(): number;
  forget(): void;
}

export interface ChannelsDeps {
  readonly pollSet: PollSet;
  readonly limits: ChannelLimits;
  /** Wall clock, milliseconds. */
  readonly now: () => number;
  /** A channel was closed by the daemon, and why. */
  readonly onRejected: (reason: GoodbyeReason, peer: Peer) => void;
  /** A ticket was shown on a channel. Granted: its offer was sent. Never throws. */
  readonly onShown: (peer: Peer, channel: HandoverChannel, ticket: Uint8Array) => Promise<Outcome<null>>;
}

const ETOOMANYREFS = 109;

export class Channels implements Handover {
  readonly #deps: ChannelsDeps;
  readonly #byId = new Map<bigint, Channel>();
  /** Attached channels of a process, oldest first. */
  readonly #byProcess = new Map<number, Channel[]>();
  #nextId = 1n;
  #inFlight = 0;

  constructor(deps: ChannelsDeps) {
    this.#deps = deps;
  }

  get count(): number {
    return this.#byId.size;
  }

  /** Descriptors sent and not acknowledged. */
  get inFlight(): number {
    return this.#inFlight;
  }

  /** Takes a connection whose peer is identified. `leave` is called when the channel is over. */
  add(accepted: Accepted, peer: ChannelPeer, leave: () => void): void {
    const channel = new Channel(this.#nextId, peer, this.#deps, {
      attached: () => this.#byProcess.set(peer.processId, [...(this.#byProcess.get(peer.processId) ?? []), channel]),
      closed: () => {
        this.#byId.delete(channel.id);
        const rest = (this.#byProcess.get(peer.processId) ?? []).filter((other) => other !== channel);
        if (rest.length > 0) this.#byProcess.set(peer.processId, rest);
        else this.#byProcess.delete(peer.processId);
        leave();
        peer.forget();
      },
      flying: (change) => {
        this.#inFlight += change;
      },
      room: () => this.#deps.limits.descriptorsInFlight - this.#inFlight,
    });
    this.#nextId += 1n;
    this.#byId.set(channel.id, channel);
    channel.start({ ...accepted, pidfd: peer.pidfd() });
  }

  channelOf(peer: Peer, wanted: bigint): HandoverChannel | null {
    const own = this.#byProcess.get(peer.processId) ?? [];
    // A process that changed its user between two connections is two users to us.
    const mine = own.filter((channel) => channel.peer.uid === peer.uid);
    return (wanted === 0n ? mine.at(-1) : mine.find((channel) => channel.id === wanted)) ?? null;
  }

  /** Closes the channels of a process that has exited: a child that inherited one would keep it, and nobody may speak on it any more. */
  processExited(processId: number): void {
    for (const channel of this.#byId.values()) if (channel.peer.processId === processId) channel.abandon();
  }

  /** Closes every channel. */
  close(): void {
    for (const channel of this.#byId.values()) channel.close("DRAINING");
  }
}

interface ChannelHooks {
  attached(): void;
  closed(): void;
  /** Descriptors in flight have grown or shrunk. */
  flying(change: number): void;
  room(): number;
}

interface PendingOffer {
  readonly leaseId: string;
  readonly count: number;
  readonly timer: NodeJS.Timeout;
  readonly settle: (result: HandoverResult) => void;
}

class Channel implements HandoverChannel {
  readonly id: bigint;
  readonly peer: ChannelPeer;
  readonly #deps: ChannelsDeps;
  readonly #hooks: ChannelHooks;
  #pollId: number | null = null;
  #attachTimer: NodeJS.Timeout | null = null;
  #attached = false;
  #reserved = false;
  #pending: PendingOffer | null = null;
  /** Who waits until #reserved is false. */
  #waiters: { readonly over: Promise<void>; readonly settle: () => void } | null = null;
  /** A SHOW waits for its answer. */
  #showing = false;
  #closed = false;

  constructor(id: bigint, peer: ChannelPeer, deps: ChannelsDeps, hooks: ChannelHooks) {
    this.id = id;
    this.peer = peer;
    this.#deps = deps;
    this.#hooks = hooks;
  }

  start(connection: Accepted): void {
    const added = this.#deps.pollSet.channel(connection, {
      frame: (bytes, fromPeer) => this.#frame(bytes, fromPeer),
      gone: (reason) => {
        if (reason === "violation") this.#deps.onRejected("PROTOCOL_VIOLATION", this.peer);
        this.#pollId = null;
        this.#over("the channel was closed");
      },
    });
    if (added.error) {
      this.#over(`${added.error.operation}: ${added.error.code}`);
      return;
    }
    this.#pollId = added.value;
    this.#attachTimer = setTimeout(() => this.close("ATTACH_TIMEOUT"), this.#deps.limits.firstCallMs);
  }

  reserve(): Outcome<HandoverSlot> {
    if (this.#closed) return refuse("NO_DESCRIPTOR_CHANNEL", `channel ${this.id} is closed`);
    if (this.#reserved) return refuse("HANDOVER_PENDING", `channel ${this.id} has an offer that is not acknowledged yet`);
    this.#reserved = true;
    return granted({ offer: (offer) => this.#offer(offer), cancel: () => this.#free() });
  }

  busy(): Promise<void> | null {
    if (!this.#reserved) return null;
    if (this.#waiters === null) {
      let settle = (): void => {};
      const over = new Promise<void>((resolve) => {
        settle = resolve;
      });
      this.#waiters = { over, settle };
    }
    return this.#waiters.over;
  }

  ended(leaseId: string, cause: EndCause | "SUCCEEDED"): void {
    this.#send(encodeEnded(leaseId, cause), []);
  }

  recalled(leaseId: string, cause: RecallCause, graceMs: number): void {
    this.#send(encodeRecall(leaseId, cause, graceMs), []);
  }

  close(reason: GoodbyeReason): void {
    if (this.#closed) return;
    this.#deps.onRejected(reason, this.peer);
    this.#send(encodeGoodbye(reason), []);
    this.#over(`the daemon closed the channel: ${reason}`);
  }

  /** Closes it without a word: there is nobody to tell. */
  abandon(): void {
    this.#over("its process has exited");
  }

  #free(): void {
    if (this.#pending !== null) return;
    this.#reserved = false;
    this.#waiters?.settle();
    this.#waiters = null;
  }

  #offer(offer: Offer): Outcome<{ readonly ackDeadline: number; readonly done: Promise<HandoverResult> }> {
    const { descriptors } = offer.opened;
    const count = descriptors.length;
    if (this.#closed) return refuse("HANDOVER_FAILED", `channel ${this.id} was closed while the devices were being opened`);
    if (count > this.#deps.limits.descriptorsPerMessage) {
      return refuse(
        "DESCRIPTOR_LIMIT",
        `the lease has ${count} descriptors, and one message takes ${this.#deps.limits.descriptorsPerMessage}`,
      );
    }
    if (count > this.#hooks.room())
      return refuse("DESCRIPTOR_LIMIT", "too many descriptors of other clients wait for their acknowledgement");
    const infos = descriptors.map((descriptor) => descriptor.info);
    const bytes = encodeOffer(offer.leaseId, offer.kind, offer.backend, infos, offer.succession);
    const errno = this.#send(
      bytes,
      descriptors.map((descriptor) => descriptor.borrow()),
    );
    if (errno === ETOOMANYREFS)
      return refuse("DESCRIPTOR_LIMIT", "the kernel has too many descriptors of this daemon in flight (ETOOMANYREFS)");
    if (errno !== 0)
      return refuse("HANDOVER_FAILED", `the offer could not be sent on channel ${this.id} (errno ${errno})`, { errno: String(errno) });
    this.#hooks.flying(count);
    const { ackMs } = this.#deps.limits;
    const done = new Promise<HandoverResult>((resolve) => {
      const timer = setTimeout(() => this.close("HANDOVER_FAILED"), ackMs);
      this.#pending = { leaseId: offer.leaseId, count, timer, settle: resolve };
    });
    return granted({ ackDeadline: this.#deps.now() + ackMs, done });
  }

  #frame(bytes: Uint8Array, fromPeer: boolean): void {
    if (!fromPeer) {
      // Of a process that has exited nothing can be said any more, and nothing need be: its exit follows.
      if (this.peer.isAlive()) this.close("FOREIGN_SENDER");
      return;
    }
    const frame = decodeClientFrame(bytes);
    if (frame?.type === "attach" && !this.#attached) {
      this.#attached = true;
      if (this.#attachTimer) clearTimeout(this.#attachTimer);
      this.#hooks.attached();
      this.#send(encodeAttached(this.id, this.#deps.limits.descriptorsPerMessage, this.#deps.limits.ackMs), []);
      return;
    }
    if (frame?.type === "ack" && this.#pending?.leaseId === frame.leaseId && frame.count <= this.#pending.count) {
      const { count } = this.#pending;
      this.#settle(frame.count === count ? { result: "ACKNOWLEDGED" } : { result: "SHORT", count: frame.count });
      return;
    }
    if (frame?.type === "show" && this.#attached && !this.#showing) {
      void this.#show(frame.ticket);
      return;
    }
    this.close("PROTOCOL_VIOLATION");
  }

  async #show(ticket: Uint8Array): Promise<void> {
    this.#showing = true;
    const { refusal } = await this.#deps.onShown(this.peer, this, ticket);
    this.#showing = false;
    if (refusal === null) return;
    // Guessing must not be cheap: it costs the channel.
    if (refusal.reason === "TICKET_UNKNOWN") this.close("TICKET_UNKNOWN");
    else this.#send(encodeRefused(refusal.reason), []);
  }

  #settle(result: HandoverResult): void {
    const pending = this.#pending;
    if (pending === null) return;
    this.#pending = null;
    clearTimeout(pending.timer);
    this.#hooks.flying(-pending.count);
    this.#free();
    pending.settle(result);
  }

  #send(bytes: Uint8Array, descriptors: readonly number[]): number {
    const EPIPE = 32;
    return this.#pollId === null ? EPIPE : this.#deps.pollSet.send(this.#pollId, bytes, descriptors);
  }

  #over(detail: string): void {
    if (this.#closed) return;
    this.#closed = true;
    if (this.#attachTimer) clearTimeout(this.#attachTimer);
    // An offer that was never received stays in the client's queue, and its descriptors stay charged to us, until the client closes its own end (measured). Its devices
    // cannot be proven free before, so it is in quarantine as long: that bounds how many there can be.
    if (this.#pollId !== null) this.#deps.pollSet.remove(this.#pollId);
    this.#pollId = null;
    this.#hooks.closed();
    this.#settle({ result: "NOT_ACKNOWLEDGED", detail });
    this.#free();
  }
}
