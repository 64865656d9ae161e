// What both kernel interfaces share: where sysfs and /dev are, the queues, the scan, and the question whether a device is still what the broker last saw.

import { release } from "node:os";
import { join } from "node:path";
import type { Address, DeviceFacts, DeviceProbe } from "../broker/device.js";
import type { HostChange, Observer } from "../broker/ports.js";
import { granted, type Outcome, type Refusal } from "../broker/refusal.js";
import { type Native, native } from "../native.js";
import type { CapabilityTable } from "./capability-table.js";
import { DeviceQueues } from "./device-queues.js";
import { readDevice } from "./device-reading.js";
import { probeDmaBuf } from "./dma-buf.js";
import { DriverOverrides } from "./driver-override.js";
import { Holding } from "./holding.js";
import { isVfioName, LeavingDrivers } from "./leaving.js";
import { type FileCalls, OpenFiles } from "./open-files.js";
import { bindKeyOf } from "./parsed-device.js";
import type { OpenDevice } from "./probed-facts.js";
import { SysfsScanner } from "./sysfs.js";
import { devicesFolder, readDriver, readNames, readVfioDevices } from "./sysfs-device.js";
import { SysfsDrivers } from "./sysfs-drivers.js";
import { type SystemFiles, systemFiles } from "./system-file.js";
import { type ReadableSource, type UeventCalls, Uevents } from "./uevents.js";
import type { VfTokens } from "./vf-tokens.js";

/** The part of the native helper that the host layer uses; tests put a made-up kernel here. */
export type KernelCalls = Pick<Native, "BlockingQueue" | "mapRegion">;

export interface HostOptions {
  /** Normally /sys. */
  readonly sysRoot: string;
  /** Normally /dev. */
  readonly devRoot: string;
  readonly observer: Pick<Observer, "fault">;
  readonly kernel?: KernelCalls;
  /** Normally those of the running kernel. */
  readonly systemFiles?: SystemFiles;
  /** Where descriptors that the kernel fills by itself are polled. Without it nothing is noticed: changes are found by scans alone. */
  readonly poll?: ReadableSource;
  readonly events?: UeventCalls & FileCalls;
}

/** Where a device stands now, compared with the facts that the broker has. */
export type Standing =
  | { readonly state: "SAME" }
  | { readonly state: "GONE" | "LEAVING" | "UNBOUND" | "REBOUND"; readonly refusal: Refusal };

export function groupKey(id: number): string {
  return `group ${id}`;
}

export class Machine {
  readonly sysRoot: string;
  readonly devRoot: string;
  readonly kernel: KernelCalls;
  readonly observer: Pick<Observer, "fault">;
  readonly queues: DeviceQueues;
  readonly scanner: SysfsScanner;
  readonly drivers: SysfsDrivers;
  openFiles: OpenFiles | null = null;
  /** Set by the back end, which opens devices. */
  tokens: VfTokens | null = null;
  readonly #leaving: LeavingDrivers;
  readonly #listeners = new Set<(change: HostChange) => void>();
  #uevents: Uevents | null = null;

