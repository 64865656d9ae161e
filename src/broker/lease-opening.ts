// From a locked lease to one that is held: open fresh descriptors, send them, wait for the acknowledgement. The same steps for the process that acquired a lease and for one that
// shows the ticket of a reserved one.

import type { Book } from "./book.js";
import type { Inventory } from "./inventory.js";
import type { Lease } from "./lease.js";
import type { LeaseEnd } from "./lease-end.js";
import type {
  Clock,
  EndCause,
  HandoverResult,
  HandoverSlot,
  Host,
  KnownDevice,
  Observer,
  OpenedLease,
  OpenRequest,
  Peer,
} from "./ports.js";
import type { Recalls } from "./recall.js";
import { granted, type Outcome, type Refusal, refuse } from "./refusal.js";

export class LeaseOpening {
  readonly #host: Host;
  readonly #inventory: Inventory;
  readonly #book: Book;
  readonly #end: LeaseEnd;
  readonly #recalls: Recalls;
  readonly #clock: Clock;
  readonly #observer: Observer;

  constructor(deps: {
    host: Host;
    inventory: Inventory;
    book: Book;
    end: LeaseEnd;
    recalls: Recalls;
    clock: Clock;
    observer: Observer;
  }) {
    this.#host = deps.host;
    this.#inventory = deps.inventory;
    this.#book = deps.book;
    this.#end = deps.end;
    this.#recalls = deps.recalls;
    this.#clock = deps.clock;
    this.#observer = deps.observer;
  }

  /** Opens the devices of an OPENING lease for its holder and offers them through the slot. Refused: the lease is undone, and has ended. */
  async run(lease: Lease, holder: Peer, slot: HandoverSlot): Promise<Outcome<null>> {
    const opened = await this.#openOnHost(lease);
    const refusal = opened.refusal ?? this.#lateRefusal(lease, holder);
    if (refusal !== null) {
      slot.cancel();
      await this.#end.undo(lease, opened.value, opened.refusal === null ? "HOLDER_DIED" : "OPEN_FAILED");
      return { value: null, refusal };
    }
    const ready = opened.value as OpenedLease;
    const sent = slot.offer({ leaseId: lease.id, kind: lease.kind, backend: this.#host.backend, opened: ready, succession: false });
    if (sent.refusal) {
      this.#observer.handover("SEND_FAILED");
      slot.cancel();
      await this.#end.undo(lease, ready, "HANDOVER_FAILED");
      return sent;
    }
    lease.opened = ready;
    lease.descriptors = ready.descriptors.map((descriptor) => descriptor.info);
    lease.vfTokens = ready.vfTokens ?? null;
    lease.ackDeadline = sent.value.ackDeadline;
    for (const claim of lease.claims) this.#book.step(claim, "OPENED");
    const addresses = lease.devices.map((device) => device.address);
    this.#observer.leaseGranted(lease.id, holder, addresses, lease.kind);
    this.#recalls.announce(lease);
    void sent.value.done.then((result) => this.#handedOver(lease, result));
    return granted(null);
  }

  async #openOnHost(lease: Lease): Promise<Outcome<OpenedLease>> {
    const known: KnownDevice[] = [];
    for (const { address } of lease.devices) {
      // Read anew: while a lease is reserved its device can be bound to another driver.
      const device = this.#inventory.known(address);
      if (device === null) return refuse("DEVICE_NOT_PROBED", `${address} was bound anew and has not been read since`, { address });
      known.push(device);
    }
    const [first] = lease.devices;
    const { allowDeviceScope } = lease.terms;
    const wanted: OpenRequest =
      lease.kind === "REGION" && first
        ? { kind: "REGION", address: first.address, regions: first.regions.map((region) => region.index), allowDeviceScope }
        : { kind: "DEVICE", addresses: lease.devices.map((device) => device.address) };
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
  #lateRefusal(lease: Lease, holder: Peer): Refusal | null {
    if (lease.doomed !== null && lease.doomed !== "HOLDER_DIED") return refusalOf(lease, lease.doomed);
    if (lease.doomed !== null || !holder.isAlive()) return refuse("PEER_GONE", `process ${holder.pid} has exited`).refusal;
    return null;
  }

  #handedOver(lease: Lease, result: HandoverResult): void {
    this.#observer.handover(result.result);
    if (result.result !== "ACKNOWLEDGED") {
      // Its channel closes when a process exits, and may be seen to before the process is.
      const unheard = lease.holder?.isAlive() === false ? "HOLDER_DIED" : "NOT_ACKNOWLEDGED";
      this.#end.start(lease, result.result === "SHORT" ? "SHORT_HANDOVER" : unheard);
      return;
    }
    lease.ackDeadline = null;
    const event = lease.mode === "RETAIN" ? "RETAINED" : "ACKED";
    const effects = lease.claims.map((claim) => this.#book.step(claim, event));
    if (effects.some((list) => list?.includes("DROP_COPIES")) && lease.opened) {
      lease.opened.closeHandedOff().catch((error: unknown) => this.#observer.fault(`closing copies of lease ${lease.id}`, error));
    }
  }
}

function refusalOf(lease: Lease, doomed: EndCause): Refusal {
  const during = "while it was being opened";
  if (doomed === "DEVICE_REMOVED") return refuse("DEVICE_REMOVED", `the device left the machine ${during}`).refusal;
  if (lease.delegated) return refuse("TICKET_EXPIRED", `the lease of the ticket ended ${during}`).refusal;
  if (doomed === "EXPIRED") return refuse("HOST_OPERATION_FAILED", "opening took longer than the lease may last").refusal;
  return refuse("DEVICE_BUSY", `the lease was released ${during}`).refusal;
}
