// One change of drivers on its way, its devices locked: each step has an end, all or none of the devices keep their new drivers, and what the kernel does not finish in time
// keeps the lock until it has.

import type { Address } from "./address.js";
import type { Book } from "./book.js";
import type { Binding, DriverControl, DriverStep } from "./driver-control.js";
import type { Inventory } from "./inventory.js";
import type { Claim } from "./lease.js";
import type { Clock, Observer } from "./ports.js";
import { granted, type Outcome, type Refusal, refuse } from "./refusal.js";
import { within } from "./within.js";

export interface DriverLimits {
  /** For holders to let go, and for the kernel to move one device; milliseconds. */
  readonly driverMs: number;
}

export interface ChangeDeps {
  readonly drivers: DriverControl;
  readonly inventory: Inventory;
  readonly book: Book;
  readonly clock: Clock;
  readonly observer: Observer;
  readonly limits: DriverLimits;
}

export interface Move {
  readonly address: Address;
  readonly from: Binding & { readonly vfio: boolean };
  readonly to: Binding;
  /** What it becomes is a VFIO device. */
  readonly vfio: boolean;
}

/** Between two looks at who holds a device. */
const LOOK_MS = 250;
/** Such a look gets at least so long. */
const LEAST_LOOK_MS = 10_000;

export class DriverChange {
  readonly #deps: ChangeDeps;
  readonly #claim: Claim;
  readonly #tell: (step: DriverStep) => void;
  /** What the kernel has not finished, each with what follows it. */
  readonly #pending: Promise<unknown>[] = [];
  #waitingFor = "";

  constructor(deps: ChangeDeps, claim: Claim, tell: (step: DriverStep) => void) {
    this.#deps = deps;
    this.#claim = claim;
    this.#tell = tell;
  }

  /** The kernel has not finished, and whoever asked has been answered. */
  get isLate(): boolean {
    return this.#pending.length > 0;
  }

