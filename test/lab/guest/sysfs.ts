// The kernel's own view of a PCI function, to compare everything else with.

import { existsSync, readdirSync, readFileSync, readlinkSync } from "node:fs";
import { basename, join } from "node:path";

const devicesFolder = "/sys/bus/pci/devices";

export function attribute(address: string, name: string): string | null {
  const path = join(devicesFolder, address, name);
  return existsSync(path) ? readFileSync(path, "utf8").trim() : null;
}

/** The name of what a link of the device points at: its driver, its IOMMU group. */
export function linkName(address: string, name: string): string | null {
  const path = join(devicesFolder, address, name);
  return existsSync(path) ? basename(readlinkSync(path)) : null;
}

/** "vendor:device" as in lspci -n. */
export function ids(address: string): string {
  return ["vendor", "device"].map((name) => (attribute(address, name) ?? "").replace("0x", "")).join(":");
}

/** The addresses of all functions in the device's IOMMU group, itself included. */
export function groupMembers(address: string): string[] {
  return readdirSync(join(devicesFolder, address, "iommu_group/devices")).sort();
}

/** Sizes of the BARs that the device has, by number: one line "start end flags" each, zeros for none. */
export function barSizes(address: string): Record<number, number> {
  const lines = (attribute(address, "resource") ?? "").split("\n").slice(0, 6);
  const sizes = lines.map((line, bar) => {
    const [start = 0n, end = 0n] = line.split(" ").map(BigInt);
    return [bar, end === 0n ? 0 : Number(end - start + 1n)] as const;
  });
  return Object.fromEntries(sizes.filter(([, size]) => size > 0));
}

/** "vfio3", the name of the device's own VFIO node; null where the kernel has none. */
export function vfioNode(address: string): string | null {
  const folder = join(devicesFolder, address, "vfio-dev");
  return existsSync(folder) ? (readdirSync(folder)[0] ?? null) : null;
}
