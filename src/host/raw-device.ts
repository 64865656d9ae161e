// What a scan asks of one PCI function, and the answers as raw text. No attribute here takes the device's lock: driver_override and uevent do in some kernels, and are read apart
// (locked-attribute.ts).

import type { FolderEntry } from "../native.js";
import type { EntryWalk } from "./folder-reader.js";

/** Which driver has a function. */
export interface Binding {
  /** Name of the bound driver, and the inode of the link to it: a new one with every bind (sysfs-device.ts readDriver). */
  readonly driver: { readonly name: string; readonly inode: bigint } | null;
  /** Names below vfio-dev: vfioN. */
  readonly vfioDevices: readonly string[];
  /** Files that could not be read, with why: each is a fault worth a line in the log. */
  readonly unreadable: readonly string[];
}

/** One PCI function, unparsed. null: the file is not there, which is normal for each of them. */
export interface RawDevice {
  /** Of the link in /sys/bus/pci/devices: another one means another function. null: there is none. */
  readonly inode: bigint | null;
  readonly binding: Binding;
  readonly resetMethod: string | null;
  readonly numaNode: string | null;
  /** Number of the IOMMU group, as text. */
  readonly group: string | null;
  /** Address of the physical function, unchecked. */
  readonly physicalFunction: string | null;
  readonly unreadable: readonly string[];
}

/** The ids: they stay as long as the function is there. */
export interface RawIds {
  readonly vendor: string | null;
  readonly device: string | null;
  readonly class: string | null;
  readonly unreadable: readonly string[];
}

/** What else stays. Facts that a function can do without: whatever cannot be read is not there. */
export interface RawIdentity {
  readonly revision: string | null;
  readonly subsystemVendor: string | null;
  readonly subsystemDevice: string | null;
  /** Where the link in /sys/bus/pci/devices points. */
  readonly target: string | null;
}

/** What a binding may change. */
export interface RawBound {
  readonly currentLinkSpeed: string | null;
  readonly currentLinkWidth: string | null;
  readonly maxLinkSpeed: string | null;
  readonly maxLinkWidth: string | null;
  readonly totalVfs: string | null;
}

const text = (name: string): FolderEntry => ({ kind: "text", name });
const link = (name: string): FolderEntry => ({ kind: "link", name });
const inodeOf = (name: string): FolderEntry => ({ kind: "inode", name });
const names = (name: string): FolderEntry => ({ kind: "names", name });

export const BINDING: readonly FolderEntry[] = [link("driver"), inodeOf("driver"), names("vfio-dev")];

export function rawBinding(walk: EntryWalk): Binding {
  const name = walk.linkName();
  const inode = walk.inode();
  const vfioDevices = vfioNames(walk.names() ?? []);
  return { driver: name === null || inode === null ? null : { name, inode }, vfioDevices, unreadable: walk.unreadable() };
}

const VFIO_NAME = /^vfio\d{1,9}$/;

/** vfioN of each VFIO device, of the names below vfio-dev. */
export function vfioNames(found: readonly string[]): readonly string[] {
  return found.filter((name) => VFIO_NAME.test(name)).sort();
}

/** Read at each scan. The inode first: what follows may be of a later function at the same address, never of an earlier one, and the next scan sees another inode then. */
export const EACH_SCAN: readonly FolderEntry[] = [
  ...[inodeOf(""), ...BINDING],
  ...[text("reset_method"), text("numa_node"), link("iommu_group"), link("physfn")],
];

export function rawDevice(walk: EntryWalk): RawDevice {
  const inode = walk.inode();
  // An inode that cannot be read is a function that is not there.
  walk.unreadable();
  return {
    inode,
    binding: rawBinding(walk),
    resetMethod: walk.text(),
    numaNode: walk.text(),
    group: walk.linkName(),
    physicalFunction: walk.linkName(),
    unreadable: walk.unreadable(),
  };
}

/** Read once, when the function appears. */
export const ONCE: readonly FolderEntry[] = [
  ...["vendor", "device", "class", "revision", "subsystem_vendor", "subsystem_device"].map(text),
  link(""),
];

export function rawOnce(walk: EntryWalk): { readonly ids: RawIds; readonly identity: RawIdentity } {
  const ids = { vendor: walk.text(), device: walk.text(), class: walk.text(), unreadable: walk.unreadable() };
  const identity = { revision: walk.text(), subsystemVendor: walk.text(), subsystemDevice: walk.text(), target: walk.link() };
  walk.unreadable();
  return { ids, identity };
}

/** Read once for each binding. */
export const EACH_BIND: readonly FolderEntry[] = [
  ...["current_link_speed", "current_link_width", "max_link_speed", "max_link_width", "sriov_totalvfs"].map(text),
];

export function rawBound(walk: EntryWalk): RawBound {
  const raw = {
    currentLinkSpeed: walk.text(),
    currentLinkWidth: walk.text(),
    maxLinkSpeed: walk.text(),
    maxLinkWidth: walk.text(),
    totalVfs: walk.text(),
  };
  walk.unreadable();
  return raw;
}
