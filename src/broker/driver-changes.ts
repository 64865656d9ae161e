// Other drivers for devices, at the operator's wish: to a VFIO driver, back, and virtual functions made and destroyed. Only what the book has free is touched, and it is
// locked meanwhile by a claim of its own (REBINDING), so that nobody can lease it and nothing probes it.

import type { Address } from "./address.js";
import type { Book } from "./book.js";
import type { DeviceFacts } from "./device.js";
import { type ChangeDeps, DriverChange, type DriverLimits, type Move } from "./driver-change.js";
import type { DriverOutcome, DriverStep, FormerBinding, FormerBindings } from "./driver-control.js";
import { type BindRequest, type PlannedBind, planBind } from "./driver-plan.js";
import { FormerDrivers } from "./former-drivers.js";
import type { Inventory } from "./inventory.js";
import type { Claim } from "./lease.js";
import type { Clock, Host, HostOperation, Observer, Peer } from "./ports.js";
import { granted, type Outcome, refuse } from "./refusal.js";

type Tell = (step: DriverStep) => void;

/** What each device of a change is to have. */
interface Wish {
  readonly address: Address;
  readonly driver: string;
  readonly override: string;
  readonly module: string;
  readonly vfio: boolean;
}

export class DriverChanges {
  readonly #deps: ChangeDeps;
  readonly #formers: FormerDrivers;
  readonly #isDraining: () => boolean;

  constructor(deps: {
    host: Pick<Host, "drivers">;
    inventory: Inventory;
    book: Book;
    clock: Clock;
    observer: Observer;
    limits: DriverLimits;
    formerBindings: FormerBindings;
    isDraining: () => boolean;
  }) {
    this.#deps = { ...deps, drivers: deps.host.drivers };
    this.#formers = new FormerDrivers(deps.formerBindings, deps.observer);
    this.#isDraining = deps.isDraining;
  }

