// What happens to devices when their lease is over. Release is proven, not assumed: a mapping outlives every descriptor (measured), so after the broker has closed
// its own copies it asks the kernel by taking the devices itself. Only then are they reset, and only a checked reset, or the tenant rule, makes them free.

import type { Book } from "./book.js";
import type { DeviceFacts } from "./device.js";
import type { Inventory } from "./inventory.js";
import type { Claim } from "./lease.js";
import type { Clock, Host, HostOperation, KnownDevice, Observer, Proof } from "./ports.js";
import type { TenantMemory } from "./tenant.js";

export interface RetryLimits {
  /** First wait before a quarantined set is tried again, milliseconds; doubled each time. */
  readonly retryMinMs: number;
  readonly retryMaxMs: number;
}

export class Reclaimer {
  readonly #host: Host;
  readonly #inventory: Inventory;
  readonly #book: Book;
  readonly #tenants: TenantMemory;
  readonly #clock: Clock;
  readonly #observer: Observer;
  readonly #limits: RetryLimits;
  /** Claims of whose devices somebody let go while the kernel was being asked. */
  readonly #again = new WeakSet<Claim>();
  /** What was known of a claim's devices when the kernel was last asked. */
  readonly #asked = new WeakMap<Claim, readonly DeviceFacts[]>();

