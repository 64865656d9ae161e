// The text of one PCI function as facts. What is written there is not trusted.

import { type Address, type DeviceFacts, parseAddress } from "../broker/device.js";
import { isVfioName } from "./leaving.js";
import type { Binding, RawDevice, RawIds } from "./raw-device.js";
import { rememberLast } from "./remember-last.js";

export type Ids = Pick<DeviceFacts, "vendorId" | "deviceId" | "classCode">;

/** What changes from scan to scan, as the function's own files tell it. */
export type ParsedFacts = Pick<DeviceFacts, "driver" | "resetMethods" | "numaNode" | "physicalFunction" | "vfioBound" | "bindKey">;

const HEX = { 2: /^0x[0-9a-f]{2}$/, 4: /^0x[0-9a-f]{4}$/, 6: /^0x[0-9a-f]{6}$/ } as const;
const DRIVER_NAME = /^[\x20-\x7e]{1,64}$/;

export function hex(text: string | null, digits: keyof typeof HEX): number | null {
  return text !== null && HEX[digits].test(text) ? Number.parseInt(text.slice(2), 16) : null;
}

export function shown(text: string | null): string {
  return text === null ? "nothing" : JSON.stringify(text.length > 40 ? `${text.slice(0, 40)}…` : text);
}

/** The ids; or what is wrong with them. */
export function parseIds(raw: RawIds): { readonly ids: Ids } | { readonly fault: string } {
  const [vendorId, deviceId, classCode] = [hex(raw.vendor, 4), hex(raw.device, 4), hex(raw.class, 6)];
  if (vendorId !== null && deviceId !== null && classCode !== null) return { ids: { vendorId, deviceId, classCode } };
  const [name, text] = vendorId === null ? ["vendor", raw.vendor] : deviceId === null ? ["device", raw.device] : ["class", raw.class];
  return { fault: `${name} reads ${shown(text)}${raw.unreadable.length > 0 ? ` (${raw.unreadable.join("; ")})` : ""}` };
}

/** The rest; faults: what was wrong with some of it and is left out. */
export function parseDevice(
  address: Address,
  raw: RawDevice,
): { readonly facts: ParsedFacts; readonly faults: readonly string[] } | { readonly fault: string } {
  const { driver, vfioDevices } = raw.binding;
  if (driver !== null && !DRIVER_NAME.test(driver.name)) return { fault: `driver reads ${shown(driver.name)}` };
  const faults = [...raw.binding.unreadable, ...raw.unreadable];

  const resetMethods = raw.resetMethod === null ? NO_WORDS : resetMethodsOf(raw.resetMethod);
  if (resetMethods === null) faults.push(`reset_method reads ${shown(raw.resetMethod)}`);
  let numaNode: number | null = null;
  if (raw.numaNode !== null) {
    if (/^-?\d{1,5}$/.test(raw.numaNode)) numaNode = Number(raw.numaNode) < 0 ? null : Number(raw.numaNode);
    else faults.push(`numa_node reads ${shown(raw.numaNode)}`);
  }
  const physicalFunction = raw.physicalFunction === null ? null : parseAddress(raw.physicalFunction);
  if (raw.physicalFunction !== null && physicalFunction === null) faults.push(`physfn points at ${shown(raw.physicalFunction)}`);

  return {
    facts: {
      driver: boundDriver(raw.binding),
      resetMethods: resetMethods ?? NO_WORDS,
      numaNode,
      physicalFunction,
      vfioBound: vfioDevices.length > 0,
      bindKey: bindKeyOf(address, raw.binding),
    },
    faults,
  };
}

const NO_WORDS: readonly string[] = [];

/** As `flr bus`; null: it makes no sense. */
const resetMethodsOf = rememberLast((text: string): readonly string[] | null => {
  const words = text.split(" ").filter((word) => word !== "");
  return words.length <= 16 && words.every((word) => /^[a-z_]{1,32}$/.test(word)) ? words : null;
});

/** Name of the driver that has the device; empty also while a VFIO driver's probe of it still runs. */
export function boundDriver({ driver, vfioDevices }: Pick<Binding, "driver" | "vfioDevices">): string {
  return driver === null || (vfioDevices.length === 0 && isVfioName(driver.name)) ? "" : driver.name;
}

/** Changes with every bind. */
export function bindKeyOf(address: Address, { driver, vfioDevices }: Pick<Binding, "driver" | "vfioDevices">): string {
  return `${address} ${driver?.name ?? ""} ${driver?.inode ?? 0n} ${vfioDevices.join(",")}`;
}
