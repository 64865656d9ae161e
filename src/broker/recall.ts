// Asking for a lease back: a device is leaving the machine, or the lease's time is over. The kernel has no way to take a descriptor back, so the holder is asked, is given
// time, and loses the lease at the end of it; what it has kept then keeps the devices in quarantine.

import { type Lease, leasePhase } from "./lease.js";
import type { LeaseEnd } from "./lease-end.js";
import type { LeaseRegister } from "./lease-register.js";
import type { Clock, Observer, RecallCause } from "./ports.js";

export class Recalls {
  readonly #end: LeaseEnd;
  readonly #register: LeaseRegister;
  readonly #clock: Clock;
  readonly #observer: Observer;
  readonly #limits: { readonly recallGraceMs: number };

  constructor(deps: {
    end: LeaseEnd;
    register: LeaseRegister;
    clock: Clock;
    observer: Observer;
    limits: { readonly recallGraceMs: number };
  }) {
    this.#end = deps.end;
    this.#register = deps.register;
    this.#clock = deps.clock;
    this.#observer = deps.observer;
    this.#limits = deps.limits;
  }

  /** A new lease: recalls it at its expireTime. */
  expect(lease: Lease): void {
    if (lease.expireTime === null) return;
    lease.cancelExpiry = this.#clock.after(lease.expireTime - this.#clock.now(), () => {
      lease.cancelExpiry = null;
      this.recall(lease, "EXPIRED");
    });
  }

  /** Of two recalls the one that ends sooner holds. */
  recall(lease: Lease, cause: RecallCause, graceMs: number = this.#limits.recallGraceMs): void {
    if (lease.endCause !== null || lease.doomed !== null) return;
    const phase = leasePhase(lease);
    // Nobody has anything yet: there is nobody to ask.
    if (phase === "RESERVED" || (phase === "OPENING" && cause === "DEVICE_REMOVED")) {
      this.#end.start(lease, cause);
      return;
    }
    const deadline = this.#clock.now() + graceMs;
    if (lease.recall !== null && lease.recall.deadline <= deadline) return;
    lease.recall?.cancel();
    lease.recall = { cause, deadline, cancel: this.#clock.after(graceMs, () => this.#end.start(lease, cause)) };
    this.#observer.leaseRecalled(lease.id, cause, graceMs);
    if (phase !== "OPENING") this.announce(lease);
    this.#register.changed(lease);
  }

  /** Tells the holder, also one that was not there yet when the recall began. */
  announce(lease: Lease): void {
    if (lease.recall === null) return;
    const { cause, deadline } = lease.recall;
    lease.channel?.recalled(lease.id, cause, Math.max(0, Math.round(deadline - this.#clock.now())));
  }
}