  constructor(deps: {
    host: Host;
    inventory: Inventory;
    book: Book;
    tenants: TenantMemory;
    clock: Clock;
    observer: Observer;
    limits: RetryLimits;
  }) {
    this.#host = deps.host;
    this.#inventory = deps.inventory;
    this.#book = deps.book;
    this.#tenants = deps.tenants;
    this.#clock = deps.clock;
    this.#observer = deps.observer;
    this.#limits = deps.limits;
    // A driver that waited for the last holder of a quarantined device has let go, or the device was bound anew: no need to wait for the clock.
    deps.inventory.subscribe(({ view }) => {
      const { facts } = view;
      const claim = this.#book.claimOf(facts.address);
      if (claim?.state !== "QUARANTINED" || !claim.leased.some((device) => device.facts.address === facts.address)) return;
      // Our own change of its state comes here too: then the facts are those that were asked about.
      if (this.#asked.get(claim)?.includes(facts) === false) this.#retry(claim);
    });
    deps.host.changes((change) => {
      const claim = change.kind === "CLOSED" ? this.#book.claimOf(change.address) : null;
      if (claim?.state === "RELEASING") this.#again.add(claim);
      else if (claim?.state === "QUARANTINED") this.#retry(claim);
    });
  }

  /** Takes a claim from RELEASING to FREE, QUARANTINED or REMOVED. Never throws. */
  async run(claim: Claim): Promise<void> {
    do {
      this.#again.delete(claim);
      await this.#attempt(claim);
      // Somebody let go while the kernel was being asked: the answer may be older than that.
    } while (this.#again.has(claim) && this.#startAgain(claim));
  }

  async #attempt(claim: Claim): Promise<void> {
    try {
      await this.#prove(claim);
    } catch (error) {
      this.#observer.fault(`reclaim of lease ${claim.leaseId}`, error);
      const event = claim.state === "RESETTING" ? "RESET_FAILED" : "NOT_PROVEN";
      this.#quarantine(claim, event, "an internal fault (see the daemon's log)");
    }
  }

  /** Tries every quarantined claim again, now: a process has exited. */
  retryAll(): void {
    for (const claim of this.#book.claims()) if (claim.state === "QUARANTINED") this.#retry(claim);
  }

  async #prove(claim: Claim): Promise<void> {
    // Also of a device that leaves: taken out and found again by a rescan of the bus, it has lost nothing of its memory.
    for (const { facts, probe } of claim.leased) if (!probe.resetSupported) this.#tenants.soiled(facts.address, claim.uid);
    const present = this.#current(claim);
    this.#asked.set(
      claim,
      present.map((device) => device.facts),
    );
    if (present.length === 0) {
      this.#book.step(claim, "REMOVED");
      return;
    }
    // Unbound meanwhile: a driver has let go of a device only when its last descriptor and mapping are closed. While it is leaving, it has not.
    const devices = present.filter(({ facts }) => facts.vfioBound || facts.leaving);
    if (devices.length === 0) {
      this.#book.step(claim, "PROVEN");
      this.#freed(claim, []);
      return;
    }
    const outcome = await this.#timed(
      "prove",
      () => this.#host.prove(devices),
      (answer) => answer.result === "PROVEN",
    );
    switch (outcome.result) {
      case "PROVEN":
        return this.#reset(claim, devices, outcome.proof);
      case "STILL_HELD":
        return this.#quarantine(claim, "NOT_PROVEN", outcome.detail);
      case "FAILED":
        return this.#quarantine(claim, "NOT_PROVEN", `whether it is free could not be asked: ${outcome.detail}`);
      case "GONE":
        this.#book.step(claim, "REMOVED");
    }
  }

  async #reset(claim: Claim, devices: readonly KnownDevice[], proof: Proof): Promise<void> {
    this.#book.step(claim, "PROVEN");
    try {
      const outcome = await this.#timed(
        "reset",
        () => proof.reset(),
        (answer) => answer.result !== "FAILED",
      );
      if (outcome.result === "FAILED") {
        await proof.close();
        return this.#quarantine(claim, "RESET_FAILED", `its reset failed: ${outcome.detail}`);
      }
      // Closed before the set is free: until then the next lease would find it taken by us.
      await proof.close();
      this.#freed(claim, outcome.result === "DONE" ? devices : []);
    } catch (error) {
      await proof.close();
      throw error;
    }
  }

  #freed(claim: Claim, reset: readonly KnownDevice[]): void {
    const clean = new Set(reset.map((device) => device.facts.address));
    for (const { facts } of claim.leased) {
      if (clean.has(facts.address)) this.#tenants.cleaned(facts.address);
      else this.#tenants.soiled(facts.address, claim.uid);
    }
    const wasQuarantined = claim.retryDelay > 0;
    this.#book.step(claim, "RESET_OK");
    if (wasQuarantined) for (const { facts } of claim.leased) this.#observer.deviceRecovered(facts.address);
  }

  #quarantine(claim: Claim, event: "NOT_PROVEN" | "RESET_FAILED", detail: string): void {
    if (this.#book.step(claim, event, detail) === null) return;
    if (claim.retryDelay === 0) for (const { facts } of claim.leased) this.#observer.deviceQuarantined(facts.address, detail);
    claim.retryDelay = claim.retryDelay === 0 ? this.#limits.retryMinMs : Math.min(claim.retryDelay * 2, this.#limits.retryMaxMs);
    claim.cancelRetry = this.#clock.after(claim.retryDelay, () => this.#retry(claim));
  }

  #retry(claim: Claim): void {
    if (this.#startAgain(claim)) void this.run(claim);
  }

  #startAgain(claim: Claim): boolean {
    claim.cancelRetry?.();
    claim.cancelRetry = null;
    return this.#book.step(claim, "RETRY") !== null;
  }

  /** The leased devices that are still in the machine, with what is known of them now, or was when the lease was made. */
  #current(claim: Claim): readonly KnownDevice[] {
    return claim.leased.flatMap(({ facts, probe }) => {
      const view = this.#inventory.get(facts.address);
      return view === null ? [] : [this.#inventory.known(facts.address) ?? { facts: view.facts, probe }];
    });
  }

  async #timed<T>(operation: HostOperation, work: () => Promise<T>, good: (answer: T) => boolean): Promise<T> {
    const begin = this.#clock.now();
    let ok = false;
    try {
      const answer = await work();
      ok = good(answer);
      return answer;
    } finally {
      this.#observer.operation(operation, this.#clock.now() - begin, ok);
    }
  }
}
