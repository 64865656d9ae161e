// Everything about one device, for people.

import type { Device, Region } from "../client/index.js";
import { drawApertures } from "./aperture-drawing.js";
import { deviceName, factGroups } from "./device-facts.js";
import { renderFactGroups } from "./fact-sheet.js";
import { printable } from "./printable.js";
import { hex, hexAndHuman, humanSize } from "./size.js";
import { type Cell, type Column, renderTable, wrapped } from "./table.js";
import { type Look, paint } from "./terminal.js";

/** Narrower, and sizes stand in one unit instead of two. */
const ROOM_FOR_HEX = 130;

const REGION_COLUMNS: readonly Column[] = [
  { title: "REGION", align: "right" },
  { title: "KIND", least: 6 },
  { title: "SIZE" },
  { title: "BACKED" },
  { title: "TAIL" },
  { title: "MEMORY" },
  { title: "ACCESS" },
  { title: "BAR TYPE", least: 8 },
];

export function renderDevice(device: Device, look: Look): string {
  const name = deviceName(device);
  const title = paint(printable(device.address), "bold", look.colour);
  return [
    `${title}${name === "" ? "" : ` ${printable(name)}`}\n`,
    device.backends.includes("SIMULATED") ? simulated(look) : "",
    renderFactGroups(factGroups(device), look),
    reasons(device, look),
    members(device, look),
    regions(device, look),
  ].join("");
}

function simulated(look: Look): string {
  const lines = wrapped("simulated: on a real host the facts come from the sources named beside them", look.width);
  return lines.map((line) => `${paint(line, "yellow", look.colour)}\n`).join("");
}

function reasons(device: Device, look: Look): string {
  if (device.ineligibleReasons.length === 0) return "";
  const lines = device.ineligibleReasons.map(({ reason, message }) =>
    hanging(`${paint(printable(reason), "red", look.colour)}: `, `${printable(reason)}: `, message, look),
  );
  return [
    heading("Why it cannot be leased", look),
    ...lines,
    `  \`aperturectl explain ${printable(device.address)}\` says what to do about it\n`,
  ].join("");
}

function members(device: Device, look: Look): string {
  const { iommuGroup } = device;
  if (iommuGroup === null || (iommuGroup.members.length < 2 && iommuGroup.viable)) return "";
  const table = renderTable(
    [{ title: "MEMBER" }, { title: "DRIVER" }, { title: "KEEPS THE GROUP FROM VFIO" }],
    iommuGroup.members.map(({ address, driver, spoils }) => [address, driver, spoils ? { text: "yes", colour: "red" } : "no"]),
    look,
  );
  return heading(`IOMMU group ${iommuGroup.id}`, look) + table;
}

function regions(device: Device, look: Look): string {
  if (device.regions.length === 0) return `${heading("Regions", look)}  none is known: the device has not been probed\n`;
  const rows = device.regions.map((region) => regionRow(region, look.interactive && look.width < ROOM_FOR_HEX));
  const drawing = drawApertures(device.regions, look);
  return [
    `${heading("Regions", look).trimEnd()} ${paint("(VFIO region info)", "dim", look.colour)}\n`,
    renderTable(REGION_COLUMNS, rows, look),
    drawing === "" ? "" : `${heading("Apertures, each to its own scale", look)}${drawing}`,
    memoryTypes(device, look),
  ].join("");
}

function memoryTypes(device: Device, look: Look): string {
  const lines = device.regions
    .filter(({ mappable, memoryTypeSource }) => mappable && memoryTypeSource !== "")
    .map(({ index, memoryType, memoryTypeSource }) =>
      hanging(`region ${index}: `, `region ${index}: `, `${memoryName(memoryType)}: ${memoryTypeSource}`, look),
    );
  if (lines.length === 0) return "";
  return [heading("Memory types", look), `  from the broker's own table, because no kernel interface reports them\n`, ...lines].join("");
}

function heading(text: string, look: Look): string {
  return `\n${paint(text, "bold", look.colour)}\n`;
}

/** A paragraph whose first line starts with a word of its own. plain: that word without colour. */
function hanging(start: string, plain: string, text: string, look: Look): string {
  const whole = `${plain}${printable(text)}`;
  const lines = look.interactive ? wrapped(whole, look.width - 6) : [whole];
  return lines.map((line, at) => (at === 0 ? `  ${start}${line.slice(plain.length)}\n` : `    ${line}\n`)).join("");
}

function regionRow(region: Region, narrow: boolean): readonly Cell[] {
  const size = narrow ? humanSize : hexAndHuman;
  const tail = region.size - region.backedSize;
  return [
    String(region.index),
    regionKind(region),
    size(region.size),
    tail === 0n ? "all" : size(region.backedSize),
    tail === 0n ? "none" : { text: size(tail), colour: "yellow" },
    region.mappable ? memoryName(region.memoryType) : "",
    [region.readable ? "read" : null, region.writable ? "write" : null, region.mappable ? "map" : null]
      .filter((word) => word !== null)
      .join(" "),
    region.bar === null
      ? ""
      : `${region.is64bit ? "64-bit" : "32-bit"}${region.prefetchable ? ` ${narrow ? "pref" : "prefetchable"}` : ""}`,
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
