// Which devices are taken together, whoever leases which of them: the IOMMU group, because the kernel gives a group to one IOMMU context at a time; what a hot reset takes
// down with a device that nothing else clears; and what the operator declares to belong together.

import type { Address, DeviceFacts } from "./device.js";
import type { PeerSet } from "./peer-set.js";
import { type HotResets, type Known, resetSetOf } from "./reset-set.js";

/** What of a device ties it to others. */
export interface Tied extends Known {
  readonly peerSets: readonly PeerSet[];
}

/** Every address that is tied to the device, directly or over others; listed or not. */
export function tiedTo(start: DeviceFacts, hotResets: HotResets, get: (address: Address) => Tied | null): ReadonlySet<Address> {
  const found = new Set<Address>([start.address]);
  // A set in JavaScript is walked to its end also when it grows meanwhile.
  for (const address of found) {
    const known = get(address);
    const group = (address === start.address ? start : known?.facts)?.iommuGroup;
    for (const member of group?.members ?? []) found.add(member.address);
    for (const addresses of hotResets.naming(address)) for (const other of addresses) found.add(other);
    for (const { devices } of known?.peerSets ?? []) for (const other of devices) found.add(other);
  }
  return found;
}

/** How another device is tied to this one, for a person. */
export function tieBetween({ facts, probe, peerSets }: Tied, other: Address): string {
  if (facts.iommuGroup?.members.some((member) => member.address === other)) return "is in its IOMMU group";
  if (resetSetOf({ facts, probe })?.addresses.includes(other)) return "is reset together with it";
  const peers = peerSets.find(({ devices }) => devices.includes(other));
  if (peers !== undefined) return `is declared its peer ("${peers.name}")`;
  return "is tied to it by another's group, reset or peers";
}
