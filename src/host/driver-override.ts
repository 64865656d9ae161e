// driver_override, read apart from the other attributes because reading it can wait for the device's lock (locked-attribute.ts).

import type { Native } from "../native.js";
import { LockedAttribute } from "./locked-attribute.js";

export class DriverOverrides {
  readonly #attribute: LockedAttribute;
  /** Last answer of each device, for the time in which the kernel gives none. */
  readonly #last = new Map<string, string>();

  constructor(native: Pick<Native, "BlockingQueue">, sysRoot: string, patienceMs = 500) {
    this.#attribute = new LockedAttribute(native, sysRoot, "driver_override", patienceMs);
  }

  /** The value; empty when not set. While the device is locked: what it was before. */
  async read(address: string): Promise<string> {
    const text = await this.#attribute.read(address);
    if (text === null) return this.#last.get(address) ?? "";
    const value = text.trim();
    // The kernel prints a null pointer as "(null)".
    const override = value === "(null)" || value.length > 256 || !/^[\x20-\x7e]*$/.test(value) ? "" : value;
    this.#last.set(address, override);
    return override;
  }

  /** Forgets devices that have gone. */
  keepOnly(addresses: ReadonlySet<string>): void {
    for (const address of this.#last.keys()) if (!addresses.has(address)) this.#last.delete(address);
  }
}
