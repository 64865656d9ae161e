// The identities of all functions that there are: what is known of each from earlier scans, and what only the whole scan can tell of each (virtual functions of a physical one,
// what lies below the same port).

import type { Address, DeviceFacts, IommuGroup } from "../broker/device.js";
import type { ExtendedGpuMemory, GenericInitiators, NumaNode, ResetSet, VirtualFunctions } from "../broker/facts.js";
import { NVGRACE } from "../broker/nvgrace.js";
import { type BoundIdentity, boundIdentityOf, type Identity, readVirtualFunctions, virtualKey } from "./device-identity.js";
import { DeviceWords } from "./device-words.js";
import type { FolderReader } from "./folder-reader.js";
import { initiatorsOf, NO_TOPOLOGY, type NumaTopology, readTopology } from "./numa.js";
import type { ParsedFacts } from "./parsed-device.js";
import type { IdNumbers } from "./pci-ids.js";
import type { RawBound } from "./raw-device.js";
import { inSlices } from "./slices.js";
import type { SystemFiles } from "./system-file.js";

/** A function as its own files tell. */
export interface ScannedDevice {
  readonly address: Address;
  readonly parsed: ParsedFacts;
  readonly iommuGroup: IommuGroup | null;
  /** Another one than the parsed while that driver lets go of it. */
  readonly driver: string;
  readonly driverOverride: string;
  readonly leaving: boolean;
}

const NVIDIA = 0x10de;

function isSame(a: readonly Address[], b: readonly Address[]): boolean {
  return a.length === b.length && a.every((address, index) => address === b[index]);
}

interface Entry {
  readonly identity: Identity;
  /** The binding for which bound was read; "": none yet. */
  bindKey: string;
  bound: BoundIdentity;
  vfIndex: number | null;
}

export class DeviceIdentities {
  readonly #sysRoot: string;
  readonly #reader: FolderReader;
  readonly #words: DeviceWords;
  readonly #entries = new Map<Address, Entry>();
  /** Of the last scan, by port and by physical function: kept as long as they say the same, so that hundreds of virtual functions are not compared name by name. */
  #sets = new Map<Address, ResetSet>();
  #virtual = new Map<Address, VirtualFunctions>();
  #topology: NumaTopology = NO_TOPOLOGY;
  #initiators: ReadonlyMap<Address, GenericInitiators> = new Map();
  #extendedMemory: ReadonlyMap<Address, ExtendedGpuMemory> = new Map();

  constructor(sysRoot: string, files: SystemFiles, reader: FolderReader) {
    this.#sysRoot = sysRoot;
    this.#reader = reader;
    this.#words = new DeviceWords(sysRoot, files);
  }

  /** Of the last readTopology(). */
  get numaNodes(): readonly NumaNode[] {
    return this.#topology.nodes;
  }

  /** What of the machine's memory belongs to devices. */
  async readTopology(): Promise<void> {
    this.#topology = await readTopology(this.#reader, this.#sysRoot);
    this.#extendedMemory = new Map(this.#topology.extendedMemory.flatMap((memory) => memory.gpus.map((gpu) => [gpu, memory] as const)));
  }

  /** Whether anything is known of a function at this address. */
  has(address: Address): boolean {
    return this.#entries.has(address);
  }

  /** What is known of the function with this inode; null: nothing, another one was there. */
  find(address: Address, inode: bigint): Identity | null {
    const entry = this.#entries.get(address);
    return entry?.identity.inode === inode ? entry.identity : null;
  }

  /** A function that was not there before. */
  add(address: Address, identity: Identity): void {
    this.#entries.set(address, { identity, bindKey: "", bound: { place: null, totalVfs: null }, vfIndex: null });
  }

  /** Whether what a binding may change is known for this one. */
  isBoundKnown(address: Address, bindKey: string): boolean {
    return this.#entries.get(address)?.bindKey === bindKey;
  }

  setBound(address: Address, bindKey: string, raw: RawBound): void {
    const entry = this.#entries.get(address);
    if (entry === undefined) return;
    entry.bindKey = bindKey;
    entry.bound = boundIdentityOf(entry.identity, raw);
  }

