// The inventory as sysfs tells it. One scan is: read every PCI function (folder-reader.ts), in full those that are new; read the IOMMU groups they are in; ask apart, with a time limit,
// what can wait for a device's lock; put together what only all of them tell. What is written in sysfs is not trusted: a function whose ids cannot be read is left out with a
// fault in the log, and never stops the scan of the others.

import { type Address, type DeviceFacts, type IommuGroup, parseAddress } from "../broker/device.js";
import type { NumaNode } from "../broker/facts.js";
import type { Observer } from "../broker/ports.js";
import type { Native } from "../native.js";
import { DeviceIdentities, type ScannedDevice } from "./device-identities.js";
import { type Identity, identityOf } from "./device-identity.js";
import type { DriverOverrides } from "./driver-override.js";
import { FolderReader } from "./folder-reader.js";
import { IommuGroups } from "./iommu-groups.js";
import type { LeavingDrivers } from "./leaving.js";
import { type ParsedFacts, parseDevice, parseIds } from "./parsed-device.js";
import { type Binding, EACH_BIND, EACH_SCAN, ONCE, type RawDevice, type RawIds, rawBound, rawDevice, rawOnce } from "./raw-device.js";
import { inSlices } from "./slices.js";
import { devicesFolder, readHeaderType, readNames } from "./sysfs-device.js";
import type { SystemFiles } from "./system-file.js";

/** Devices whose locks are waited for at once: each is a thread. */
const LOCKS_AT_ONCE = 16;

/** Sub-class of base class 6 that sysfs shows for a PCI-to-PCI bridge: always header type 1. */
const PCI_BRIDGE = 0x0604;
const BRIDGE_BASE = 0x06;

/** One function, as far as its own files tell. */
interface Found {
  readonly address: Address;
  readonly parsed: ParsedFacts;
  readonly faults: readonly string[];
  /** Number of its IOMMU group. */
  readonly group: string | null;
  /** Whether there is a driver link, be it of a probe that still runs. */
  readonly hasDriver: boolean;
}

/** What one scan gathers. */
interface Gathered {
  readonly found: Found[];
  /** Of bridges too: they are members of groups. */
  readonly bindings: Map<string, Binding>;
}

/** Whether the function is a bridge, whose header is not of type 0 and which no VFIO driver owns; null: only the header itself can tell. */
function isBridge(classCode: number): boolean | null {
  if (classCode >> 8 === PCI_BRIDGE) return true;
  // Host and ISA bridges have ordinary headers, CardBus bridges have not.
  return classCode >> 16 === BRIDGE_BASE ? null : false;
}

/** Runs work on every item, at most so many at a time. */
async function forEach<T>(items: readonly T[], atOnce: number, work: (item: T) => Promise<void>): Promise<void> {
  const rest = items.values();
  const worker = async (): Promise<void> => {
    for (const item of rest) await work(item);
  };
  await Promise.all(Array.from({ length: Math.min(atOnce, items.length) }, worker));
}

export class SysfsScanner {
  readonly #sysRoot: string;
  readonly #overrides: DriverOverrides;
  readonly #leaving: LeavingDrivers;
  readonly #observer: Pick<Observer, "fault">;
  readonly #reader: FolderReader;
  readonly #identities: DeviceIdentities;
  readonly #groups: IommuGroups;
  /** What the last scan of each function found. */
  readonly #last = new Map<Address, ScannedDevice>();
  /** What was last said of each device: a file that stays wrong is reported once, not with every scan. */
  readonly #said = new Map<string, string>();

  constructor(
    native: Pick<Native, "BlockingQueue">,
    sysRoot: string,
    overrides: DriverOverrides,
    leaving: LeavingDrivers,
    observer: Pick<Observer, "fault">,
    files: SystemFiles,
  ) {
    this.#reader = new FolderReader(native);
    this.#identities = new DeviceIdentities(sysRoot, files, this.#reader);
    this.#groups = new IommuGroups(sysRoot, this.#reader);
    this.#sysRoot = sysRoot;
    this.#overrides = overrides;
    this.#leaving = leaving;
    this.#observer = observer;
  }

