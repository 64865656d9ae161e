// Hints that devices may have changed, kept until the inventory has read them again. A storm of them costs what a few do: at most MOST addresses are kept, then every
// device is read instead; one reading runs and one waits; and after each there is a rest in proportion to what it took.

import type { Address } from "./device.js";
import type { Clock } from "./ports.js";

export type Which = ReadonlySet<Address> | "ALL";

const MOST = 256;
/** One change comes as several messages (bind: group, vfio-dev, device): they are read together. */
const SETTLE_MS = 20;
/** Rest after a reading, as a multiple of its time: hints alone keep the machine busy for a fifth of the time at most. */
const REST = 4;
/** Longest rest: a change is shown within a second. */
const LONGEST_REST_MS = 500;
/** Shortest rest after all devices were read. */
const REST_AFTER_ALL_MS = 250;

export class Hints {
  readonly #clock: Clock;
  readonly #read: (which: Which) => Promise<void>;
  #waiting: Set<Address> | "ALL" | null = null;
  #busy = false;
  #cancel: (() => void) | null = null;
  #notBefore = 0;

  /** read must not reject. */
  constructor(clock: Clock, read: (which: Which) => Promise<void>) {
    this.#clock = clock;
    this.#read = read;
  }

  add(which: Which): void {
    if (this.#waiting === "ALL") return;
    if (which === "ALL") {
      this.#waiting = "ALL";
    } else {
      this.#waiting ??= new Set();
      for (const address of which) this.#waiting.add(address);
      if (this.#waiting.size > MOST) this.#waiting = "ALL";
    }
    this.#arm();
  }

  #arm(): void {
    if (this.#busy || this.#cancel !== null || this.#waiting === null) return;
    const delay = Math.max(SETTLE_MS, this.#notBefore - this.#clock.now());
    this.#cancel = this.#clock.after(delay, () => void this.#run());
  }

  async #run(): Promise<void> {
    this.#cancel = null;
    const which = this.#waiting;
    if (which === null) return;
    this.#waiting = null;
    this.#busy = true;
    const begin = this.#clock.now();
    try {
      await this.#read(which);
    } finally {
      const end = this.#clock.now();
      const rest = Math.max((end - begin) * REST, which === "ALL" ? REST_AFTER_ALL_MS : 0);
      this.#notBefore = end + Math.min(rest, LONGEST_REST_MS);
      this.#busy = false;
      this.#arm();
    }
  }
}