  constructor(options: HostOptions) {
    const kernel = options.kernel ?? native;
    this.sysRoot = options.sysRoot;
    this.devRoot = options.devRoot;
    this.observer = options.observer;
    this.kernel = kernel;
    this.queues = new DeviceQueues((name) => new kernel.BlockingQueue(name));
    this.#leaving = new LeavingDrivers(kernel, options.sysRoot);
    const overrides = new DriverOverrides(kernel, options.sysRoot);
    const files = options.systemFiles ?? systemFiles(release());
    this.drivers = new SysfsDrivers({ native: kernel, sysRoot: options.sysRoot, devRoot: options.devRoot, overrides });
    this.scanner = new SysfsScanner(kernel, options.sysRoot, overrides, this.#leaving, options.observer, files);
  }

  /** Begins to listen to the kernel. openFiles: the back end opens character devices, whose open files are to be counted. */
  listen(options: HostOptions, capabilities: CapabilityTable, openFiles: boolean): void {
    const { poll, events: calls = native } = options;
    if (poll === undefined) return;
    const common = { calls, poll, capabilities, observer: this.observer };
    this.#uevents = new Uevents({ ...common, tell: (change) => this.#tell(change) });
    this.#uevents.open();
    if (!openFiles) return;
    this.openFiles = new OpenFiles({ ...common, closed: (address) => this.#tell({ kind: "CLOSED", address }) });
    this.openFiles.open();
  }

  changes(listener: (change: HostChange) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  close(): void {
    this.#uevents?.close();
    this.openFiles?.close();
    this.queues.keepOnly(new Set());
  }

  #tell(change: HostChange): void {
    for (const listener of this.#listeners) listener(change);
  }

  async scan(only?: ReadonlySet<Address>): Promise<readonly DeviceFacts[]> {
    const devices = await this.scanner.scan(only);
    this.tokens?.seen(devices, only === undefined);
    if (only !== undefined) return devices;
    const keys = new Set<string>();
    for (const { address, iommuGroup } of devices) {
      keys.add(address);
      if (iommuGroup !== null) keys.add(groupKey(iommuGroup.id));
    }
    this.queues.keepOnly(keys);
    return devices;
  }

  holding(): Holding {
    return new Holding(this.queues, this.observer);
  }

  /** All that an open device tells. */
  async read(open: Omit<OpenDevice, "configFile">, capabilities: CapabilityTable): Promise<Outcome<DeviceProbe>> {
    const { queue, device, facts } = open;
    const reading = await readDevice({ ...open, configFile: join(this.folder(facts), "config") });
    if (reading.refusal !== null) return reading;
    const dmaBufExport = await probeDmaBuf(this.kernel, queue, device, facts.address, reading.value.regions, capabilities);
    return granted({ ...reading.value, dmaBufExport });
  }

  /** Folder of a device in sysfs. */
  folder(facts: DeviceFacts): string {
    return join(devicesFolder(this.sysRoot), facts.address);
  }

  /** The bindKey of a device that a VFIO driver has now; null: none has. */
  async vfioBinding(address: Address): Promise<string | null> {
    const folder = join(devicesFolder(this.sysRoot), address);
    const [driver, vfioDevices] = await Promise.all([readDriver(folder), readVfioDevices(folder)]);
    return vfioDevices.length === 0 ? null : bindKeyOf(address, { driver, vfioDevices });
  }

  /**
   * Asked again after a descriptor is open: an open descriptor keeps the driver registered, so what is seen then stays true, and a device that was bound
   * anew in between (with other regions, perhaps) is not taken for the one that was probed.
   */
  async standing(facts: DeviceFacts): Promise<Standing> {
    const { address } = facts;
    const folder = this.folder(facts);
    const [driver, vfioDevices] = await Promise.all([readDriver(folder), readVfioDevices(folder)]);
    if (vfioDevices.length === 0) {
      if ((await readNames(folder)).length === 0) {
        return {
          state: "GONE",
          refusal: { reason: "DEVICE_REMOVED", message: `${address}: it has left the machine`, metadata: { address } },
        };
      }
      const leaving = driver === null ? await this.#leaving.read(address) : "";
      if (leaving !== "") return { state: "LEAVING", refusal: leavingRefusal(address, leaving) };
      return { state: "UNBOUND", refusal: noVfioDriver(address, driver?.name ?? "") };
    }
    if (bindKeyOf(address, { driver, vfioDevices }) !== facts.bindKey) {
      const message = `${address}: it was bound anew since it was probed; the next scan reads it again`;
      return { state: "REBOUND", refusal: { reason: "HOST_OPERATION_FAILED", message, metadata: { address } } };
    }
    return { state: "SAME" };
  }

  /** Why the device cannot be opened now, as far as sysfs tells. sameBinding: a device that was bound anew counts too. */
  async refusalNow(facts: DeviceFacts, sameBinding: boolean): Promise<Refusal | null> {
    const standing = await this.standing(facts);
    return standing.state === "SAME" || (standing.state === "REBOUND" && !sameBinding) ? null : standing.refusal;
  }
}

/** What its facts alone say against opening a device; null when nothing does. */
export function factsRefusal(facts: DeviceFacts): Refusal | null {
  if (facts.leaving) return leavingRefusal(facts.address, facts.driver);
  return facts.vfioBound ? groupRefusal(facts) : noVfioDriver(facts.address, facts.driver);
}

export function leavingRefusal(address: Address, driver: string): Refusal {
  const message = `${address}: it is being unbound from ${driver}, which waits for a descriptor or mapping that somebody still has`;
  return { reason: "DEVICE_LEAVING", message, metadata: { address } };
}

export function noVfioDriver(address: Address, driver: string): Refusal {
  const why =
    driver === ""
      ? "no driver is bound to it"
      : isVfioName(driver)
        ? `its driver ${driver} is still probing it, or letting it go`
        : `its driver ${driver} is no VFIO driver`;
  return { reason: "NO_VFIO_DRIVER", message: `${address}: ${why}`, metadata: { address } };
}

/** Why a device's IOMMU group keeps it from being used, naming the members in the way; null when it does not. */
export function groupRefusal(facts: DeviceFacts): Refusal | null {
  const { address, iommuGroup: group } = facts;
  if (group === null) return { reason: "NO_IOMMU_GROUP", message: `${address}: it has no IOMMU group`, metadata: { address } };
  if (group.viable) return null;
  const spoiling = group.members.filter((member) => member.spoils).map((member) => `${member.address} (${member.driver})`);
  const spoilers = [...spoiling, ...group.otherSpoilers].join(", ");
  return {
    reason: "GROUP_NOT_VIABLE",
    message: `${address}: IOMMU group ${group.id} cannot be used while a driver that does its own DMA has ${spoilers}`,
    metadata: { address, group: String(group.id), spoilers },
  };
}
