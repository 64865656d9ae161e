// One native queue for each device (and each legacy group), so that a device that blocks for minutes in the kernel stops nobody else. A queue outlives
// its device until the last descriptor that must be closed on it is closed: finish() refuses new operations, and a refused close is a leak.

import type { BlockingQueue } from "../native.js";

interface Entry {
  readonly queue: BlockingQueue;
  users: number;
  gone: boolean;
}

/** The right to use a queue until release(). */
export interface QueueUse {
  readonly queue: BlockingQueue;
  release(): void;
}

export class DeviceQueues {
  readonly #make: (name: string) => BlockingQueue;
  readonly #entries = new Map<string, Entry>();

  constructor(make: (name: string) => BlockingQueue) {
    this.#make = make;
  }

  /** The queue of a device or group, made on first use. */
  use(key: string): QueueUse {
    let entry = this.#entries.get(key);
    if (entry === undefined) {
      entry = { queue: this.#make(key), users: 0, gone: false };
      this.#entries.set(key, entry);
    }
    const used = entry;
    used.users += 1;
    let released = false;
    return {
      queue: used.queue,
      release: () => {
        if (released) return;
        released = true;
        used.users -= 1;
        this.#endIfUnused(used);
      },
    };
  }

  /** Forgets the queues of all others. What still uses one goes on; a device that comes back gets a new one. */
  keepOnly(keys: ReadonlySet<string>): void {
    for (const [key, entry] of this.#entries) {
      if (keys.has(key)) continue;
      this.#entries.delete(key);
      entry.gone = true;
      this.#endIfUnused(entry);
    }
  }

  get size(): number {
    return this.#entries.size;
  }

  #endIfUnused(entry: Entry): void {
    // finish() waits for operations whose callers have all let go: nobody needs its end.
    if (entry.gone && entry.users === 0) void entry.queue.finish();
  }
}