  /** Every function with a type-0 header, ordered by address; with `only`, those of them that are there. */
  async scan(only?: ReadonlySet<Address>): Promise<readonly DeviceFacts[]> {
    if (only !== undefined) return this.#read([...only], only);
    const [names] = await Promise.all([readNames(devicesFolder(this.#sysRoot)), this.#identities.readTopology()]);
    const addresses = names.map(parseAddress).filter((address) => address !== null);
    addresses.sort();
    const present = new Set<string>(addresses);
    this.#overrides.keepOnly(present);
    this.#leaving.keepOnly(present);
    this.#identities.keepOnly(present);
    for (const address of this.#last.keys()) if (!present.has(address)) this.#last.delete(address);
    for (const subject of this.#said.keys()) if (parseAddress(subject) !== null && !present.has(subject)) this.#said.delete(subject);
    return this.#read(addresses);
  }

  /** Of the last scan of all. */
  get numaNodes(): readonly NumaNode[] {
    return this.#identities.numaNodes;
  }

  /** One group by its number; null when it is not there, or cannot be told. */
  async readGroup(number: string): Promise<IommuGroup | null> {
    return (await this.#groups.read([number], new Map())).get(number)?.group ?? null;
  }

  async #read(addresses: readonly Address[], only?: ReadonlySet<Address>): Promise<readonly DeviceFacts[]> {
    const { found, bindings } = await this.#functions(addresses);
    const groups = await this.#groups.read(new Set(found.flatMap(({ group }) => group ?? [])), bindings);
    for (const { group } of groups.values()) if (group !== null) this.#sayOfGroup(group);
    await this.#identities.number(found);

    const scanned: ScannedDevice[] = [];
    const unbound: { readonly one: Found; readonly group: IommuGroup | null }[] = [];
    await inSlices(found, (one) => {
      const { group, fault } = (one.group === null ? undefined : groups.get(one.group)) ?? { group: null, fault: null };
      this.#say(one.address, fault ?? one.faults.join("; "));
      if (fault !== null) return;
      if (one.parsed.vfioBound) scanned.push(this.#bound(one, group));
      else unbound.push({ one, group });
    });
    await forEach(unbound, LOCKS_AT_ONCE, async ({ one, group }) => {
      try {
        scanned.push(await this.#unbound(one, group));
      } catch (error) {
        this.#say(one.address, error instanceof Error ? error.message : String(error));
      }
    });

    for (const address of addresses) this.#last.delete(address);
    for (const one of scanned) this.#last.set(one.address, one);
    // What is told of one depends on the others: a reset set, the virtual functions of a physical one.
    const inOrder = [...this.#last.values()].sort((a, b) => (a.address < b.address ? -1 : 1));
    return this.#identities.complete(inOrder, only);
  }

  /** Reads the functions: of those that were there before only what changes. */
  async #functions(addresses: readonly Address[]): Promise<Gathered> {
    const folder = devicesFolder(this.#sysRoot);
    const gathered: Gathered = { found: [], bindings: new Map() };
    const strangers = addresses.filter((address) => !this.#identities.has(address));
    const known = addresses.filter((address) => this.#identities.has(address));
    const rebound: Found[] = [];
    await this.#reader.read(folder, known, EACH_SCAN, (address, walk) => {
      const raw = rawDevice(walk);
      if (raw.inode === null) return;
      const identity = this.#identities.find(address, raw.inode);
      if (identity === null) {
        strangers.push(address);
        return;
      }
      const one = this.#gather(gathered, address, raw, identity);
      if (one !== null && !this.#identities.isBoundKnown(address, one.parsed.bindKey)) rebound.push(one);
    });

    const bindKeys = new Map(rebound.map(({ address, parsed }) => [address, parsed.bindKey]));
    await this.#reader.read(folder, [...bindKeys.keys()], EACH_BIND, (address, walk) => {
      this.#identities.setBound(address, bindKeys.get(address) ?? "", rawBound(walk));
    });

    const unsure: { readonly address: Address; readonly add: (bridge: boolean) => void }[] = [];
    await this.#reader.read(folder, strangers, [...EACH_SCAN, ...ONCE, ...EACH_BIND], (address, walk) => {
      const [raw, once, bound] = [rawDevice(walk), rawOnce(walk), rawBound(walk)];
      const { inode } = raw;
      if (inode === null || isNothing(once.ids)) return;
      const parsed = parseIds(once.ids);
      if ("fault" in parsed) {
        this.#say(address, `left out of the inventory: ${parsed.fault}`);
        return;
      }
      const add = (bridge: boolean): void => {
        const identity = identityOf(address, inode, parsed.ids, once.identity, bridge);
        this.#identities.add(address, identity);
        const one = this.#gather(gathered, address, raw, identity);
        if (one !== null) this.#identities.setBound(address, one.parsed.bindKey, bound);
      };
      const bridge = isBridge(parsed.ids.classCode);
      if (bridge === null) unsure.push({ address, add });
      else add(bridge);
    });
    for (const { address, add } of unsure) {
      try {
        add(((await readHeaderType(this.#sysRoot, address)) ?? 0) !== 0);
      } catch (error) {
        this.#say(address, error instanceof Error ? error.message : String(error));
      }
    }
    return gathered;
  }

  #gather(gathered: Gathered, address: Address, raw: RawDevice, identity: Identity): Found | null {
    gathered.bindings.set(address, raw.binding);
    if (identity.isBridge) return null;
    const parsed = parseDevice(address, raw);
    if ("fault" in parsed) {
      this.#say(address, `left out of the inventory: ${parsed.fault}`);
      return null;
    }
    const hasDriver = raw.binding.driver !== null;
    const one = { address, parsed: parsed.facts, faults: parsed.faults, group: raw.group, hasDriver };
    gathered.found.push(one);
    return one;
  }

  /** A function that a VFIO driver has. */
  #bound({ address, parsed }: Found, iommuGroup: IommuGroup | null): ScannedDevice {
    const { driver } = parsed;
    this.#leaving.has(address, driver);
    return { address, parsed, iommuGroup, driver, driverOverride: "", leaving: false };
  }

  /** One that none has: asked why, which can wait for the device's lock. */
  async #unbound({ address, parsed, hasDriver }: Found, iommuGroup: IommuGroup | null): Promise<ScannedDevice> {
    const leaving = hasDriver ? "" : await this.#leaving.read(address);
    if (leaving !== "") return { address, parsed, iommuGroup, driver: leaving, driverOverride: "", leaving: true };
    // Asked only where it tells something: why no VFIO driver has the device although one was named.
    const driverOverride = await this.#overrides.read(address);
    return { address, parsed, iommuGroup, driver: parsed.driver, driverOverride, leaving: false };
  }

  #sayOfGroup({ id, otherSpoilers: others }: IommuGroup): void {
    const what = "members that are no PCI functions keep the group from VFIO by their drivers";
    this.#say(`IOMMU group ${id}`, others.length > 0 ? `${what}: ${others.join(", ")}` : "");
  }

  #say(subject: string, message: string): void {
    if ((this.#said.get(subject) ?? "") === message) return;
    this.#said.set(subject, message);
    if (message !== "") this.#observer.fault(`host.scan ${subject}`, new Error(message));
  }
}

/** A function that left while it was read. */
function isNothing({ vendor, device, class: classCode, unreadable }: RawIds): boolean {
  return vendor === null && device === null && classCode === null && unreadable.length === 0;
}
