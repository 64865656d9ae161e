// Room for BARs in a guest. What counts is the padded size (vfio_region_info.size): a guest's BAR has it, however little memory is behind it.

import type { Region } from "../broker/device.js";
import type { KnownDevice } from "../broker/ports.js";
import { granted, type Outcome, refuse } from "../broker/refusal.js";

export function bars(device: KnownDevice): readonly Region[] {
  return device.probe.regions.filter(({ kind, size }) => kind === "BAR" && size > 0n);
}

/** QEMU's pci_register_bar() asserts a power of two: another size would kill it. The driver pads by construction, so this refuses a driver with a fault. */
export function checkBars(devices: readonly KnownDevice[]): Outcome<null> {
  for (const device of devices) {
    const odd = bars(device).find(({ size }) => !isPowerOfTwo(size));
    if (odd === undefined) continue;
    const { address, driver } = device.facts;
    const message = `${address}: ${driver} shows BAR ${odd.bar} with 0x${odd.size.toString(16)} bytes, which is no power of two: no guest can have such a BAR`;
    return refuse("BAR_NOT_POWER_OF_TWO", message, { address, region: String(odd.index) });
  }
  return granted(null);
}

/**
 * Bytes of 64-bit window that hold the BARs of all devices, each behind a root port of its own: a port's window is aligned to the largest BAR in it, so each device's sum is rounded up to
 * that; the whole is rounded up to a power of two, which QEMU's `virt` asks for.
 */
export function window64(devices: readonly KnownDevice[]): bigint {
  let total = 0n;
  for (const device of devices) {
    const sizes = bars(device)
      .filter(({ is64bit }) => is64bit)
      .map(({ size }) => size);
    const sum = sizes.reduce((all, size) => all + size, 0n);
    total += roundUp(sum, largestOf(sizes));
  }
  return powerOfTwoFrom(total);
}

/** What a process maps of the BARs: the memory that is really there. */
export function mappedBytes(devices: readonly KnownDevice[]): bigint {
  return devices
    .flatMap(bars)
    .filter(({ mappable }) => mappable)
    .reduce((sum, { backedSize }) => sum + backedSize, 0n);
}

export function isPowerOfTwo(size: bigint): boolean {
  return size > 0n && (size & (size - 1n)) === 0n;
}

/** At least 1. */
function largestOf(sizes: readonly bigint[]): bigint {
  let largest = 1n;
  for (const size of sizes) if (size > largest) largest = size;
  return largest;
}

function roundUp(value: bigint, to: bigint): bigint {
  return ((value + to - 1n) / to) * to;
}

function powerOfTwoFrom(value: bigint): bigint {
  let power = 1n;
  while (power < value) power *= 2n;
  return power;
}

const UNITS = ["", "K", "M", "G", "T", "P"] as const;

/** `512G`, as QEMU and Cloud Hypervisor read it (powers of 1024); without a unit where none is exact. */
export function sizeWord(bytes: bigint): string {
  let value = bytes;
  let unit = 0;
  while (value > 0n && value % 1024n === 0n && unit < UNITS.length - 1) {
    value /= 1024n;
    unit += 1;
  }
  return `${value}${UNITS[unit] ?? ""}`;
}
