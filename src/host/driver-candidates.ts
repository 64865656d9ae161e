// Which drivers the running kernel has for a device. A driver's table of ids stands in modules.alias, made by depmod from the modules themselves: `pci:` for what binds by
// itself, `vfio_pci:` for what binds only through driver_override (scripts/mod/file2alias.c do_pci_entry, PCI_DRIVER_OVERRIDE_DEVICE_VFIO), which is how variant
// drivers are told from the plain one. Of a built-in driver sysfs shows the name and not the ids.

import { readdir } from "node:fs/promises";
import { join } from "node:path";
import type { DriverCandidate } from "../broker/facts.js";
import type { IdNumbers } from "./pci-ids.js";
import { readNames } from "./sysfs-device.js";
import { fileStamp, linesOf, type SystemFiles } from "./system-file.js";

/** Candidates of one device that are kept: far more than a kernel has. */
const MOST = 16;

/** What naming a field of v, d, sv, sd, bc, sc, i is worth: a board is closer than a device, a device than a vendor, a vendor than a class. */
const WEIGHTS: readonly number[] = [4, 8, 16, 32, 1, 1, 1];
const PREFIX = { vfio: "vfio_pci:v", pci: "pci:v" } as const;
const ALIAS =
  /^(vfio_)?pci:v([0-9A-F]{8}|\*)d([0-9A-F]{8}|\*)sv([0-9A-F]{8}|\*)sd([0-9A-F]{8}|\*)bc([0-9A-F]{2}|\*)sc([0-9A-F]{2}|\*)i([0-9A-F]{2}|\*)\*?$/;
const MODULE = /^[A-Za-z0-9_-]{1,64}$/;

const GENERIC = "vfio-pci";

function hex(value: number, digits: number): string {
  return value.toString(16).toUpperCase().padStart(digits, "0");
}

/** The fields of a device's modalias, as in sysfs (drivers/pci/pci-sysfs.c modalias_show). */
function modaliasOf({ vendorId, deviceId, classCode, subsystem }: IdNumbers): readonly string[] {
  return [
    ...[hex(vendorId, 8), hex(deviceId, 8), hex(subsystem?.vendorId ?? 0, 8), hex(subsystem?.deviceId ?? 0, 8)],
    ...[hex(classCode >> 16, 2), hex((classCode >> 8) & 0xff, 2), hex(classCode & 0xff, 2)],
  ];
}

interface Found extends DriverCandidate {
  /** How closely the alias describes the device; 0: it takes every device. */
  readonly closeness: number;
}

/** One kind of device, and what was found for it. */
interface Wish {
  readonly fields: readonly string[];
  readonly found: Map<string, Found>;
}

const KIND_ORDER: Readonly<Record<DriverCandidate["kind"], number>> = { VFIO_VARIANT: 0, VFIO_GENERIC: 1, HOST: 2 };

export class DriverCandidates {
  readonly #sysRoot: string;
  readonly #files: SystemFiles;

  constructor(sysRoot: string, files: SystemFiles) {
    this.#sysRoot = sysRoot;
    this.#files = files;
  }

