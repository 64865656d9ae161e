// Words for numbers, from the system's PCI ID list (https://pci-ids.ucw.cz; its head describes the form). Only what is asked for is kept: the whole list would be megabytes in
// memory for a few dozen names.

import type { Names } from "../broker/facts.js";
import { linesOf } from "./system-file.js";

/** The numbers of one kind of device. */
export interface IdNumbers {
  readonly vendorId: number;
  readonly deviceId: number;
  readonly classCode: number;
  readonly subsystem: { readonly vendorId: number; readonly deviceId: number } | null;
}

const LONGEST_NAME = 128;

function hex(value: number, digits: number): string {
  return value.toString(16).padStart(digits, "0");
}

/** Keys of the list's rows, from the outermost to the row itself. */
function keysOf({ vendorId, deviceId, classCode, subsystem }: IdNumbers): Readonly<Record<keyof Omit<Names, "source">, string>> {
  const device = `${hex(vendorId, 4)} ${hex(deviceId, 4)}`;
  const subclass = `C ${hex(classCode >> 16, 2)} ${hex((classCode >> 8) & 0xff, 2)}`;
  const board = subsystem === null ? "" : `${hex(subsystem.vendorId, 4)} ${hex(subsystem.deviceId, 4)}`;
  return {
    baseClass: `C ${hex(classCode >> 16, 2)}`,
    subclass,
    programmingInterface: `${subclass} ${hex(classCode & 0xff, 2)}`,
    vendor: hex(vendorId, 4),
    device,
    subsystemVendor: subsystem === null ? "" : hex(subsystem.vendorId, 4),
    subsystem: board === "" ? "" : `${device} ${board}`,
  };
}

/** A row: indentation, its own number or numbers, two spaces, its name. */
const ROW = /^(\t{0,2})((?:C )?[0-9a-f]{2,4}(?: [0-9a-f]{4})?) {2}(.*)$/;

/** Anybody may have written the file: nothing in it may steer a terminal or fill a screen. */
function clean(name: string): string {
  return name.replace(/\p{C}/gu, "").trim().slice(0, LONGEST_NAME);
}

/** Walks through the lines of one file and fills in the names of the rows that are wanted. */
class Rows {
  readonly #names: Map<string, string>;
  /** Keys of the row that the next ones may be below; empty: of none that is wanted. */
  readonly #above: [string, string] = ["", ""];

  constructor(names: Map<string, string>) {
    this.#names = names;
  }

  read(line: string): void {
    if (line === "" || line.startsWith("#")) return;
    // Most of the list is below vendors that this host has nothing of.
    if (line.startsWith("\t") && this.#above[0] === "") return;
    const [, tabs = "", number = "", name = ""] = ROW.exec(line) ?? [];
    const depth = tabs.length;
    const outer = depth === 0 ? "" : (this.#above[depth - 1] ?? "");
    const key = depth === 0 ? number : `${outer} ${number}`;
    const isWanted = number !== "" && (depth === 0 || outer !== "") && this.#names.has(key);
    if (depth === 0) this.#above[0] = isWanted ? key : "";
    if (depth <= 1) this.#above[1] = depth === 1 && isWanted ? key : "";
    if (isWanted && this.#names.get(key) === "") this.#names.set(key, clean(name));
  }
}

/** Names for each of the kinds, in their order, from the first of the files that has any; null: it has no word for that one. */
export async function lookUpNames(paths: readonly string[], kinds: readonly IdNumbers[]): Promise<readonly (Names | null)[]> {
  const keys = kinds.map(keysOf);
  const wanted = keys.flatMap((row) => Object.values(row)).filter((key) => key !== "");
  for (const path of paths) {
    const found = new Map(wanted.map((key) => [key, ""]));
    const rows = new Rows(found);
    for await (const lines of linesOf(path, "\n")) for (const line of lines) rows.read(line);
    if ([...found.values()].some((name) => name !== "")) return keys.map((row) => namesFrom(row, found, path));
  }
  return kinds.map(() => null);
}

function namesFrom(row: ReturnType<typeof keysOf>, found: ReadonlyMap<string, string>, source: string): Names | null {
  const word = (key: string): string => found.get(key) ?? "";
  const names: Names = {
    baseClass: word(row.baseClass),
    subclass: word(row.subclass),
    programmingInterface: word(row.programmingInterface),
    vendor: word(row.vendor),
    device: word(row.device),
    subsystemVendor: word(row.subsystemVendor),
    subsystem: word(row.subsystem),
    source,
  };
  const { source: _, ...words } = names;
  return Object.values(words).some((text) => text !== "") ? names : null;
}
