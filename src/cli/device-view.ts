// A device for people: one line in the list, or everything about it.

import type { Device, Region } from "../client/index.js";
import { printable } from "./printable.js";
import { hex, hexAndHuman, humanSize } from "./size.js";
import { type Cell, type Column, renderFacts, renderTable } from "./table.js";
import { type Colour, paint } from "./terminal.js";

const LIST_COLUMNS: readonly Column[] = [
  { title: "ADDRESS" },
  { title: "ID" },
  { title: "CLASS" },
  { title: "DRIVER" },
  { title: "GROUP", align: "right" },
  { title: "LARGEST", align: "right" },
  { title: "STATE" },
  { title: "CAN BE LEASED" },
];

const REGION_COLUMNS: readonly Column[] = [
  { title: "REGION", align: "right" },
  { title: "KIND" },
  { title: "SIZE" },
  { title: "BACKED" },
  { title: "TAIL" },
  { title: "MEMORY" },
  { title: "ACCESS" },
  { title: "BAR TYPE" },
];

export function renderDeviceList(devices: readonly Device[], colour: boolean): string {
  return renderTable(
    LIST_COLUMNS,
    devices.map((device) => [
      device.address,
      ids(device),
      hex(device.classCode, 6),
      device.driver,
      device.iommuGroup === null ? "" : String(device.iommuGroup.id),
      device.regions.length === 0 ? "" : humanSize(largest(device.regions)),
      stateCell(device),
      leasability(device),
    ]),
    colour,
  );
}

export function renderDevice(device: Device, colour: boolean): string {
  const facts: (readonly [string, Cell])[] = [
    ["ids", `${ids(device)} class ${hex(device.classCode, 6)}`],
    ["driver", device.driver === "" ? "none is bound" : device.driver],
    ["state", stateCell(device)],
    ...(device.stateDetail === "" ? [] : [["", device.stateDetail] as const]),
    ["can be leased", leasability(device)],
    ["back ends", device.backends.join(", ")],
    ["IOMMU group", group(device)],
    ["reset", reset(device)],
    ["NUMA node", device.numaNode === null ? "unknown to the kernel" : String(device.numaNode)],
    ...(device.physicalFunction === null ? [] : [["virtual function of", device.physicalFunction] as const]),
  ];
  return [
    `${paint(printable(device.address), "bold", colour)}\n`,
    renderFacts(facts, colour),
    reasons(device, colour),
    members(device, colour),
    regions(device, colour),
  ].join("");
}

/** `10de:2342`. */
export function ids(device: Device): string {
  return `${device.vendorId.toString(16).padStart(4, "0")}:${device.deviceId.toString(16).padStart(4, "0")}`;
}

/** `yes`, `not now` when somebody has it, or the codes of what is in the way. */
export function leasability(device: Device): Cell {
  const codes = device.ineligibleReasons.map(({ reason }) => reason);
  if (codes.length > 0) return { text: `no: ${codes.join(", ")}`, colour: "red" };
  return device.state === "FREE" ? { text: "yes", colour: "green" } : { text: "not now", colour: "yellow" };
}

export function stateCell(device: Device): Cell {
  return { text: device.state, colour: stateColour(device) };
}

function stateColour(device: Device): Colour {
  if (device.state === "FREE") return "plain";
  return device.state === "QUARANTINED" || device.state === "REMOVED" ? "red" : "yellow";
}

function largest(regions: readonly Region[]): bigint {
  let most = 0n;
  for (const { size } of regions) if (size > most) most = size;
  return most;
}

function group(device: Device): Cell {
  if (device.iommuGroup === null) return { text: "none: no IOMMU, or it is switched off", colour: "red" };
  const { id, viable, members: all } = device.iommuGroup;
  const others = all.length === 1 ? "this device alone" : `${all.length} devices`;
  return viable ? `${id}, viable, ${others}` : { text: `${id}, NOT viable, ${others}`, colour: "red" };
}

function reset(device: Device): string {
  const methods = device.resetMethods.length === 0 ? "no method" : device.resetMethods.join(", ");
  if (device.resetSupported === null) return `${methods} (the VFIO driver was not asked)`;
  return `${methods} (the VFIO driver says ${device.resetSupported ? "yes" : "no"})`;
}

function reasons(device: Device, colour: boolean): string {
  if (device.ineligibleReasons.length === 0) return "";
  const lines = device.ineligibleReasons.map(
    ({ reason, message }) => `  ${paint(printable(reason), "red", colour)}: ${printable(message)}\n`,
  );
  return ["\nWhy it cannot be leased:\n", ...lines].join("");
}

function members(device: Device, colour: boolean): string {
  const all = device.iommuGroup?.members ?? [];
  if (all.length < 2 && device.iommuGroup?.viable !== false) return "";
  const table = renderTable(
    [{ title: "MEMBER" }, { title: "DRIVER" }, { title: "KEEPS THE GROUP FROM VFIO" }],
    all.map(({ address, driver, spoils }) => [address, driver, spoils ? { text: "yes", colour: "red" } : "no"]),
    colour,
  );
  return `\nIOMMU group ${device.iommuGroup?.id ?? ""}:\n${table}`;
}

function regions(device: Device, colour: boolean): string {
  if (device.regions.length === 0) return "\nNo region is known: the device has not been probed.\n";
  const table = renderTable(REGION_COLUMNS, device.regions.map(regionRow), colour);
  const sources = device.regions.filter(({ mappable, memoryTypeSource }) => mappable && memoryTypeSource !== "");
  const lines = sources.map(
    ({ index, memoryType, memoryTypeSource }) => `  region ${index}: ${memoryName(memoryType)}: ${printable(memoryTypeSource)}\n`,
  );
  return [
    "\n",
    table,
    ...(lines.length === 0 ? [] : ["\nMemory types come from the broker's table, no kernel interface reports them:\n", ...lines]),
  ].join("");
}

function regionRow(region: Region): readonly Cell[] {
  const tail = region.size - region.backedSize;
  return [
    String(region.index),
    regionKind(region),
    hexAndHuman(region.size),
    tail === 0n ? "all" : hexAndHuman(region.backedSize),
    tail === 0n ? "none" : { text: hexAndHuman(tail), colour: "yellow" },
    region.mappable ? memoryName(region.memoryType) : "",
    [region.readable ? "read" : null, region.writable ? "write" : null, region.mappable ? "map" : null]
      .filter((word) => word !== null)
      .join(" "),
    region.bar === null ? "" : `${region.is64bit ? "64-bit" : "32-bit"}${region.prefetchable ? " prefetchable" : ""}`,
  ];
}

function regionKind(region: Region): string {
  if (region.bar !== null) return `BAR ${region.bar}`;
  if (region.type === null) return region.kind;
  return `${region.kind} ${hex(region.type.type)}/${hex(region.type.subtype)}`;
}

function memoryName(type: Region["memoryType"]): string {
  return type === "UNSPECIFIED" ? "not known" : type.toLowerCase().replaceAll("_", "-");
}
