// Secrets cross tenants when a device cannot be reset: on ivshmem, which has no reset, the next opener read the word that the one before had written,
// and the kernel does not tell (vfio_pci_core_disable() ignores the result of its own reset). So the broker remembers who had a device last until a reset has
// succeeded. A tenant is a uid.

import type { Address } from "./device.js";
import { granted, type Outcome, refuse } from "./refusal.js";

export class TenantMemory {
  readonly #lastUid = new Map<Address, number>();

  /** A lease of this user has ended without a successful reset. */
  soiled(address: Address, uid: number): void {
    this.#lastUid.set(address, uid);
  }

  /** The device was reset, or is a new one. */
  cleaned(address: Address): void {
    this.#lastUid.delete(address);
  }

  /** Whether the device may go to this user. */
  check(address: Address, uid: number, allowUnreset: boolean): Outcome<null> {
    const last = this.#lastUid.get(address);
    if (last === undefined || last === uid || allowUnreset) return granted(null);
    return refuse("RESET_UNAVAILABLE", `${address} has no reset method and may still hold data of the user who had it before`, { address });
  }
}
