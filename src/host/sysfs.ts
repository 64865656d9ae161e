// The inventory as sysfs tells it: reads every PCI function and makes facts of the text. What is written there is not trusted: a function whose ids cannot
// be read is left out with a fault in the log, and never stops the scan of the others.

import { join } from "node:path";
import { type Address, type DeviceFacts, type GroupMember, type IommuGroup, parseAddress } from "../broker/device.js";
import type { Observer } from "../broker/ports.js";
import { DeviceIdentities, type ScannedFacts } from "./device-identities.js";
import type { DriverOverrides } from "./driver-override.js";
import { isVfioName, type LeavingDrivers } from "./leaving.js";
import {
  devicesFolder,
  type RawDevice,
  readAttribute,
  readDriver,
  readHeaderType,
  readNames,
  readRawDevice,
  readVfioDevices,
} from "./sysfs-device.js";
import type { SystemFiles } from "./system-file.js";

/** Reads that are under way at once: enough to hide the pool's latency, few enough to leave descriptors for leases. */
const AT_ONCE = 16;

/**
 * With this on, VFIO gives a device that no IOMMU stands before a group of its own making, by this name (drivers/vfio/group.c vfio_noiommu_group_alloc): its owner's DMA reaches
 * all memory, and no lease of it could be safe.
 */
const NO_IOMMU_MODE = "module/vfio/parameters/enable_unsafe_noiommu_mode";
const NO_IOMMU_GROUP = "vfio-noiommu";

const DRIVER_NAME = /^[\x20-\x7e]{1,64}$/;

/**
 * Drivers other than VFIO's own that leave a group usable. Since 5.19 a driver spoils its group unless it sets driver_managed_dma
 * (drivers/pci/pci-driver.c pci_dma_configure() → drivers/iommu/iommu.c iommu_device_use_default_domain()); besides the VFIO drivers these two do:
 * drivers/pci/pci-stub.c and drivers/pci/pcie/portdrv.c. A member without driver spoils nothing.
 */
const HARMLESS_DRIVERS: ReadonlySet<string> = new Set(["pci-stub", "pcieport"]);

function hex(text: string | null, digits: number): number | null {
  return text !== null && new RegExp(`^0x[0-9a-f]{${digits}}$`).test(text) ? Number.parseInt(text.slice(2), 16) : null;
}

/** Sub-class of base class 6 that sysfs shows for a PCI-to-PCI bridge: always header type 1. */
const PCI_BRIDGE = 0x0604;
const BRIDGE_BASE = 0x06;

/** The text of one function as facts, without what is asked apart; or what is wrong with it. */
export function parseDevice(
  address: Address,
  raw: RawDevice,
):
  | { readonly facts: Omit<ScannedFacts, "iommuGroup" | "driverOverride" | "leaving">; readonly faults: readonly string[] }
  | { readonly fault: string } {
  const vendorId = hex(raw.vendor, 4);
  const deviceId = hex(raw.device, 4);
  const classCode = hex(raw.class, 6);
  if (vendorId === null || deviceId === null || classCode === null) {
    const wrong = vendorId === null ? ["vendor", raw.vendor] : deviceId === null ? ["device", raw.device] : ["class", raw.class];
    return { fault: `${wrong[0]} reads ${shown(wrong[1] ?? null)}${raw.unreadable.length > 0 ? ` (${raw.unreadable.join("; ")})` : ""}` };
  }
  if (raw.driver !== null && !DRIVER_NAME.test(raw.driver.name)) return { fault: `driver reads ${shown(raw.driver.name)}` };
  const faults = [...raw.unreadable];

  let resetMethods = (raw.resetMethod ?? "").split(" ").filter((word) => word !== "");
  if (resetMethods.length > 16 || !resetMethods.every((word) => /^[a-z_]{1,32}$/.test(word))) {
    faults.push(`reset_method reads ${shown(raw.resetMethod)}`);
    resetMethods = [];
  }
  let numaNode: number | null = null;
  if (raw.numaNode !== null) {
    if (/^-?\d{1,5}$/.test(raw.numaNode)) numaNode = Number(raw.numaNode) < 0 ? null : Number(raw.numaNode);
    else faults.push(`numa_node reads ${shown(raw.numaNode)}`);
  }
  const physicalFunction = raw.physicalFunction === null ? null : parseAddress(raw.physicalFunction);
  if (raw.physicalFunction !== null && physicalFunction === null) faults.push(`physfn points at ${shown(raw.physicalFunction)}`);

  return {
    faults,
    facts: {
      address,
      vendorId,
      deviceId,
      classCode,
      driver: boundDriver(raw.driver, raw.vfioDevices),
      resetMethods,
      numaNode,
      physicalFunction,
      vfioBound: raw.vfioDevices.length > 0,
      bindKey: bindKeyOf(address, raw),
    },
  };
}

