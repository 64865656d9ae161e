// IOMMU groups as sysfs tells them: their members, and whether the kernel lets VFIO have them.

import { join } from "node:path";
import { type Address, type GroupMember, type IommuGroup, parseAddress } from "../broker/device.js";
import type { FolderReader } from "./folder-reader.js";
import { boundDriver, shown } from "./parsed-device.js";
import { BINDING, type Binding, rawBinding } from "./raw-device.js";
import { devicesFolder, readAttribute } from "./sysfs-device.js";

/**
 * With this on, VFIO gives a device that no IOMMU stands before a group of its own making, by this name (drivers/vfio/group.c vfio_noiommu_group_alloc): its owner's DMA reaches
 * all memory, and no lease of it could be safe.
 */
const NO_IOMMU_MODE = "module/vfio/parameters/enable_unsafe_noiommu_mode";
const NO_IOMMU_GROUP = "vfio-noiommu";

/**
 * Drivers other than VFIO's own that leave a group usable. Since 5.19 a driver spoils its group unless it sets driver_managed_dma
 * (drivers/pci/pci-driver.c pci_dma_configure() → drivers/iommu/iommu.c iommu_device_use_default_domain()); besides the VFIO drivers these two do:
 * drivers/pci/pci-stub.c and drivers/pci/pcie/portdrv.c. A member without driver spoils nothing.
 */
const HARMLESS_DRIVERS: ReadonlySet<string> = new Set(["pci-stub", "pcieport"]);

/** group null: there is none of that number. fault: of some member it is not known which driver it has, and so not whether the group is viable. */
export type GroupReading = { readonly group: IommuGroup | null; readonly fault: null } | { readonly group: null; readonly fault: string };

export class IommuGroups {
  readonly #sysRoot: string;
  readonly #reader: FolderReader;

  constructor(sysRoot: string, reader: FolderReader) {
    this.#sysRoot = sysRoot;
    this.#reader = reader;
  }

  /** The groups by their numbers. known: bindings of functions that have been read already. */
  async read(numbers: Iterable<string>, known: ReadonlyMap<string, Binding>): Promise<ReadonlyMap<string, GroupReading>> {
    const readings = new Map<string, GroupReading>();
    const above = join(this.#sysRoot, "kernel/iommu_groups");
    const sound = [...numbers].filter((number) => /^\d{1,9}$/.test(number));
    for (const number of await this.#madeUp(above, sound)) readings.set(number, { group: null, fault: null });

    // Groups with members that have not been read: functions, by their address, and others, by their path.
    const waiting = new Map<string, readonly string[]>();
    const functions: Address[] = [];
    const others: string[] = [];
    const folders = sound.filter((number) => !readings.has(number)).map((number) => `${number}/devices`);
    await this.#reader.read(above, folders, [{ kind: "names", name: "" }], (folder, walk) => {
      const number = folder.slice(0, -"/devices".length);
      const found = walk.names() ?? [];
      const names = found.length > 1 ? [...found].sort() : found;
      const [why] = walk.unreadable();
      if (why !== undefined) {
        readings.set(number, { group: null, fault: `members of IOMMU group ${number}: ${why}` });
      } else if (names.every((name) => known.has(name))) {
        readings.set(
          number,
          groupOf(number, names, (name) => known.get(name)),
        );
      } else {
        waiting.set(number, names);
        for (const name of names) {
          const address = parseAddress(name);
          if (address === null) others.push(`${folder}/${name}`);
          else if (!known.has(address)) functions.push(address);
        }
      }
    });
    const read = new Map<string, Binding>();
    await this.#reader.read(devicesFolder(this.#sysRoot), functions, BINDING, (address, walk) => read.set(address, rawBinding(walk)));
    await this.#reader.read(above, others, BINDING, (path, walk) => read.set(path, rawBinding(walk)));
    for (const [number, names] of waiting) {
      const bindingOf = (name: string) => known.get(name) ?? read.get(name) ?? read.get(`${number}/devices/${name}`);
      readings.set(number, groupOf(number, names, bindingOf));
    }
    return readings;
  }

  /** Which of the groups VFIO has made up for want of an IOMMU; one of which that cannot be told is none to be used either. */
  async #madeUp(above: string, numbers: readonly string[]): Promise<readonly string[]> {
    const mode = await readAttribute(join(this.#sysRoot, NO_IOMMU_MODE)).catch(() => null);
    if (mode !== "Y") return [];
    const found: string[] = [];
    await this.#reader.read(above, numbers, [{ kind: "text", name: "name" }], (number, walk) => {
      if (walk.text() === NO_IOMMU_GROUP || walk.unreadable().length > 0) found.push(number);
    });
    return found;
  }
}

function groupOf(number: string, names: readonly string[], bindingOf: (name: string) => Binding | undefined): GroupReading {
  if (names.length === 0) return { group: null, fault: null };
  const members: GroupMember[] = [];
  const foreign: string[] = [];
  for (const name of names) {
    const binding = bindingOf(name) ?? { driver: null, vfioDevices: [], unreadable: [] };
    if (binding.unreadable.length > 0)
      return { group: null, fault: `${shown(name)} in IOMMU group ${number}: ${binding.unreadable.join("; ")}` };
    const driver = boundDriver(binding);
    const spoils = driver !== "" && binding.vfioDevices.length === 0 && !HARMLESS_DRIVERS.has(driver);
    const address = parseAddress(name);
    if (address !== null) members.push({ address, driver, spoils });
    // A platform or fsl-mc device: it has no PCI address to be named by, but its driver counts all the same.
    else if (spoils) foreign.push(`${shown(name)} (${driver})`);
  }
  const viable = foreign.length === 0 && !members.some((member) => member.spoils);
  return { group: { id: Number(number), members, viable, otherSpoilers: foreign }, fault: null };
}
