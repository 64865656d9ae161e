// Names that a VMM knows devices by. They are made of the address alone, so that the same device has the same name in every VM, after every restart, and on both sides of a
// live replacement: QEMU's CPR, Cloud Hypervisor's migration and KubeVirt all match by id. None starts with a digit, which QEMU's monitor refuses for descriptors.

import type { Address } from "../broker/device.js";

export const IOMMUFD_ID = "iommufd0";

/** vfio-0000-01-00-0: letters, digits and dashes are what QEMU (id_wellformed), libvirt and Cloud Hypervisor all allow. */
export function deviceId(address: Address): string {
  return `vfio-${dashed(address)}`;
}

export function rootPortId(address: Address): string {
  return `rp-${dashed(address)}`;
}

export function initiatorId(address: Address, index: number): string {
  return `gi-${dashed(address)}-${index}`;
}

/** libvirt keeps an alias of its users' only with this prefix. */
export function libvirtAlias(address: Address): string {
  return `ua-${deviceId(address)}`;
}

function dashed(address: Address): string {
  return address.replace(/[:.]/g, "-");
}
