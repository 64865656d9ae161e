// Offers and ends that arrive while one acquisition is under way, before it is known which lease it made.

import type { Offer } from "./descriptor-channel.js";
import { HandoverError } from "./errors.js";
import type { EndedFrame, FrameEndCause } from "./frame.js";

interface Waiter {
  /** null: whatever comes first. */
  readonly leaseId: string | null;
  readonly resolve: (offer: Offer) => void;
  readonly reject: (error: HandoverError) => void;
}

export class OfferInbox {
  #offers: Offer[] = [];
  readonly #ends = new Map<string, FrameEndCause>();
  #failure: HandoverError | null = null;
  #waiter: Waiter | null = null;

  put(offer: Offer): void {
    this.#offers.push(offer);
    if (this.#waiter !== null && (this.#waiter.leaseId ?? offer.frame.leaseId) === offer.frame.leaseId) this.#waiter.resolve(offer);
  }

  noteEnd(frame: EndedFrame): void {
    this.#ends.set(frame.leaseId, frame.cause);
  }

  /** No further offer can come: the channel is gone, or a ticket was refused. */
  fail(error: HandoverError): void {
    this.#failure = error;
    this.#waiter?.reject(error);
  }

  /** The offer of a lease, or (null) the first; the taker owns it. Throws HandoverError: HANDOVER_TIMEOUT, why there will be none, or LEASE_ENDED. */
  async take(leaseId: string | null, timeoutMs: number): Promise<Offer> {
    const offer = this.#offers.find(({ frame }) => (leaseId ?? frame.leaseId) === frame.leaseId) ?? (await this.#wait(leaseId, timeoutMs));
    if (this.#failure !== null) throw this.#failure;
    const cause = this.#ends.get(offer.frame.leaseId);
    if (cause !== undefined) throw endedAlready(offer.frame.leaseId, cause);
    this.#offers = this.#offers.filter((other) => other !== offer);
    return offer;
  }

  async #wait(leaseId: string | null, timeoutMs: number): Promise<Offer> {
    if (this.#failure !== null) throw this.#failure;
    let timer: NodeJS.Timeout | undefined;
    try {
      return await new Promise<Offer>((resolve, reject) => {
        this.#waiter = { leaseId, resolve, reject };
        timer = setTimeout(() => reject(timedOut(leaseId, timeoutMs)), timeoutMs);
      });
    } finally {
      clearTimeout(timer);
      this.#waiter = null;
    }
  }

  /** What nobody took; the caller owns it. */
  rest(): readonly Offer[] {
    const rest = this.#offers;
    this.#offers = [];
    return rest;
  }
}

function timedOut(leaseId: string | null, timeoutMs: number): HandoverError {
  if (leaseId === null)
    return new HandoverError("HANDOVER_TIMEOUT", "DEADLINE_EXCEEDED", `the daemon did not answer the ticket within ${timeoutMs} ms`);
  return new HandoverError(
    "HANDOVER_TIMEOUT",
    "DEADLINE_EXCEEDED",
    `the daemon granted lease ${leaseId} and sent no descriptors within ${timeoutMs} ms`,
    "descriptors are sent once for each request_id: acquire with a new one",
  );
}

function endedAlready(leaseId: string, cause: FrameEndCause): HandoverError {
  return new HandoverError("LEASE_ENDED", "ABORTED", `lease ${leaseId} ended before it could be used: ${cause}`, "acquire again");
}
