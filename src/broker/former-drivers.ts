// What each device had before the daemon gave it to a VFIO driver: in memory, and kept over a restart.

import type { Address } from "./address.js";
import type { FormerBinding, FormerBindings } from "./driver-control.js";
import type { Observer } from "./ports.js";

export class FormerDrivers {
  readonly #kept: FormerBindings;
  readonly #observer: Pick<Observer, "fault">;
  #all: Promise<Map<Address, FormerBinding>> | null = null;
  #saving: Promise<void> = Promise.resolve();

  constructor(kept: FormerBindings, observer: Pick<Observer, "fault">) {
    this.#kept = kept;
    this.#observer = observer;
  }

  /** null: the daemon has not taken it from anybody. */
  async get(address: Address): Promise<FormerBinding | null> {
    return (await this.#known()).get(address) ?? null;
  }

  /** null: forget it. Resolves when it is kept; that it could not be is a fault, and no reason to leave the devices as they are. */
  async set(changes: ReadonlyMap<Address, FormerBinding | null>): Promise<void> {
    const all = await this.#known();
    for (const [address, former] of changes) {
      if (former === null) all.delete(address);
      else all.set(address, former);
    }
    this.#saving = this.#saving.then(async () => {
      try {
        await this.#kept.save([...all.values()]);
      } catch (error) {
        this.#observer.fault("former drivers", error);
      }
    });
    await this.#saving;
  }

  #known(): Promise<Map<Address, FormerBinding>> {
    this.#all ??= this.#load();
    return this.#all;
  }

  async #load(): Promise<Map<Address, FormerBinding>> {
    try {
      return new Map((await this.#kept.load()).map((former) => [former.address, former]));
    } catch (error) {
      this.#observer.fault("former drivers", error);
      return new Map();
    }
  }
}
