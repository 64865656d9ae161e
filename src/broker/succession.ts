// A RETAIN lease outlives the process that holds it: a VMM is replaced while its guest goes on. The broker has kept the open files, and gives the same ones to whoever shows
// the successor's ticket. Until that process has acknowledged them, nothing has changed for the holder.

import { type Lease, leasePhase, type TicketOptions, watchProcess } from "./lease.js";
import type { LeaseEnd } from "./lease-end.js";
import type { LeaseRegister } from "./lease-register.js";
import type { HandoverChannel, HandoverResult, HandoverSlot, Host, Observer, OpenedLease, Peer } from "./ports.js";
import type { Recalls } from "./recall.js";
import { granted, type Outcome, refuse } from "./refusal.js";
import type { LiveTicket, Tickets } from "./tickets.js";

export class Succession {
  readonly #host: Host;
  readonly #register: LeaseRegister;
  readonly #end: LeaseEnd;
  readonly #recalls: Recalls;
  readonly #tickets: Tickets;
  readonly #observer: Observer;

  constructor(deps: {
    host: Host;
    register: LeaseRegister;
    end: LeaseEnd;
    recalls: Recalls;
    tickets: Tickets;
    observer: Observer;
  }) {
    this.#host = deps.host;
    this.#register = deps.register;
    this.#end = deps.end;
    this.#recalls = deps.recalls;
    this.#tickets = deps.tickets;
    this.#observer = deps.observer;
  }

  /** Makes the ticket of a successor; the one before, if any, is over. */
  name(lease: Lease, options: TicketOptions): Outcome<Uint8Array> {
    const { id: leaseId, holder, terms } = lease;
    if (lease.mode !== "RETAIN") return refuse("LEASE_NOT_RETAINED", `lease ${leaseId} was acquired with mode HAND_OFF`, { leaseId });
    const phase = leasePhase(lease);
    if (phase !== "HELD" || holder === null) {
      return refuse("LEASE_NOT_HELD", `lease ${leaseId} is ${phase.toLowerCase()}, not held`, { leaseId });
    }
    if (lease.successor !== null) return refuse("LEASE_NOT_HELD", `a successor is taking lease ${leaseId} over now`, { leaseId });
    const uid = terms.mayDelegate ? options.uid : (options.uid ?? holder.uid);
    if (uid !== holder.uid && !terms.mayDelegate) {
      const rule = terms.policyRule === "" ? "its policy rules do" : `policy rule "${terms.policyRule}" does`;
      return refuse("POLICY_DENIED", `lease ${leaseId} may not pass to another user: ${rule} not allow delegation`, { leaseId });
    }
    const ticket = this.#tickets.make(lease, { ...options, uid }, () => this.#expired(lease));
    this.#register.changed(lease);
    return granted(ticket);
  }

  /** Sends the open files of a HELD lease to the process that showed its ticket. */
  offer(ticket: LiveTicket, peer: Peer, channel: HandoverChannel, slot: HandoverSlot): Outcome<null> {
    const { lease } = ticket;
    const opened = lease.opened as OpenedLease;
    watchProcess(lease, peer);
    const sent = slot.offer({ leaseId: lease.id, kind: lease.kind, backend: this.#host.backend, opened, succession: true });
    if (sent.refusal) {
      // Nothing was sent: the ticket can be shown again.
      this.#observer.handover("SEND_FAILED");
      slot.cancel();
      return sent;
    }
    this.#tickets.use(ticket);
    lease.successor = { peer, channel };
    this.#register.changed(lease);
    void sent.value.done.then((result) => this.#answered(lease, peer, channel, result));
    return granted(null);
  }

  /** The holder has exited. True: the lease goes on without one for a while. */
  outlives(lease: Lease): boolean {
    if (lease.mode !== "RETAIN" || (lease.ticket === null && lease.successor === null) || leasePhase(lease) !== "HELD") return false;
    lease.orphaned = true;
    return true;
  }

  #answered(lease: Lease, peer: Peer, channel: HandoverChannel, result: HandoverResult): void {
    this.#observer.handover(result.result);
    // It ended meanwhile, and the successor was told.
    if (lease.endCause !== null) return;
    lease.successor = null;
    if (result.result !== "ACKNOWLEDGED") {
      const cause = result.result === "SHORT" ? "SHORT_HANDOVER" : "NOT_ACKNOWLEDGED";
      channel.ended(lease.id, cause);
      if (lease.orphaned) this.#end.start(lease, cause);
      else this.#register.changed(lease);
      return;
    }
    const former = { peer: lease.holder as Peer, channel: lease.channel };
    lease.holder = peer;
    lease.channel = channel;
    lease.orphaned = false;
    for (const claim of lease.claims) claim.uid = peer.uid;
    if (former.peer.processId !== peer.processId) former.channel?.ended(lease.id, "SUCCEEDED");
    this.#observer.leasePassedOn(lease.id, former.peer, peer);
    this.#recalls.announce(lease);
    this.#register.changed(lease, former.peer);
  }

  #expired(lease: Lease): void {
    if (lease.orphaned) this.#end.start(lease, "TICKET_EXPIRED");
    else this.#register.changed(lease);
  }
}
