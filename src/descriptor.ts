// The only form in which a descriptor lives in TypeScript: an object that owns it, closes it once, and throws when it is used afterwards.
// A number that outlives its descriptor is how one client's device ends up at another's: the kernel reuses numbers at once.

import { native } from "./native.js";

export class OwnedDescriptor {
  #number: number;
  readonly #label: string;

  /** Takes ownership. label: what it is, for the message of a misuse. */
  constructor(number: number, label: string) {
    this.#number = number;
    this.#label = label;
  }

  get isOpen(): boolean {
    return this.#number >= 0;
  }

  /** The number, for a call that does not keep it. */
  borrow(): number {
    if (this.#number < 0) throw new Error(`descriptor of ${this.#label} is used after it was closed`);
    return this.#number;
  }

  /** Gives the number and its ownership away. */
  take(): number {
    const number = this.borrow();
    this.#number = -1;
    return number;
  }

  /** Closes what never blocks (sockets, pidfds, memfds, iommufds without devices). A VFIO device is closed through its queue: take() it. */
  close(): void {
    if (this.#number >= 0) native.closeDescriptor(this.take());
  }
}