  get #seconds(): string {
    return `${this.#deps.limits.driverMs / 1000} s`;
  }

  /** Our own reading of a device holds it too. */
  async unread(addresses: readonly Address[]): Promise<Outcome<null>> {
    for (const address of addresses) {
      if ((await this.#within(this.#deps.inventory.quiet(address))) !== "LATE") continue;
      return refuse("DRIVER_BUSY", `${address}: the daemon itself is still reading it after ${this.#seconds}; nothing was changed`, {
        address,
      });
    }
    return granted(null);
  }

  async load(address: Address, driver: string, module: string): Promise<Outcome<null>> {
    this.#tell({ address, action: "LOADING", driver });
    return await this.#deps.drivers.load(driver, module, this.#deps.limits.driverMs);
  }

  /** Waits until nobody seems to use the devices: once an unbind has begun it cannot be taken back. */
  async unused(addresses: readonly Address[]): Promise<Outcome<null>> {
    const { clock, limits } = this.#deps;
    const end = clock.now() + limits.driverMs;
    const told = new Set<Address>();
    for (;;) {
      const used: string[] = [];
      for (const address of addresses) {
        const users = await this.#users(address);
        if (users === "LATE") {
          return refuse("DRIVER_BUSY", `${address}: who uses it could not be found out in time; nothing was changed`, { address });
        }
        if (users.length === 0) continue;
        used.push(`${address} is used by ${users.join(", ")}`);
        if (!told.has(address)) this.#tell({ address, action: "WAITING", driver: "" });
        told.add(address);
      }
      if (used.length === 0) return granted(null);
      const left = end - clock.now();
      if (left <= 0) {
        return refuse("DRIVER_BUSY", `${used.join("; ")}, still after ${this.#seconds}; nothing was changed`, { users: used.join("; ") });
      }
      await new Promise<void>((resolve) => void clock.after(Math.min(LOOK_MS, left), resolve));
    }
  }

  /** All, or none: those that were moved go back when one cannot be. */
  async move(moves: readonly Move[]): Promise<Outcome<null>> {
    const moved: Move[] = [];
    for (const move of moves) {
      const run = { wanted: true };
      const work = this.#attempt(move, move.to, move.vfio, run);
      const outcome = await this.#within(work);
      if (outcome !== "LATE" && outcome.refusal === null) {
        moved.push(move);
        continue;
      }
      if (outcome === "LATE") {
        run.wanted = false;
        this.#waitingFor = `${move.address} to be taken from ${move.from.driver === "" ? "no driver" : move.from.driver} or given to ${move.to.driver}`;
        // When the kernel has finished after all, nobody waits for the new driver any more.
        this.#pending.push(work.then(() => this.#back(move)));
      }
      const why = outcome === "LATE" ? await this.#lateRefusal(move) : outcome.refusal;
      const stuck = await this.#undo(outcome === "LATE" ? moved : [...moved, move]);
      return this.#undone(why, moved, stuck, outcome === "LATE");
    }
    return granted(null);
  }

  async setVirtualFunctions(address: Address, count: number): Promise<Outcome<readonly Address[]>> {
    const work = this.#deps.drivers.setVirtualFunctions(address, count);
    const outcome = await this.#within(work);
    if (outcome !== "LATE") return outcome;
    this.#waitingFor = count === 0 ? `the virtual functions of ${address} to go` : `${count} virtual functions of ${address} to come`;
    this.#pending.push(work);
    const message = `${address}: the kernel has not finished after ${this.#seconds} (${this.#waitingFor}), and goes on; the devices stay locked until it has`;
    return refuse("DRIVER_BUSY", message, { address });
  }

  /** Reads the devices again and frees them, now or when the kernel has finished. also: more devices that may have changed. */
  async end(also: readonly Address[]): Promise<void> {
    const { book, observer } = this.#deps;
    if (!this.isLate) {
      await this.#free(also);
      return;
    }
    const detail = `its driver is being changed, and the kernel has not finished: waiting for ${this.#waitingFor}`;
    book.step(this.#claim, "REBIND_LATE", detail);
    observer.driverChangeLate(this.#claim.members, detail);
    void Promise.allSettled(this.#pending).then(async () => {
      await this.#free(also);
      observer.driverChangeSettled(this.#claim.members);
    });
  }

  async #free(also: readonly Address[]): Promise<void> {
    await this.#deps.inventory.readAgain(new Set([...this.#claim.members, ...also]));
    this.#deps.book.step(this.#claim, "REBOUND");
  }

  async #attempt(move: Move, to: Binding, vfio: boolean, run: { readonly wanted: boolean }, undoing = false): Promise<Outcome<null>> {
    const { address, from } = move;
    const onStep = (action: "UNBINDING" | "BINDING"): void => {
      const driver = action === "UNBINDING" ? (undoing ? move.to.driver : from.driver) : to.driver;
      this.#tell({ address, action: undoing ? "UNDOING" : action, driver });
    };
    try {
      return await this.#deps.drivers.move(address, to, vfio, { onStep, wanted: () => run.wanted });
    } catch (error) {
      this.#deps.observer.fault(`driver of ${address}`, error);
      return refuse("DRIVER_CHANGE_FAILED", `${address}: an internal fault (see the daemon's log)`, { address });
    }
  }

  #back(move: Move): Promise<Outcome<null>> {
    return this.#attempt(move, move.from, move.from.vfio, { wanted: true }, true);
  }

  /** Those that could not be given back, with why. */
  async #undo(moves: readonly Move[]): Promise<readonly string[]> {
    const stuck: string[] = [];
    for (const move of [...moves].reverse()) {
      const work = this.#back(move);
      const outcome = await this.#within(work);
      if (outcome === "LATE") {
        this.#waitingFor = `${move.address} to be given back to ${move.from.driver}`;
        this.#pending.push(work);
        stuck.push(`${move.address} is still being given back`);
      } else if (outcome.refusal !== null) stuck.push(`${move.address} could not be given back: ${outcome.refusal.message}`);
    }
    return stuck;
  }

  async #lateRefusal({ address, from, to }: Move): Promise<Refusal> {
    const users = await this.#users(address);
    const held = users === "LATE" || users.length === 0 ? "nobody is seen to hold it" : `it is used by ${users.join(", ")}`;
    const what = from.driver === "" ? `giving it to ${to.driver}` : `taking it from ${from.driver}`;
    const message = `${address}: the kernel has not finished ${what} after ${this.#seconds} (${held}). It cannot be stopped: the device stays locked until it has, and then goes back`;
    return refuse("DRIVER_BUSY", message, { address, ...(held.startsWith("it is") ? { users: held } : {}) }).refusal;
  }

  #undone(why: Refusal, moved: readonly Move[], stuck: readonly string[], late: boolean): ReturnType<typeof refuse> {
    const others = moved.map(({ address }) => address).join(", ");
    const told = [
      ...(stuck.length > 0 ? stuck : late ? [] : ["it has what it had before"]),
      ...(others !== "" && stuck.length === 0 ? [`${others} went back to what they had`] : []),
    ].join("; ");
    return refuse(why.reason, told === "" ? why.message : `${why.message}; ${told}`, why.metadata);
  }

  /** Not to know is no answer: on a busy machine with many processes a look may take longer than anybody wants to wait for a driver. */
  #users(address: Address): Promise<readonly string[] | "LATE"> {
    const { clock, drivers, limits } = this.#deps;
    return within(clock, Math.max(limits.driverMs, LEAST_LOOK_MS), drivers.users(address));
  }

  #within<T>(work: Promise<T>): Promise<T | "LATE"> {
    return within(this.#deps.clock, this.#deps.limits.driverMs, work);
  }
}