  /** Changes when modules were installed or removed. */
  async stamp(): Promise<string> {
    return fileStamp(join(this.#files.modules, "modules.alias"));
  }

  /** Candidates for each of the kinds, in their order; the closest of each kind of driver first. */
  async lookUp(kinds: readonly IdNumbers[]): Promise<readonly (readonly DriverCandidate[])[]> {
    const wishes = kinds.map((kind): Wish => ({ fields: modaliasOf(kind), found: new Map() }));
    const byVendor = new Map<string, Wish[]>();
    for (const wish of wishes) byVendor.set(wish.fields[0] ?? "", [...(byVendor.get(wish.fields[0] ?? "") ?? []), wish]);

    for await (const lines of linesOf(join(this.#files.modules, "modules.alias"), "\n")) {
      for (const line of lines) {
        // `alias PATTERN MODULE`
        const [word, alias = "", module = ""] = line.split(" ", 3);
        if (word === "alias") match(byVendor, wishes, alias, module, "MODULES_ALIAS");
      }
    }
    for await (const lines of linesOf(join(this.#files.modules, "modules.builtin.modinfo"), "\0")) {
      for (const line of lines) {
        // `MODULE.alias=PATTERN`
        const at = line.indexOf(".alias=");
        if (at > 0) match(byVendor, wishes, line.slice(at + ".alias=".length), line.slice(0, at), "MODULES_BUILTIN");
      }
    }
    const registered = await readNames(join(this.#sysRoot, "bus/pci/drivers"));
    const names = new Map<string, string>();
    return Promise.all(wishes.map((wish) => this.#candidates(wish, registered, names)));
  }

  async #candidates(wish: Wish, registered: readonly string[], names: Map<string, string>): Promise<readonly DriverCandidate[]> {
    const ordered = [...wish.found.values()].sort(
      (a, b) => KIND_ORDER[a.kind] - KIND_ORDER[b.kind] || b.closeness - a.closeness || (a.module < b.module ? -1 : 1),
    );
    const candidates: DriverCandidate[] = [];
    for (const { module, kind, source, alias } of ordered.slice(0, MOST)) {
      const driver = names.get(module) ?? (await this.#driverOf(module));
      names.set(module, driver);
      candidates.push({ driver, module, kind, source, alias });
    }
    if (registered.includes(GENERIC) && !candidates.some(({ driver }) => driver === GENERIC)) {
      const generic: DriverCandidate = { driver: GENERIC, module: "", kind: "VFIO_GENERIC", source: "REGISTERED", alias: "" };
      const before = candidates.findIndex(({ kind }) => kind === "HOST");
      candidates.splice(before < 0 ? candidates.length : before, 0, generic);
    }
    return candidates;
  }

  /** The name under which a module's driver is known: as sysfs tells while it is loaded; else nearly always the module's own, vfio-pci being the exception. */
  async #driverOf(module: string): Promise<string> {
    try {
      const drivers = (await readdir(join(this.#sysRoot, "module", module, "drivers"))).filter((name) =>
        /^pci:[\x21-\x7e]{1,60}$/.test(name),
      );
      if (drivers.length === 1 && drivers[0] !== undefined) return drivers[0].slice("pci:".length);
    } catch {
      // Not loaded.
    }
    return module === "vfio_pci" ? GENERIC : module;
  }
}

function match(
  byVendor: ReadonlyMap<string, readonly Wish[]>,
  all: readonly Wish[],
  alias: string,
  module: string,
  source: DriverCandidate["source"],
): void {
  const prefix = alias.startsWith(PREFIX.pci) ? PREFIX.pci : alias.startsWith(PREFIX.vfio) ? PREFIX.vfio : null;
  if (prefix === null) return;
  // Nearly every alias names a vendor that this host has nothing of.
  const wishes = alias[prefix.length] === "*" ? all : byVendor.get(alias.slice(prefix.length, prefix.length + 8));
  if (wishes === undefined) return;
  const parsed = ALIAS.exec(alias);
  if (parsed === null || !MODULE.test(module)) return;
  const [, vfio, ...pattern] = parsed;
  const closeness = WEIGHTS.reduce((sum, weight, index) => (pattern[index] === "*" ? sum : sum + weight), 0);
  const kind = vfio === undefined ? "HOST" : closeness === 0 ? "VFIO_GENERIC" : "VFIO_VARIANT";
  for (const { fields, found } of wishes) {
    if (!fields.every((field, index) => pattern[index] === "*" || pattern[index] === field)) continue;
    const key = `${module} ${kind}`;
    const earlier = found.get(key);
    if (earlier === undefined || earlier.closeness < closeness) found.set(key, { driver: module, module, kind, source, alias, closeness });
  }
}

/** Candidates with the driver that the device has: one that is bound is a driver for it, whatever the lists say. */
export function withBound(candidates: readonly DriverCandidate[], driver: string, vfioBound: boolean): readonly DriverCandidate[] {
  if (driver === "" || candidates.some((candidate) => candidate.driver === driver)) return candidates;
  const kind = !vfioBound ? "HOST" : driver === GENERIC ? "VFIO_GENERIC" : "VFIO_VARIANT";
  const bound: DriverCandidate = { driver, module: "", kind, source: "REGISTERED", alias: "" };
  const after = candidates.findIndex((candidate) => KIND_ORDER[candidate.kind] > KIND_ORDER[kind]);
  return after < 0 ? [...candidates, bound] : [...candidates.slice(0, after), bound, ...candidates.slice(after)];
}
