// How a lease ends: what is told to whom, what is closed, and how it is remembered. How its devices come back is reclaim.ts.

import type { Book } from "./book.js";
import type { Lease } from "./lease.js";
import type { LeaseRegister } from "./lease-register.js";
import type { Clock, EndCause, Observer, OpenedLease, Peer } from "./ports.js";
import type { Reclaimer } from "./reclaim.js";
import type { Tickets } from "./tickets.js";

export class LeaseEnd {
  readonly #book: Book;
  readonly #register: LeaseRegister;
  readonly #reclaimer: Reclaimer;
  readonly #tickets: Tickets;
  readonly #clock: Clock;
  readonly #observer: Observer;

  constructor(deps: { book: Book; register: LeaseRegister; reclaimer: Reclaimer; tickets: Tickets; clock: Clock; observer: Observer }) {
    this.#book = deps.book;
    this.#register = deps.register;
    this.#reclaimer = deps.reclaimer;
    this.#tickets = deps.tickets;
    this.#clock = deps.clock;
    this.#observer = deps.observer;
  }

  /** Starts the end of a lease; lease.ended tells when it is over. Later causes change nothing. */
  start(lease: Lease, cause: EndCause, by: Peer | null = null): void {
    if (lease.endCause !== null || lease.doomed !== null) return;
    const event = cause === "DEVICE_REMOVED" ? "REMOVED" : "END";
    const effects = lease.claims.flatMap((claim) => this.#book.step(claim, event) ?? []);
    if (effects.includes("DOOM")) {
      lease.doomed = cause;
      return;
    }
    lease.endCause = cause;
    this.#cancelTimers(lease);
    // Who released it knows; everybody else who has its descriptors is told, also of a release by the operator or another process of its user.
    if (by === null || by.processId !== lease.holder?.processId) lease.channel?.ended(lease.id, cause);
    if (lease.successor !== null && by?.processId !== lease.successor.peer.processId) lease.successor.channel.ended(lease.id, cause);
    if (effects.includes("PROVE")) void this.#conclude(lease);
    else this.#over(lease, true);
  }

  /** Back to where it was before ACQUIRE: nothing was sent, so no proof is due. */
  async undo(lease: Lease, opened: OpenedLease | null, cause: EndCause): Promise<void> {
    if (opened) await this.#close(lease, opened);
    lease.endCause = lease.doomed ?? cause;
    this.#cancelTimers(lease);
    for (const claim of lease.claims) this.#book.step(claim, "OPEN_FAILED");
    this.#over(lease, lease.delegated);
  }

  async #conclude(lease: Lease): Promise<void> {
    const { opened } = lease;
    lease.opened = null;
    if (opened) await this.#close(lease, opened);
    await Promise.all(lease.claims.map((claim) => this.#reclaimer.run(claim)));
    const quarantined = lease.claims.filter((claim) => claim.state === "QUARANTINED");
    lease.quarantined = quarantined.flatMap((claim) => claim.leased.map((device) => device.facts.address));
    this.#over(lease, true);
  }

  #over(lease: Lease, answered: boolean): void {
    lease.endTime = this.#clock.now();
    lease.ackDeadline = null;
    lease.successor = null;
    lease.session?.leases.delete(lease.id);
    // A call that was refused made no lease to tell of.
    if (answered) this.#observer.leaseEnded(lease.id, lease.endCause ?? "RELEASED", lease.quarantined);
    this.#register.over(lease, answered);
  }

  #cancelTimers(lease: Lease): void {
    this.#tickets.revoke(lease);
    lease.cancelExpiry?.();
    lease.cancelExpiry = null;
    lease.recall?.cancel();
  }

  async #close(lease: Lease, opened: OpenedLease): Promise<void> {
    try {
      await opened.close();
    } catch (error) {
      this.#observer.fault(`closing lease ${lease.id}`, error);
    }
  }
}
