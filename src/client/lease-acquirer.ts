// One AcquireLease from request to acknowledged descriptors. The answer comes on gRPC and the descriptors on the channel, in either order; the daemon
// allows one unacknowledged offer a channel, so acquisitions of one client wait for each other here instead of being refused there.

import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import type { AcquireLeaseRequest } from "../generated/aperture/v1/AcquireLeaseRequest.js";
import type { AcquireLeaseResponse__Output } from "../generated/aperture/v1/AcquireLeaseResponse.js";
import { native } from "../native.js";
import { decodeLease } from "./decode.js";
import { type ChannelListener, DescriptorChannel, type Offer } from "./descriptor-channel.js";
import { ApertureError, HandoverError } from "./errors.js";
import { type EndedFrame, encodeShow, type RecallFrame, type RefusedFrame } from "./frame.js";
import { type GrpcCalls, required } from "./grpc-calls.js";
import { HeldLease, type LeaseCalls, type LeaseTicket, type Recalled } from "./held-lease.js";
import type { Lease } from "./model.js";
import { checkOffer } from "./offer-check.js";
import { OfferInbox } from "./offer-inbox.js";
import { protoFiles } from "./proto-files.js";
import { type AcquireTarget, encodeAcquire, encodeTicket, type LeaseTerms, type TicketOptions } from "./requests.js";
import { channelPath } from "./socket-path.js";
import { spinning } from "./spin.js";
import { decodeVmmArguments, type VmmArguments } from "./vmm.js";

/** Resets run inside these two calls. */
const LEASE_TIMEOUT_MS = 60_000;

const RETRY_MS = 5;

export interface AcquireOptions extends LeaseTerms {
  /** UUID version 4: the same id with the same request never grants twice. Default: a fresh one. */
  readonly requestId?: string;
  /** Milliseconds for attaching and for the call, each. Default 60,000. */
  readonly timeoutMs?: number;
}

export type Ask = (request: AcquireLeaseRequest, timeoutMs: number) => Promise<AcquireLeaseResponse__Output>;

interface Answer {
  readonly lease: Lease;
  readonly made: VmmArguments | null;
}

export class LeaseAcquirer implements ChannelListener, LeaseCalls {
  readonly #calls: GrpcCalls;
  readonly #spinMicroseconds: number;
  readonly #held = new Map<string, HeldLease>();
  /** Of leases whose offer is being received. */
  readonly #recalls = new Map<string, Recalled>();
  #channel: DescriptorChannel | null = null;
  #inbox: OfferInbox | null = null;
  #turn: Promise<unknown> = Promise.resolve();

  constructor(calls: GrpcCalls, spinMicroseconds: number) {
    this.#calls = calls;
    this.#spinMicroseconds = spinMicroseconds;
  }

  /** ask: sends the request; a session has its own way. */
  acquire(
    target: AcquireTarget,
    options: AcquireOptions,
    ask: Ask = (request, timeoutMs) => this.#ask(request, timeoutMs),
  ): Promise<HeldLease> {
    return this.#inTurn(() => this.#acquire(target, options, ask));
  }

  /** Takes the lease of a ticket. */
  showTicket(ticket: Uint8Array, timeoutMs: number = LEASE_TIMEOUT_MS): Promise<HeldLease> {
    return this.#inTurn(() => this.#show(ticket, timeoutMs));
  }

  async nameSuccessor(leaseId: string, ticket: TicketOptions, timeoutMs: number = LEASE_TIMEOUT_MS): Promise<LeaseTicket> {
    const request = { leaseId, ticket: encodeTicket(ticket) };
    const answer = await this.#calls.call(protoFiles().aperture.v1.LeaseService.service.NameSuccessor, request, timeoutMs);
    return { lease: decodeLease(required(answer.lease, "lease")), ticket: answer.ticket };
  }

