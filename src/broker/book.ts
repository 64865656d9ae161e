// Which device is locked by which claim, and the one place where a claim changes state: every change goes through the table, is shown in the inventory and
// is told to the observer.

import type { Address, DeviceFacts } from "./device.js";
import type { Inventory } from "./inventory.js";
import type { Claim } from "./lease.js";
import { type LeaseEffect, type LeaseEvent, transition } from "./lease-table.js";
import type { Observer } from "./ports.js";
import { HotResets } from "./reset-set.js";
import { tiedTo } from "./ties.js";

export class Book {
  readonly #inventory: Inventory;
  readonly #observer: Observer;
  readonly #onStep: (claim: Claim) => void;
  readonly #claims = new Map<Address, Claim>();
  readonly #hotResets = new HotResets();

  /** onStep: a claim is in another state. */
  constructor(inventory: Inventory, observer: Observer, onStep: (claim: Claim) => void) {
    this.#inventory = inventory;
    this.#observer = observer;
    this.#onStep = onStep;
    for (const view of inventory.views()) this.#hotResets.set(view);
    inventory.subscribe(({ kind, view }) => {
      if (kind === "REMOVED") this.#hotResets.delete(view.facts.address);
      else this.#hotResets.set(view);
    });
  }

  claimOf(address: Address): Claim | null {
    return this.#claims.get(address) ?? null;
  }

  claims(): ReadonlySet<Claim> {
    return new Set(this.#claims.values());
  }

  /** The devices that can only be taken together with this one (ties.ts). Those that the inventory does not list (bridges) cannot be leased and need no lock. */
  atomicSet(facts: DeviceFacts): readonly Address[] {
    const tied = tiedTo(facts, this.#hotResets, (address) => this.#inventory.get(address));
    return [...tied].filter((address) => address === facts.address || this.#inventory.get(address) !== null).sort();
  }

  lock(claim: Claim): void {
    for (const address of claim.members) {
      const other = this.#claims.get(address);
      if (other)
        throw new Error(`${address} is locked by ${other.leaseId === "" ? "a change of drivers" : `lease ${other.leaseId}`} already`);
    }
    for (const address of claim.members) this.#claims.set(address, claim);
  }

  /** A device has appeared, or was read: when one that it is tied to is locked, it is locked with it. */
  adopt(facts: DeviceFacts): void {
    if (this.#claims.size === 0) return;
    // One that left and came back while its neighbours stayed locked is in the book still.
    const locked = this.#claims.get(facts.address) ?? this.atomicSet(facts).flatMap((address) => this.#claims.get(address) ?? [])[0];
    if (!locked) return;
    if (!locked.members.includes(facts.address)) locked.members = [...locked.members, facts.address];
    this.#claims.set(facts.address, locked);
    this.#inventory.setState(facts.address, locked.state, locked.detail);
  }

  /** Applies an event. The effects to carry out, or null when the event is late and changes nothing. UNLOCK is carried out here. */
  step(claim: Claim, event: LeaseEvent, detail = ""): readonly LeaseEffect[] | null {
    const row = transition(claim.state, event);
    if (row === null) return null;
    const from = claim.state;
    claim.state = row.next;
    claim.detail = detail;
    if (row.effects.includes("UNLOCK")) {
      claim.cancelRetry?.();
      claim.cancelRetry = null;
      for (const unwatch of claim.watched.values()) unwatch();
      claim.watched.clear();
      for (const address of claim.members) this.#claims.delete(address);
    }
    // Of a set that is gone, members that are still listed are free: the inventory drops the others by itself.
    const shown = row.next === "REMOVED" ? "FREE" : row.next;
    for (const address of claim.members) this.#inventory.setState(address, shown, detail);
    if (from !== row.next && claim.leaseId !== "") {
      this.#observer.leaseStateChanged(claim.leaseId, from, row.next, event);
      this.#onStep(claim);
    }
    return row.effects;
  }
}
