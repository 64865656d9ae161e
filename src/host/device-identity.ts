// What does not change of a function as long as it is there, read once when it appears, and what changes only with its driver, read once for each binding: at each scan of a
// thousand devices it would be most of the work. A function that was replaced by another one at the same address is seen by its link in /sys/bus/pci/devices:
// a new one has another inode number.

import { type Address, parseAddress } from "../broker/device.js";
import type { Link, PciePlace } from "../broker/facts.js";
import { kindOf } from "./device-words.js";
import type { FolderReader } from "./folder-reader.js";
import { hex, type Ids } from "./parsed-device.js";
import type { IdNumbers } from "./pci-ids.js";
import type { RawBound, RawIdentity } from "./raw-device.js";
import { rememberLast } from "./remember-last.js";
import { devicesFolder } from "./sysfs-device.js";

export interface Identity {
  readonly inode: bigint;
  readonly numbers: IdNumbers;
  /** Of devices that have the same names and driver candidates. */
  readonly kind: string;
  readonly isBridge: boolean;
  readonly revisionId: number | null;
  readonly where: { readonly root: string; readonly ports: readonly Address[] } | null;
}

/** What a binding may change. */
export interface BoundIdentity {
  readonly place: PciePlace | null;
  /** sriov_totalvfs; a driver may allow fewer than the device has. */
  readonly totalVfs: number | null;
}

/** What stays. Anything that makes no sense is null: these are facts that a device can do without. */
export function identityOf(address: Address, inode: bigint, ids: Ids, raw: RawIdentity, isBridge: boolean): Identity {
  const { numbers, kind } = numbersOf(ids.vendorId, ids.deviceId, ids.classCode, raw.subsystemVendor, raw.subsystemDevice);
  return {
    inode,
    numbers,
    kind,
    isBridge,
    revisionId: hex(raw.revision, 2),
    where: raw.target === null ? null : whereIs(raw.target, address),
  };
}

const numbersOf = rememberLast(
  (vendorId: number, deviceId: number, classCode: number, subsystemVendor: string | null, subsystemDevice: string | null) => {
    const [boardVendor, board] = [hex(subsystemVendor, 4), hex(subsystemDevice, 4)];
    const subsystem = boardVendor === null || board === null ? null : { vendorId: boardVendor, deviceId: board };
    const numbers = { vendorId, deviceId, classCode, subsystem };
    return { numbers, kind: kindOf(numbers) };
  },
);

/** Of `../../../devices/pci0000:00/0000:00:15.0/0000:01:00.0`: the root and what lies between. */
export function whereIs(target: string, address: Address): Identity["where"] {
  const end = target.lastIndexOf("/");
  return target.slice(end + 1) === address ? whereBelow(target.slice(0, Math.max(0, end))) : null;
}

const whereBelow = rememberLast((path: string): Identity["where"] => {
  const parts = path.split("/");
  const root = parts.findIndex((part) => /^pci[0-9a-f]{4,8}:[0-9a-f]{2}$/.test(part));
  if (root < 0) return null;
  const ports = parts
    .slice(root + 1)
    .map(parseAddress)
    .filter((port) => port !== null);
  return { root: parts[root] ?? "", ports };
});

/** What a driver may have changed. */
export function boundIdentityOf(identity: Identity, raw: RawBound): BoundIdentity {
  const link = linkOf(raw.currentLinkSpeed, raw.currentLinkWidth, raw.maxLinkSpeed, raw.maxLinkWidth);
  const totalVfs = raw.totalVfs !== null && /^\d{1,5}$/.test(raw.totalVfs) ? Number(raw.totalVfs) : 0;
  return {
    place: identity.where === null ? null : { root: identity.where.root, ports: identity.where.ports, link },
    totalVfs: totalVfs > 0 ? totalVfs : null,
  };
}

const linkOf = rememberLast((speed: string | null, width: string | null, maxSpeed: string | null, maxWidth: string | null): Link | null => {
  const link: Link = {
    currentSpeedMts: speedOf(speed),
    currentWidth: widthOf(width),
    maxSpeedMts: speedOf(maxSpeed),
    maxWidth: widthOf(maxWidth),
  };
  return Object.values(link).some((value) => value !== null) ? link : null;
});

/** `16.0 GT/s PCIe`, or `Unknown` (drivers/pci/probe.c pci_speed_string). */
export function speedOf(text: string | null): number | null {
  const number = /^(\d{1,3}\.\d) GT\/s(?: PCIe)?$/.exec(text ?? "")?.[1];
  return number === undefined ? null : Math.round(Number(number) * 1000);
}

/** 0 where the link is down, 63 and 255 where registers read as ones. */
export function widthOf(text: string | null): number | null {
  return /^(1|2|4|8|12|16|32)$/.test(text ?? "") ? Number(text) : null;
}

/** Number of each virtual function of some physical ones, by the addresses of both: their links virtfnN. */
export async function readVirtualFunctions(
  reader: FolderReader,
  sysRoot: string,
  physicalFunctions: readonly Address[],
): Promise<ReadonlyMap<string, number>> {
  const links: string[] = [];
  await reader.read(devicesFolder(sysRoot), physicalFunctions, [{ kind: "names", name: "" }], (physical, walk) => {
    for (const name of walk.names() ?? []) if (/^virtfn\d{1,5}$/.test(name)) links.push(`${physical}/${name}`);
    walk.unreadable();
  });
  const numbers = new Map<string, number>();
  await reader.read(devicesFolder(sysRoot), links, [{ kind: "link", name: "" }], (path, walk) => {
    const virtual = walk.linkName();
    walk.unreadable();
    const [physical = "", name = ""] = path.split("/");
    if (virtual !== null) numbers.set(virtualKey(physical, virtual), Number(name.slice("virtfn".length)));
  });
  return numbers;
}

export function virtualKey(physical: string, virtual: string): string {
  return `${physical} ${virtual}`;
}
