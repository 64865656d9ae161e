// Which devices must be leased together because of how they are reset. A function with a reset of its own (VFIO_DEVICE_FLAGS_RESET: FLR and the like) is cleared by
// that alone, and its neighbours are nobody's business: virtual functions and the ports of one card go to different clients. A function without one is cleared only
// by a hot reset, which the kernel does (also by itself, at the last close: drivers/vfio/pci/vfio_pci_core.c vfio_pci_dev_set_try_reset) only while nobody
// else has any of the set open. So with two holders such a device would never be cleared at all.

import type { Address, DeviceFacts, DeviceProbe } from "./device.js";
import type { ResetSet } from "./facts.js";

/** What is known of a device: its probe is null until it was read. */
export interface Known {
  readonly facts: DeviceFacts;
  readonly probe: DeviceProbe | null;
}

/** The kernel's own answer once the device was read, by topology before. */
export function resetSetOf({ facts, probe }: Known): ResetSet | null {
  return probe === null ? facts.resetSet : probe.resetSet;
}

/** Whether only a hot reset clears the device. */
export function isLeasedTogether(known: Known): boolean {
  return known.probe !== null && !known.probe.resetSupported && known.probe.resetSet !== null;
}

/** Which hot resets a device is part of: its own, and those of others. Kept up to date, because it is asked at each acquire and a host can have thousands of devices. */
export class HotResets {
  /** What must be leased together because of one device's reset. */
  readonly #of = new Map<Address, readonly Address[]>();
  /** Device → the sets that name it, each by the device that it is of. */
  readonly #naming = new Map<Address, Map<Address, readonly Address[]>>();

  /** What is known of a device now. */
  set(known: Known): void {
    const { address } = known.facts;
    const addresses = isLeasedTogether(known) ? (resetSetOf(known)?.addresses ?? []) : [];
    const before = this.#of.get(address) ?? null;
    const now = addresses.length < 2 ? null : addresses;
    if (before === now) return;
    this.delete(address);
    if (now === null) return;
    this.#of.set(address, addresses);
    for (const named of addresses) {
      const naming = this.#naming.get(named) ?? new Map<Address, readonly Address[]>();
      naming.set(address, addresses);
      this.#naming.set(named, naming);
    }
  }

  delete(address: Address): void {
    for (const named of this.#of.get(address) ?? []) {
      const naming = this.#naming.get(named);
      naming?.delete(address);
      if (naming?.size === 0) this.#naming.delete(named);
    }
    this.#of.delete(address);
  }

  /** The sets that name the device. */
  naming(address: Address): Iterable<readonly Address[]> {
    return this.#naming.get(address)?.values() ?? [];
  }
}