  /** Gives a device, and with consent its whole IOMMU group, to VFIO drivers. What has its driver already is a success that changes nothing, also while it is leased. */
  bind(peer: Peer, request: BindRequest, tell: Tell): Promise<Outcome<readonly DriverOutcome[]>> {
    return this.#observed("driver_bind", peer, async () => {
      const target = await this.#current(request.address);
      if (target.refusal) return target;
      const plan = planBind(target.value, request, (address) => this.#facts(address));
      if (plan.refusal) return plan;
      if (plan.value.length === 0) return granted([unchanged(target.value)]);
      const wishes = plan.value.map(
        ({ address, driver, module }: PlannedBind): Wish => ({ address, driver, override: driver, module, vfio: true }),
      );
      const outcome = await this.#change(target.value, wishes, tell);
      if (outcome.value) this.#deps.observer.driversChanged(peer, "BOUND", outcome.value);
      return outcome;
    });
  }

  /** Gives a device back to what it had before bind, and with it the members of its group that the daemon has taken too. */
  restore(peer: Peer, address: Address, tell: Tell): Promise<Outcome<readonly DriverOutcome[]>> {
    return this.#observed("driver_restore", peer, async () => {
      const target = await this.#current(address);
      if (target.refusal) return target;
      const { leaving, driver, vfioBound, iommuGroup } = target.value;
      if (leaving) return refuse("DEVICE_LEAVING", `${address} is being unbound from ${driver} already`, { address });
      const formers: FormerBinding[] = [];
      for (const member of new Set([address, ...(iommuGroup?.members.map((each) => each.address) ?? [])])) {
        const former = await this.#formers.get(member);
        const now = this.#facts(member);
        // One that has a driver of the host's was given back by somebody else.
        if (former !== null && now !== null && (now.vfioBound || now.driver === "")) formers.push(former);
      }
      if (!formers.some((former) => former.address === address)) {
        if (!vfioBound) return granted([unchanged(target.value)]);
        return refuse("NO_FORMER_DRIVER", `${address} was not given to ${driver} by this daemon`, { address });
      }
      const wishes = formers.map((former): Wish => ({ ...former, module: former.driver, vfio: former.driver.includes("vfio") }));
      const outcome = await this.#change(target.value, wishes, tell);
      if (outcome.value) {
        await this.#formers.set(new Map(formers.map((former) => [former.address, null])));
        this.#deps.observer.driversChanged(peer, "RESTORED", outcome.value);
      }
      return outcome;
    });
  }

  /** As many virtual functions as said, with their physical function's consent: nobody holds it, or any of them. Value: those that there are then. */
  setVirtualFunctions(peer: Peer, address: Address, count: number): Promise<Outcome<readonly Address[]>> {
    return this.#observed("virtual_functions", peer, async () => {
      const found = await this.#current(address);
      if (found.refusal) return found;
      const { virtualFunctions } = found.value;
      if (virtualFunctions === null) return refuse("NO_VIRTUAL_FUNCTIONS", `${address} cannot have virtual functions`, { address });
      const { addresses, total } = virtualFunctions;
      if (count > total)
        return refuse("INVALID_FIELD", `count: ${address} can have at most ${total} virtual functions`, { field: "count" });
      if (count === addresses.length) return granted(addresses);
      if (count > 0 && addresses.length > 0) return this.#hasVirtualFunctions(found.value);
      const claim = this.#lock(address, [address, ...addresses]);
      if (claim.refusal) return claim;
      const change = new DriverChange(this.#deps, claim.value, () => {});
      let made: readonly Address[] = [];
      try {
        const unread = await change.unread([address, ...addresses]);
        if (unread.refusal) return unread;
        const unused = await change.unused(addresses);
        if (unused.refusal) return unused;
        const outcome = await change.setVirtualFunctions(address, count);
        if (outcome.refusal) return outcome;
        made = outcome.value;
        this.#deps.observer.virtualFunctionsSet(peer, address, made.length);
        return outcome;
      } finally {
        await change.end(made);
      }
    });
  }

  async #change(target: DeviceFacts, wishes: readonly Wish[], tell: Tell): Promise<Outcome<readonly DriverOutcome[]>> {
    for (const { address } of wishes) {
      const facts = this.#facts(address);
      // The driver of a physical function takes its virtual ones with it when it goes.
      if (facts !== null && (facts.virtualFunctions?.addresses.length ?? 0) > 0) return this.#hasVirtualFunctions(facts);
    }
    const addresses = wishes.map(({ address }) => address);
    const claim = this.#lock(target.address, addresses);
    if (claim.refusal) return claim;
    const change = new DriverChange(this.#deps, claim.value, tell);
    let outcome: Outcome<readonly DriverOutcome[]>;
    try {
      outcome = await this.#moved(change, addresses, wishes);
    } finally {
      await change.end([]);
    }
    if (outcome.refusal) return outcome;
    // Whoever asks next wants to lease it.
    for (const { address, vfio } of wishes) if (vfio) await this.#read(address, tell);
    const alone = outcome.value.some(({ address }) => address === target.address) ? [] : [unchanged(target)];
    return granted([...alone, ...outcome.value]);
  }

  async #moved(change: DriverChange, addresses: readonly Address[], wishes: readonly Wish[]): Promise<Outcome<readonly DriverOutcome[]>> {
    const unread = await change.unread(addresses);
    if (unread.refusal) return unread;
    const moves: Move[] = [];
    for (const { address, driver, override, module, vfio } of wishes) {
      const from = await this.#deps.drivers.binding(address);
      if (from === null) return refuse("DEVICE_REMOVED", `${address} has left the machine`, { address });
      if (driver !== "") {
        const loaded = await change.load(address, driver, module);
        if (loaded.refusal) return loaded;
      }
      moves.push({ address, from, to: { driver, override }, vfio });
    }
    const unused = await change.unused(addresses);
    if (unused.refusal) return unused;
    const before = await this.#remember(moves);
    const moved = await change.move(moves);
    if (moved.refusal) {
      if (!change.isLate) await this.#formers.set(before);
      return moved;
    }
    return granted(moves.map(({ address, from, to }) => ({ address, before: from.driver, driver: to.driver, changed: true })));
  }

  /** Kept before the first device moves: a daemon that dies in between can still give them back. Value: what was kept of them until now. */
  async #remember(moves: readonly Move[]): Promise<ReadonlyMap<Address, FormerBinding | null>> {
    const before = new Map<Address, FormerBinding | null>();
    const now = new Map<Address, FormerBinding | null>();
    for (const { address, from, to, vfio } of moves) {
      const kept = await this.#formers.get(address);
      before.set(address, kept);
      // From one VFIO driver to another: what it had before the first stays what it goes back to.
      const first = kept !== null && from.vfio ? kept : { address, driver: from.driver, override: from.override };
      if (vfio) now.set(address, { ...first, boundTo: to.driver });
    }
    if (now.size > 0) await this.#formers.set(now);
    return before;
  }

  async #read(address: Address, tell: Tell): Promise<void> {
    tell({ address, action: "READING", driver: this.#facts(address)?.driver ?? "" });
    const { inventory, clock, limits } = this.#deps;
    let cancel = (): void => {};
    const late = new Promise<void>((resolve) => {
      cancel = clock.after(limits.driverMs, resolve);
    });
    await Promise.race([inventory.quiet(address), late]);
    cancel();
  }

  #facts(address: Address): DeviceFacts | null {
    return this.#deps.inventory.get(address)?.facts ?? null;
  }

  /** What the kernel says of the device now: the last message of a change of its driver may still be on its way. */
  async #current(address: Address): Promise<Outcome<DeviceFacts>> {
    if (this.#isDraining()) return refuse("DRAINING", "the daemon is stopping and changes no drivers");
    if (this.#facts(address) !== null) await this.#deps.inventory.readAgain(new Set([address]));
    const facts = this.#facts(address);
    return facts === null ? refuse("DEVICE_NOT_FOUND", `there is no device ${address} on this host`, { address }) : granted(facts);
  }

  /** Locks the devices with all that is tied to them, or says who has which of them. */
  #lock(target: Address, addresses: readonly Address[]): Outcome<Claim> {
    const { book } = this.#deps;
    const members = new Set<Address>();
    for (const address of addresses) {
      const facts = this.#facts(address);
      for (const member of facts === null ? [address] : book.atomicSet(facts)) members.add(member);
    }
    const taken = [...members].flatMap((address) => book.claimOf(address) ?? []);
    if (taken.length > 0) {
      const names = [...members].flatMap((address) => {
        const claim = book.claimOf(address);
        return claim === null ? [] : [`${address} (${claim.state.toLowerCase()})`];
      });
      const reason = taken.every(({ state }) => state === "QUARANTINED") ? "DEVICE_QUARANTINED" : "DEVICE_BUSY";
      return refuse(reason, `${target}: drivers are changed of free devices only, and these are not: ${names.join(", ")}`, {
        address: target,
        members: names.join(", "),
      });
    }
    const claim: Claim = {
      members: [...members].sort(),
      ...{ leased: [], state: "FREE", detail: "", leaseId: "", uid: 0, retryDelay: 0, cancelRetry: null, watched: new Map() },
    };
    book.lock(claim);
    book.step(claim, "REBIND", "its driver is being changed");
    return granted(claim);
  }

  #hasVirtualFunctions({ address, virtualFunctions }: DeviceFacts): ReturnType<typeof refuse> {
    const names = virtualFunctions?.addresses.join(", ") ?? "";
    return refuse("VIRTUAL_FUNCTIONS_EXIST", `${address} has virtual functions, which would go: ${names}`, { address, members: names });
  }

  async #observed<T>(operation: HostOperation, peer: Peer, work: () => Promise<Outcome<T>>): Promise<Outcome<T>> {
    const { clock, observer } = this.#deps;
    const begin = clock.now();
    let ok = false;
    try {
      const outcome = await work();
      ok = outcome.refusal === null;
      if (outcome.refusal) observer.driverChangeRefused(peer, outcome.refusal);
      return outcome;
    } finally {
      observer.operation(operation, clock.now() - begin, ok);
    }
  }
}

function unchanged({ address, driver }: DeviceFacts): DriverOutcome {
  return { address, before: driver, driver, changed: false };
}
