// What one operation on the host has opened. Every path that opens descriptors puts them here at once, so that one close() undoes everything, in reverse
// order and each on its device's queue: the last close of a VFIO device resets it and may take as long as a reset.

import type { Observer } from "../broker/ports.js";
import { OwnedDescriptor } from "../descriptor.js";
import type { BlockingQueue } from "../native.js";
import type { DeviceQueues, QueueUse } from "./device-queues.js";
import { text } from "./failed-call.js";

interface Held {
  readonly descriptor: OwnedDescriptor;
  readonly queue: BlockingQueue;
}

export class Holding {
  readonly #queues: DeviceQueues;
  readonly #observer: Pick<Observer, "fault">;
  readonly #uses = new Map<string, QueueUse>();
  #held: Held[] = [];
  #closing: Promise<void> = Promise.resolve();

  constructor(queues: DeviceQueues, observer: Pick<Observer, "fault">) {
    this.#queues = queues;
    this.#observer = observer;
  }

  /** The queue of a device or group, kept alive until close(). */
  queue(key: string): BlockingQueue {
    let use = this.#uses.get(key);
    if (use === undefined) {
      use = this.#queues.use(key);
      this.#uses.set(key, use);
    }
    return use.queue;
  }

  /** Takes ownership of a descriptor that is to be closed on the queue of key. */
  own(descriptor: number, label: string, key: string): OwnedDescriptor {
    const owned = new OwnedDescriptor(descriptor, label);
    this.#held.push({ descriptor: owned, queue: this.queue(key) });
    return owned;
  }

  /**
   * Closes everything. A second call closes what was opened since the first, and waits for both: who asks the kernel afterwards whether a device is free must
   * not meet our own descriptor.
   */
  close(): Promise<void> {
    this.#closing = Promise.all([this.#closing, this.#closeHeld()]).then(() => {});
    return this.#closing;
  }

  async #closeHeld(): Promise<void> {
    const held = this.#held.reverse();
    this.#held = [];
    const uses = [...this.#uses.values()];
    this.#uses.clear();
    const byQueue = new Map<BlockingQueue, number[]>();
    for (const { descriptor, queue } of held) {
      if (!descriptor.isOpen) continue;
      const descriptors = byQueue.get(queue);
      if (descriptors) descriptors.push(descriptor.take());
      else byQueue.set(queue, [descriptor.take()]);
    }
    // Order within a device holds, and devices do not wait for each other.
    await Promise.all(Array.from(byQueue, ([queue, descriptors]) => this.#closeOn(queue, descriptors)));
    for (const use of uses) use.release();
  }

  async #closeOn(queue: BlockingQueue, descriptors: readonly number[]): Promise<void> {
    const closed = await queue.closeAll(descriptors);
    // Linux frees the number whatever close(2) answers, so there is nothing to try again; but it should not happen.
    if (closed.error !== null) this.#observer.fault("host.close", new Error(text(closed.error)));
  }
}