  #inTurn(work: () => Promise<HeldLease>): Promise<HeldLease> {
    const done = this.#turn.then(() => spinning(this.#spinMicroseconds, work()));
    this.#turn = done.catch(() => undefined);
    return done;
  }

  async #ask(request: AcquireLeaseRequest, timeoutMs: number): Promise<AcquireLeaseResponse__Output> {
    return await this.#calls.call(protoFiles().aperture.v1.LeaseService.service.AcquireLease, request, timeoutMs);
  }

  async lease(leaseId: string): Promise<Lease> {
    const answer = await this.#calls.call(protoFiles().aperture.v1.LeaseService.service.GetLease, { leaseId }, LEASE_TIMEOUT_MS);
    return decodeLease(required(answer.lease, "lease"));
  }

  /** ReleaseLease, also of a lease that another process of this user holds. */
  async release(leaseId: string, timeoutMs: number | undefined = LEASE_TIMEOUT_MS): Promise<Lease> {
    const answer = await this.#calls.call(protoFiles().aperture.v1.LeaseService.service.ReleaseLease, { leaseId }, timeoutMs);
    this.#held.delete(leaseId);
    return decodeLease(required(answer.lease, "lease"));
  }

  /** Held leases go on; an acquisition that is under way fails with CHANNEL_CLOSED. */
  close(): void {
    const channel = this.#channel;
    if (channel === null) return;
    channel.close();
    this.closed(new HandoverError("CHANNEL_CLOSED", "CANCELLED", "the client was closed"));
  }

  offered(offer: Offer): boolean {
    if (this.#inbox === null) return false;
    this.#inbox.put(offer);
    return true;
  }

  ended(frame: EndedFrame): void {
    this.#inbox?.noteEnd(frame);
    this.#held.get(frame.leaseId)?.markEnded({ cause: frame.cause });
    this.#held.delete(frame.leaseId);
  }

  recalled(frame: RecallFrame): void {
    const recalled = { cause: frame.cause, deadline: new Date(Date.now() + frame.graceMs) };
    const held = this.#held.get(frame.leaseId);
    if (held) held.markRecalled(recalled);
    // It can follow its offer at once.
    else if (this.#inbox !== null) this.#recalls.set(frame.leaseId, recalled);
  }

  refused(frame: RefusedFrame): void {
    const next = `docs/REASONS.md says what ${frame.reason} means`;
    this.#inbox?.fail(new HandoverError(frame.reason, "FAILED_PRECONDITION", `the daemon refused the ticket: ${frame.reason}`, next));
  }

  closed(error: HandoverError): void {
    this.#channel = null;
    this.#inbox?.fail(error);
    for (const lease of this.#held.values()) lease.markEnded({ cause: "CHANNEL_CLOSED" });
    this.#held.clear();
  }

  async #acquire(target: AcquireTarget, options: AcquireOptions, ask: Ask): Promise<HeldLease> {
    const { requestId = randomUUID(), timeoutMs = LEASE_TIMEOUT_MS } = options;
    // An argument that is wrong is told before anything is opened.
    encodeAcquire(target, requestId, 0n, options);
    const channel = await this.#attached(timeoutMs);
    const inbox = new OfferInbox();
    this.#inbox = inbox;
    try {
      const request = encodeAcquire(target, requestId, channel.id, options);
      const { lease, made } = await this.#askFor(() => ask(request, timeoutMs), channel.ackMs, inbox);
      // A request that was answered before: the daemon sends descriptors once.
      const before = this.#held.get(lease.id);
      return before ?? (await this.#receive(await inbox.take(lease.id, channel.ackMs), lease, { made }));
    } finally {
      this.#inbox = null;
      this.#recalls.clear();
      await this.#abandon(inbox.rest());
    }
  }

  async #show(ticket: Uint8Array, timeoutMs: number): Promise<HeldLease> {
    encodeShow(ticket);
    const channel = await this.#attached(timeoutMs);
    const inbox = new OfferInbox();
    this.#inbox = inbox;
    try {
      channel.show(ticket);
      const offer = await inbox.take(null, timeoutMs);
      const { service } = protoFiles().aperture.v1.LeaseService;
      let lease: Lease;
      try {
        const { leaseId } = offer.frame;
        lease = decodeLease(required((await this.#calls.call(service.GetLease, { leaseId }, timeoutMs)).lease, "lease"));
      } catch (error) {
        await this.#abandon([offer]);
        throw error;
      }
      return await this.#receive(offer, lease, { shown: true });
    } finally {
      this.#inbox = null;
      this.#recalls.clear();
      await this.#abandon(inbox.rest());
    }
  }

  /**
   * AcquireLease. The acknowledgement of the lease before travels on another socket than this call and has no answer, so the daemon can see the call first
   * and say HANDOVER_PENDING: that passes within its acknowledgement time.
   */
  async #askFor(ask: () => Promise<AcquireLeaseResponse__Output>, ackMs: number, inbox: OfferInbox): Promise<Answer> {
    const retryUntil = Date.now() + ackMs;
    for (;;) {
      try {
        const answer = await ask();
        const made = answer.arguments === null ? null : decodeVmmArguments(answer.arguments);
        return { lease: decodeLease(required(answer.lease, "lease")), made };
      } catch (error) {
        const pending = error instanceof ApertureError && error.reason === "HANDOVER_PENDING";
        if (!pending || Date.now() > retryUntil) throw error;
        await this.#abandon(inbox.rest());
        await sleep(RETRY_MS);
      }
    }
  }

  async #receive(
    offer: Offer,
    lease: Lease,
    { shown = false, made = null }: { readonly shown?: boolean; readonly made?: VmmArguments | null },
  ): Promise<HeldLease> {
    try {
      checkOffer(offer, lease, shown);
    } catch (error) {
      await this.#abandon([offer]);
      throw error;
    }
    const held = new HeldLease(lease, offer.descriptors, this, offer.frame.succession, made);
    this.#held.set(lease.id, held);
    const recalled = this.#recalls.get(lease.id);
    if (recalled) held.markRecalled(recalled);
    return held;
  }

  /** Closes and gives back what was acknowledged and is nobody's: of a call that failed, or of one that was given up before. */
  async #abandon(offers: readonly Offer[]): Promise<void> {
    for (const offer of offers) {
      // Since the acknowledgement these can be the last copies.
      const queue = new native.BlockingQueue(`lease ${offer.frame.leaseId}`);
      await Promise.all(offer.descriptors.map((descriptor) => queue.close(descriptor.take())));
      await queue.finish();
      // A truncated offer was refused, and its lease undone by that. When the daemon cannot be reached the lease ends with this process.
      if (!offer.truncated) await this.release(offer.frame.leaseId).catch(() => undefined);
    }
  }

  async #attached(timeoutMs: number): Promise<DescriptorChannel> {
    if (this.#channel === null) this.#channel = await DescriptorChannel.attach(channelPath(this.#calls.socketPath), timeoutMs, this);
    return this.#channel;
  }
}