function boundDriver(driver: RawDevice["driver"], vfioDevices: readonly string[]): string {
  return driver === null || (vfioDevices.length === 0 && isVfioName(driver.name)) ? "" : driver.name;
}

/** Changes with every bind: see readDriver. */
export function bindKeyOf(address: Address, raw: Pick<RawDevice, "driver" | "vfioDevices">): string {
  return [address, raw.driver?.name ?? "", raw.driver?.inode ?? 0n, raw.vfioDevices.join(",")].join(" ");
}

function shown(text: string | null): string {
  return text === null ? "nothing" : JSON.stringify(text.length > 40 ? `${text.slice(0, 40)}…` : text);
}

/** True when the function is a bridge, whose header is not of type 0 and which no VFIO driver owns. */
async function isBridge(sysRoot: string, address: Address, classCode: number): Promise<boolean> {
  if (classCode >> 8 === PCI_BRIDGE) return true;
  // Host and ISA bridges have ordinary headers, CardBus bridges have not: only here must the header itself be asked.
  if (classCode >> 16 !== BRIDGE_BASE) return false;
  const header = await readHeaderType(sysRoot, address);
  return header !== null && header !== 0;
}

/** Runs work on every item, at most AT_ONCE at a time, results in the order of items. */
async function forEach<T, R>(items: readonly T[], work: (item: T) => Promise<R>): Promise<R[]> {
  const results: R[] = new Array<R>(items.length);
  let next = 0;
  const worker = async (): Promise<void> => {
    for (let index = next++; index < items.length; index = next++) {
      const item = items[index];
      if (item !== undefined) results[index] = await work(item);
    }
  };
  await Promise.all(Array.from({ length: Math.min(AT_ONCE, items.length) }, worker));
  return results;
}

export class SysfsScanner {
  readonly #sysRoot: string;
  readonly #overrides: DriverOverrides;
  readonly #leaving: LeavingDrivers;
  readonly #observer: Pick<Observer, "fault">;
  readonly #identities: DeviceIdentities;
  #unsafe = false;
  /** What the last scan of each function found. */
  readonly #last = new Map<Address, ScannedFacts>();
  /** What was last said of each device: a file that stays wrong is reported once, not with every scan. */
  readonly #said = new Map<string, string>();

  constructor(sysRoot: string, overrides: DriverOverrides, leaving: LeavingDrivers, observer: Pick<Observer, "fault">, files: SystemFiles) {
    this.#identities = new DeviceIdentities(sysRoot, files);
    this.#sysRoot = sysRoot;
    this.#overrides = overrides;
    this.#leaving = leaving;
    this.#observer = observer;
  }

