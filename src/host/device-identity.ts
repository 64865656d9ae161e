// What does not change of a function as long as it is there, read once when it appears, and what changes only with its driver, read once for each binding: at each scan of a
// thousand devices it would be most of the work. A function that was replaced by another one at the same address is seen by its link in /sys/bus/pci/devices:
// a new one has another inode number.

import { lstat, readdir, readlink } from "node:fs/promises";
import { basename, join } from "node:path";
import { type Address, parseAddress } from "../broker/device.js";
import type { Link, PciePlace } from "../broker/facts.js";
import { devicesFolder, type IdTexts, readAttribute } from "./sysfs-device.js";

export interface Identity {
  readonly inode: bigint;
  readonly ids: IdTexts;
  readonly isBridge: boolean;
  readonly revisionId: number | null;
  readonly subsystem: { readonly vendorId: number; readonly deviceId: number } | null;
  readonly where: { readonly root: string; readonly ports: readonly Address[] } | null;
}

/** What a binding may change. */
export interface BoundIdentity {
  readonly place: PciePlace | null;
  /** sriov_totalvfs; a driver may allow fewer than the device has. */
  readonly totalVfs: number | null;
}

async function orNull<T>(read: Promise<T>): Promise<T | null> {
  try {
    return await read;
  } catch {
    return null;
  }
}

/** null: the function is not there. */
export async function readInode(sysRoot: string, address: string): Promise<bigint | null> {
  const facts = await orNull(lstat(join(devicesFolder(sysRoot), address), { bigint: true }));
  return facts === null ? null : facts.ino;
}

function hex(text: string | null, digits: number): number | null {
  return text !== null && new RegExp(`^0x[0-9a-f]{${digits}}$`).test(text) ? Number.parseInt(text.slice(2), 16) : null;
}

/** Reads what stays. Anything that cannot be read or makes no sense is null: these are facts that a device can do without. */
export async function readIdentity(sysRoot: string, address: Address, inode: bigint, ids: IdTexts, isBridge: boolean): Promise<Identity> {
  const folder = join(devicesFolder(sysRoot), address);
  const attribute = (name: string) => orNull(readAttribute(join(folder, name)));
  if (isBridge) return { inode, ids, isBridge, revisionId: null, subsystem: null, where: null };
  const [revision, subsystemVendor, subsystemDevice, target] = await Promise.all([
    attribute("revision"),
    attribute("subsystem_vendor"),
    attribute("subsystem_device"),
    orNull(readlink(folder)),
  ]);
  const [vendorId, deviceId] = [hex(subsystemVendor, 4), hex(subsystemDevice, 4)];
  return {
    inode,
    ids,
    isBridge,
    revisionId: hex(revision, 2),
    subsystem: vendorId === null || deviceId === null ? null : { vendorId, deviceId },
    where: target === null ? null : whereIs(target, address),
  };
}

/** Of `../../../devices/pci0000:00/0000:00:15.0/0000:01:00.0`: the root and what lies between. */
export function whereIs(target: string, address: Address): Identity["where"] {
  const parts = target.split("/");
  const root = parts.findIndex((part) => /^pci[0-9a-f]{4,8}:[0-9a-f]{2}$/.test(part));
  if (root < 0 || parts.at(-1) !== address) return null;
  const ports = parts
    .slice(root + 1, -1)
    .map(parseAddress)
    .filter((port) => port !== null);
  return { root: parts[root] ?? "", ports };
}

/** Reads what a driver may have changed. */
export async function readBoundIdentity(sysRoot: string, address: Address, identity: Identity): Promise<BoundIdentity> {
  const folder = join(devicesFolder(sysRoot), address);
  const attribute = (name: string) => orNull(readAttribute(join(folder, name)));
  const [speed, width, maxSpeed, maxWidth, total] = await Promise.all(
    ["current_link_speed", "current_link_width", "max_link_speed", "max_link_width", "sriov_totalvfs"].map(attribute),
  );
  const link: Link = {
    currentSpeedMts: speedOf(speed ?? null),
    currentWidth: widthOf(width ?? null),
    maxSpeedMts: speedOf(maxSpeed ?? null),
    maxWidth: widthOf(maxWidth ?? null),
  };
  const known = Object.values(link).some((value) => value !== null);
  const totalVfs = /^\d{1,5}$/.test(total ?? "") ? Number(total) : 0;
  return {
    place: identity.where === null ? null : { ...identity.where, link: known ? link : null },
    totalVfs: totalVfs > 0 ? totalVfs : null,
  };
}

/** `16.0 GT/s PCIe`, or `Unknown` (drivers/pci/probe.c pci_speed_string). */
export function speedOf(text: string | null): number | null {
  const number = /^(\d{1,3}\.\d) GT\/s(?: PCIe)?$/.exec(text ?? "")?.[1];
  return number === undefined ? null : Math.round(Number(number) * 1000);
}

/** 0 where the link is down, 63 and 255 where registers read as ones. */
export function widthOf(text: string | null): number | null {
  return /^(1|2|4|8|12|16|32)$/.test(text ?? "") ? Number(text) : null;
}

/** Number of each virtual function of a physical one, by address: its links virtfnN. */
export async function readVirtualFunctions(sysRoot: string, physicalFunction: Address): Promise<ReadonlyMap<string, number>> {
  const folder = join(devicesFolder(sysRoot), physicalFunction);
  const names = ((await orNull(readdir(folder))) ?? []).filter((name) => /^virtfn\d{1,5}$/.test(name));
  const links = await Promise.all(
    names.map(async (name) => [basename((await orNull(readlink(join(folder, name)))) ?? ""), Number(name.slice("virtfn".length))] as const),
  );
  return new Map(links.filter(([address]) => address !== ""));
}
