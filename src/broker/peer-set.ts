// Devices that the operator declares to belong together. Some ties are told by no interface of the kernel: GPUs that reach each other's memory over NVLink, those whose
// host memory is exported as one EGM device. Whoever has one of them could reach the others', so they are locked together, as an IOMMU group is.

import type { Address } from "./address.js";

export interface PeerSet {
  /** Told in every refusal that it leads to. */
  readonly name: string;
  /** Two or more, each once; they need not be in the machine. */
  readonly devices: readonly Address[];
}

/** The sets by device: asked at each change of a device, and a host can have thousands. */
export class PeerSets {
  readonly #of = new Map<Address, readonly PeerSet[]>();

  constructor(sets: readonly PeerSet[]) {
    for (const set of sets) for (const device of set.devices) this.#of.set(device, [...this.of(device), set]);
  }

  /** The same array at each call, so that a change is told by its identity. */
  of(device: Address): readonly PeerSet[] {
    return this.#of.get(device) ?? NONE;
  }

  devices(): Iterable<Address> {
    return this.#of.keys();
  }
}

const NONE: readonly PeerSet[] = [];