  /** Every function with a type-0 header, ordered by address; with `only`, those of them that are there. */
  async scan(only?: ReadonlySet<Address>): Promise<readonly DeviceFacts[]> {
    if (only !== undefined) return (await this.#read([...only].sort())).filter(({ address }) => only.has(address));
    const names = [...(await readNames(devicesFolder(this.#sysRoot)))].sort();
    const addresses = names.map(parseAddress).filter((address) => address !== null);
    const present = new Set<string>(addresses);
    this.#overrides.keepOnly(present);
    this.#leaving.keepOnly(present);
    this.#identities.keepOnly(present);
    for (const address of this.#last.keys()) if (!present.has(address)) this.#last.delete(address);
    for (const subject of this.#said.keys()) if (parseAddress(subject) !== null && !present.has(subject)) this.#said.delete(subject);
    return this.#read(addresses);
  }

  async #read(addresses: readonly Address[]): Promise<readonly DeviceFacts[]> {
    this.#unsafe = (await readAttribute(join(this.#sysRoot, NO_IOMMU_MODE)).catch(() => null)) === "Y";
    const groups = new Map<string, Promise<IommuGroup | null>>();
    const vfNumbers = new Map<Address, Promise<ReadonlyMap<string, number>>>();
    const all = await forEach(addresses, async (address) => {
      try {
        const facts = await this.#device(address, groups);
        if (facts !== null) await this.#identities.update(facts, vfNumbers);
        return facts;
      } catch (error) {
        this.#say(address, error instanceof Error ? error.message : String(error));
        return null;
      }
    });
    for (const [index, address] of addresses.entries()) {
      const facts = all[index] ?? null;
      if (facts === null) this.#last.delete(address);
      else this.#last.set(address, facts);
    }
    // What is told of one depends on the others: a reset set, the virtual functions of a physical one.
    const inOrder = [...this.#last.values()].sort((a, b) => (a.address < b.address ? -1 : 1));
    return this.#identities.complete(inOrder);
  }

  async #device(address: Address, groups: Map<string, Promise<IommuGroup | null>>): Promise<ScannedFacts | null> {
    const found = await this.#identities.find(address);
    if (found === null || found.identity?.isBridge === true) return null;
    const raw = await readRawDevice(this.#sysRoot, address, found.identity?.ids ?? null);
    if (raw === null) return null;
    const parsed = parseDevice(address, raw);
    if ("fault" in parsed) {
      this.#say(address, `left out of the inventory: ${parsed.fault}`);
      return null;
    }
    if (found.identity === null) {
      const bridge = await isBridge(this.#sysRoot, address, parsed.facts.classCode);
      const { vendor, device, class: classCode } = raw;
      await this.#identities.add(address, found.inode, { vendor, device, class: classCode }, bridge);
      if (bridge) return null;
    }
    this.#say(address, parsed.faults.join("; "));
    let iommuGroup: IommuGroup | null = null;
    if (raw.group !== null) {
      let reading = groups.get(raw.group);
      if (reading === undefined) {
        reading = this.readGroup(raw.group);
        groups.set(raw.group, reading);
      }
      iommuGroup = await reading;
    }
    if (parsed.facts.vfioBound) {
      this.#leaving.has(address, parsed.facts.driver);
      return { ...parsed.facts, iommuGroup, driverOverride: "", leaving: false };
    }
    if (raw.driver === null) {
      const driver = await this.#leaving.read(address);
      if (driver !== "") return { ...parsed.facts, driver, iommuGroup, driverOverride: "", leaving: true };
    }
    // Asked only where it tells something: why no VFIO driver has the device although one was named.
    return { ...parsed.facts, iommuGroup, driverOverride: await this.#overrides.read(address), leaving: false };
  }

  /** A group with its members and whether the kernel lets VFIO have it; null when it is not there. */
  async readGroup(number: string): Promise<IommuGroup | null> {
    if (!/^\d{1,9}$/.test(number)) return null;
    if (this.#unsafe && (await readAttribute(join(this.#sysRoot, "kernel/iommu_groups", number, "name"))) === NO_IOMMU_GROUP) return null;
    const names = [...(await readNames(join(this.#sysRoot, "kernel/iommu_groups", number, "devices")))].sort();
    if (names.length === 0) return null;
    const members: GroupMember[] = [];
    const foreign: string[] = [];
    for (const name of names) {
      const address = parseAddress(name);
      const folder =
        address === null ? join(this.#sysRoot, "kernel/iommu_groups", number, "devices", name) : join(devicesFolder(this.#sysRoot), name);
      const [driver, vfioDevices] = await Promise.all([readDriver(folder), readVfioDevices(folder)]);
      const bound = boundDriver(driver, vfioDevices);
      const spoils = bound !== "" && vfioDevices.length === 0 && !HARMLESS_DRIVERS.has(bound);
      if (address === null) {
        // A platform or fsl-mc device: it has no PCI address to be named by, but its driver counts all the same.
        if (spoils) foreign.push(`${shown(name)} (${bound})`);
      } else {
        members.push({ address, driver: bound, spoils });
      }
    }
    this.#say(
      `IOMMU group ${number}`,
      foreign.length > 0 ? `members that are no PCI functions keep the group from VFIO by their drivers: ${foreign.join(", ")}` : "",
    );
    return {
      id: Number(number),
      members,
      viable: foreign.length === 0 && !members.some((member) => member.spoils),
      otherSpoilers: foreign,
    };
  }

  #say(subject: string, message: string): void {
    if ((this.#said.get(subject) ?? "") === message) return;
    this.#said.set(subject, message);
    if (message !== "") this.#observer.fault(`host.scan ${subject}`, new Error(message));
  }
}