  keepOnly(present: ReadonlySet<string>): void {
    for (const address of this.#entries.keys()) if (!present.has(address)) this.#entries.delete(address);
  }

  /** Numbers virtual functions. Asked until there is an answer: the kernel makes a virtual function's links after the function (drivers/pci/iov.c pci_iov_add_virtfn). */
  async number(functions: readonly { readonly address: Address; readonly parsed: ParsedFacts }[]): Promise<void> {
    const physical = new Set<Address>();
    const unnumbered: { readonly entry: Entry; readonly key: string }[] = [];
    for (const { address, parsed } of functions) {
      const entry = this.#entries.get(address);
      if (entry === undefined || entry.vfIndex !== null || parsed.physicalFunction === null) continue;
      physical.add(parsed.physicalFunction);
      unnumbered.push({ entry, key: virtualKey(parsed.physicalFunction, address) });
    }
    const numbers = await readVirtualFunctions(this.#reader, this.#sysRoot, [...physical]);
    for (const { entry, key } of unnumbered) entry.vfIndex = numbers.get(key) ?? null;
  }

  /** All functions that there are, or only some of them, with all that is known of them. */
  async complete(scanned: readonly ScannedDevice[], only?: ReadonlySet<Address>): Promise<readonly DeviceFacts[]> {
    const kinds = new Map<string, IdNumbers>();
    const below = new Map<Address, Set<Address>>();
    const virtual = new Map<Address, Address[]>();
    await inSlices(scanned, ({ address, parsed }) => {
      const identity = this.#entries.get(address)?.identity;
      if (identity === undefined) return;
      kinds.set(identity.kind, identity.numbers);
      if (parsed.physicalFunction !== null) listOf(virtual, parsed.physicalFunction).push(address);
      const ports = identity.where?.ports ?? [];
      for (const [index, port] of ports.entries()) {
        let members = below.get(port);
        if (members === undefined) {
          members = new Set();
          below.set(port, members);
        }
        for (const bridge of ports.slice(index + 1)) members.add(bridge);
        members.add(address);
      }
    });
    await this.#words.learn(kinds);
    const sets = new Map<Address, ResetSet>();
    await inSlices([...below], ([port, members]) => {
      const addresses = [...members].sort();
      const before = this.#sets.get(port);
      sets.set(port, before !== undefined && isSame(before.addresses, addresses) ? before : { addresses, source: "TOPOLOGY" });
    });
    this.#sets = sets;
    this.#virtual = this.#virtualFunctions(scanned, virtual);
    const gpus = scanned.filter((one) => this.#isGraceGpu(one)).map(({ address }) => address);
    this.#initiators = initiatorsOf(this.#topology.nodes, gpus);
    const completed: DeviceFacts[] = [];
    await inSlices(scanned, (one) => {
      if (only !== undefined && !only.has(one.address)) return;
      const entry = this.#entries.get(one.address);
      // Without one it has left meanwhile.
      if (entry !== undefined) completed.push(this.#completed(one, entry));
    });
    return completed;
  }

  /** Also one that another driver has: it has its nodes all the same. */
  #isGraceGpu({ address, driver }: ScannedDevice): boolean {
    if (driver === NVGRACE) return true;
    const identity = this.#entries.get(address)?.identity;
    if (identity?.numbers.vendorId !== NVIDIA) return false;
    return this.#words.of(identity.kind).candidates.some((candidate) => candidate.driver === NVGRACE);
  }

  #virtualFunctions(scanned: readonly ScannedDevice[], virtual: ReadonlyMap<Address, readonly Address[]>): Map<Address, VirtualFunctions> {
    const all = new Map<Address, VirtualFunctions>();
    for (const { address } of scanned) {
      const total = this.#entries.get(address)?.bound.totalVfs ?? null;
      if (total === null) continue;
      const addresses = virtual.get(address) ?? [];
      const before = this.#virtual.get(address);
      all.set(address, before?.total === total && isSame(before.addresses, addresses) ? before : { total, addresses });
    }
    return all;
  }

  #completed({ address, parsed, iommuGroup, driver, driverOverride, leaving }: ScannedDevice, entry: Entry): DeviceFacts {
    const { identity, bound, vfIndex } = entry;
    const { vendorId, deviceId, classCode, subsystem } = identity.numbers;
    const words = this.#words.of(identity.kind);
    const port = identity.where?.ports.at(-1);
    return {
      address,
      vendorId,
      deviceId,
      classCode,
      driver,
      driverOverride,
      iommuGroup,
      leaving,
      subsystem,
      resetMethods: parsed.resetMethods,
      numaNode: parsed.numaNode,
      physicalFunction: parsed.physicalFunction,
      vfioBound: parsed.vfioBound,
      bindKey: parsed.bindKey,
      revisionId: identity.revisionId,
      names: words.names,
      driverCandidates: this.#words.candidates(words, driver, parsed.vfioBound),
      place: bound.place,
      virtualFunctions: this.#virtual.get(address) ?? null,
      vfIndex: parsed.physicalFunction === null ? null : vfIndex,
      genericInitiators: this.#initiators.get(address) ?? null,
      extendedMemory: this.#extendedMemory.get(address) ?? null,
      resetSet: port === undefined ? null : (this.#sets.get(port) ?? null),
    };
  }
}

function listOf<T>(lists: Map<Address, T[]>, key: Address): T[] {
  const known = lists.get(key);
  if (known !== undefined) return known;
  const list: T[] = [];
  lists.set(key, list);
  return list;
}
