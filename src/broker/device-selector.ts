// Which devices a policy rule covers, as an operator writes it.

import { type Address, parseAddress } from "./address.js";
import type { DeviceFacts } from "./device.js";

export type DeviceSelector =
  | { readonly by: "any" }
  | { readonly by: "address"; readonly address: Address }
  /** deviceId null: every device of the vendor. */
  | { readonly by: "id"; readonly vendorId: number; readonly deviceId: number | null }
  /** The leading digits of the class code: 2 for the class, 4 with the subclass, 6 with the programming interface. */
  | { readonly by: "class"; readonly digits: string }
  | { readonly by: "driver"; readonly driver: string }
  | { readonly by: "group"; readonly group: number };

export const SELECTOR_FORMS =
  'an address "0000:01:00.0", vendor:device "10de:2342" or "10de:*", "class:0302" (2, 4 or 6 digits), "driver:NAME", "group:12", or "*" for all';

/** null: the text is none of SELECTOR_FORMS. Hexadecimal digits are lower case, as sysfs writes them. */
export function parseDeviceSelector(text: string): DeviceSelector | null {
  if (text === "*") return { by: "any" };
  const id = /^([0-9a-f]{4}):([0-9a-f]{4}|\*)$/.exec(text);
  if (id?.[1] && id[2]) {
    return { by: "id", vendorId: Number.parseInt(id[1], 16), deviceId: id[2] === "*" ? null : Number.parseInt(id[2], 16) };
  }
  const named = /^(class|driver|group):(.*)$/s.exec(text);
  const value = named?.[2] ?? "";
  switch (named?.[1]) {
    case "class":
      return /^(?:[0-9a-f]{2}){1,3}$/.test(value) ? { by: "class", digits: value } : null;
    case "driver":
      return /^[A-Za-z0-9_.-]{1,64}$/.test(value) ? { by: "driver", driver: value } : null;
    case "group":
      return /^(?:0|[1-9][0-9]{0,8})$/.test(value) ? { by: "group", group: Number(value) } : null;
  }
  const address = parseAddress(text);
  return address === null ? null : { by: "address", address };
}

/** As it stands in the file. */
export function selectorWords(selector: DeviceSelector): string {
  const hex = (id: number): string => id.toString(16).padStart(4, "0");
  switch (selector.by) {
    case "any":
      return "*";
    case "address":
      return selector.address;
    case "id":
      return `${hex(selector.vendorId)}:${selector.deviceId === null ? "*" : hex(selector.deviceId)}`;
    case "class":
      return `class:${selector.digits}`;
    case "driver":
      return `driver:${selector.driver}`;
    case "group":
      return `group:${selector.group}`;
  }
}

export type SelectableDevice = Pick<DeviceFacts, "address" | "vendorId" | "deviceId" | "classCode" | "driver" | "iommuGroup">;

export function selects(selector: DeviceSelector, device: SelectableDevice): boolean {
  switch (selector.by) {
    case "any":
      return true;
    case "address":
      return selector.address === device.address;
    case "id":
      return selector.vendorId === device.vendorId && (selector.deviceId === null || selector.deviceId === device.deviceId);
    case "class":
      return device.classCode.toString(16).padStart(6, "0").startsWith(selector.digits);
    case "driver":
      return selector.driver === device.driver;
    case "group":
      return selector.group === device.iommuGroup?.id;
  }
}
