// The descriptors of one lease, with what the client is told of each.

import type { Address } from "../broker/device.js";
import type { DescriptorInfo, DescriptorKind, LeaseDescriptor, OpenedLease, Scope } from "../broker/ports.js";
import type { OwnedDescriptor } from "../descriptor.js";
import type { Holding } from "./holding.js";

const SCOPES: Readonly<Record<DescriptorKind, Scope>> = {
  IOMMUFD: "IOMMU",
  CONTAINER: "IOMMU",
  // A group descriptor gives a descriptor of every device in the group (VFIO_GROUP_GET_DEVICE_FD).
  GROUP: "DEVICE",
  DEVICE_UNBOUND: "DEVICE",
  DEVICE: "DEVICE",
  REGION: "REGION",
};

/** Facts of a descriptor; what does not apply to its kind stays null or 0. */
export function describe(
  kind: DescriptorKind,
  facts: Partial<Pick<DescriptorInfo, "address" | "region" | "group" | "size">> = {},
): DescriptorInfo {
  return { kind, scope: SCOPES[kind], address: null, region: null, group: null, offset: 0n, size: 0n, ...facts };
}

/** A descriptor of a device without more to tell. */
export function describeDevice(kind: "DEVICE" | "DEVICE_UNBOUND", address: Address): DescriptorInfo {
  return describe(kind, { address });
}

export class HostLease implements OpenedLease {
  readonly descriptors: readonly LeaseDescriptor[];
  readonly vfTokens: ReadonlyMap<Address, Uint8Array> | null;
  readonly #holding: Holding;
  readonly #handsOff: boolean;

  /** holding: all that the lease opened, also what is not sent. handsOff: whether the broker closes its copies once the client has them. */
  constructor(
    holding: Holding,
    descriptors: readonly { readonly info: DescriptorInfo; readonly descriptor: OwnedDescriptor }[],
    handsOff: boolean,
    vfTokens: ReadonlyMap<Address, Uint8Array> | null = null,
  ) {
    this.vfTokens = vfTokens;
    this.#holding = holding;
    this.#handsOff = handsOff;
    this.descriptors = descriptors.map(({ info, descriptor }) => ({ info, borrow: () => descriptor.borrow() }));
  }

  async closeHandedOff(): Promise<void> {
    if (this.#handsOff) await this.#holding.close();
  }

  async close(): Promise<void> {
    await this.#holding.close();
  }
}
