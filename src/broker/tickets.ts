// Tickets: 128 random bits with which a process that was not there when a lease was made can take it, once. The broker keeps their digests, never the tickets, so that neither
// its memory of the past nor the time that a look-up takes tells anything that could be shown.

import type { Lease, TicketOptions } from "./lease.js";
import type { Clock, TicketSource } from "./ports.js";

/** Tickets that are over and still told apart from those that never were. */
const REMEMBERED = 4096;

/** A ticket that can be shown. */
export interface LiveTicket {
  readonly digest: string;
  readonly lease: Lease;
  readonly uid: number | null;
  readonly expireTime: number;
  readonly cancelTimer: () => void;
}

export type FoundTicket = LiveTicket | "USED" | "EXPIRED" | null;

export class Tickets {
  readonly #source: TicketSource;
  readonly #clock: Clock;
  readonly #live = new Map<string, LiveTicket>();
  /** Oldest first. */
  readonly #over = new Map<string, "USED" | "EXPIRED">();

  constructor(source: TicketSource, clock: Clock) {
    this.#source = source;
    this.#clock = clock;
  }

  /** Makes the ticket of a lease; one that was out for it before is over. onExpired: nobody showed it in time. */
  make(lease: Lease, options: TicketOptions, onExpired: () => void): Uint8Array {
    this.revoke(lease);
    const ticket = this.#source.make();
    const live: LiveTicket = {
      digest: this.#source.digest(ticket),
      lease,
      uid: options.uid,
      expireTime: this.#clock.now() + options.lifetimeMs,
      cancelTimer: this.#clock.after(options.lifetimeMs, () => {
        this.revoke(lease);
        onExpired();
      }),
    };
    this.#live.set(live.digest, live);
    lease.ticket = live;
    return ticket;
  }

  /** null: never made, or forgotten. */
  find(ticket: Uint8Array): FoundTicket {
    const digest = this.#source.digest(ticket);
    return this.#live.get(digest) ?? this.#over.get(digest) ?? null;
  }

  /** It works once. */
  use(ticket: LiveTicket): void {
    this.#end(ticket, "USED");
  }

  /** What the ticket of a lease was for is over. */
  revoke(lease: Lease): void {
    if (lease.ticket !== null) this.#end(lease.ticket, "EXPIRED");
  }

  #end(ticket: LiveTicket, how: "USED" | "EXPIRED"): void {
    ticket.cancelTimer();
    ticket.lease.ticket = null;
    this.#live.delete(ticket.digest);
    this.#over.set(ticket.digest, how);
    if (this.#over.size <= REMEMBERED) return;
    for (const oldest of this.#over.keys()) {
      this.#over.delete(oldest);
      return;
    }
  }
}
