// The identities of all functions that there are: what is known of each from earlier scans, and what only the whole scan can tell of each (virtual functions of a physical one,
// what lies below the same port).

import type { Address, DeviceFacts } from "../broker/device.js";
import type { ResetSet, VirtualFunctions } from "../broker/facts.js";
import { type BoundIdentity, type Identity, readBoundIdentity, readIdentity, readInode, readVirtualFunctions } from "./device-identity.js";
import { DeviceWords, kindOf } from "./device-words.js";
import { withBound } from "./driver-candidates.js";
import type { IdNumbers } from "./pci-ids.js";
import type { IdTexts } from "./sysfs-device.js";
import type { SystemFiles } from "./system-file.js";

/** What is added to a function when the scan has seen all. */
type Added = "revisionId" | "subsystem" | "names" | "driverCandidates" | "place" | "virtualFunctions" | "vfIndex" | "resetSet";

/** A function as its own files tell. */
export type ScannedFacts = Omit<DeviceFacts, Added>;

function isSame(a: readonly Address[], b: readonly Address[]): boolean {
  return a.length === b.length && a.every((address, index) => address === b[index]);
}

interface Entry {
  readonly identity: Identity;
  bindKey: string;
  bound: BoundIdentity;
  vfIndex: number | null;
}

export class DeviceIdentities {
  readonly #sysRoot: string;
  readonly #words: DeviceWords;
  readonly #entries = new Map<Address, Entry>();
  /** Of the last scan, by port and by physical function: kept as long as they say the same, so that hundreds of virtual functions are not compared name by name. */
  #sets = new Map<Address, ResetSet>();
  #virtual = new Map<Address, VirtualFunctions>();

  constructor(sysRoot: string, files: SystemFiles) {
    this.#sysRoot = sysRoot;
    this.#words = new DeviceWords(sysRoot, files);
  }

  /** inode: of the function that is there now; identity: when it is the one that was there before. null: there is none. */
  async find(address: Address): Promise<{ readonly inode: bigint; readonly identity: Identity | null } | null> {
    const inode = await readInode(this.#sysRoot, address);
    if (inode === null) return null;
    const entry = this.#entries.get(address);
    return { inode, identity: entry?.identity.inode === inode ? entry.identity : null };
  }

  /** A function that was not there before. */
  async add(address: Address, inode: bigint, ids: IdTexts, isBridge: boolean): Promise<Identity> {
    const identity = await readIdentity(this.#sysRoot, address, inode, ids, isBridge);
    this.#entries.set(address, { identity, bindKey: "", bound: { place: null, totalVfs: null }, vfIndex: null });
    return identity;
  }

  keepOnly(present: ReadonlySet<string>): void {
    for (const address of this.#entries.keys()) if (!present.has(address)) this.#entries.delete(address);
  }

  /** Reads what this binding of the function may have changed. numbers: of the virtual functions of one physical, shared by all in one scan. */
  async update(facts: ScannedFacts, numbers: Map<Address, Promise<ReadonlyMap<string, number>>>): Promise<void> {
    const entry = this.#entries.get(facts.address);
    if (entry === undefined) return;
    if (entry.bindKey !== facts.bindKey) {
      entry.bound = await readBoundIdentity(this.#sysRoot, facts.address, entry.identity);
      entry.bindKey = facts.bindKey;
    }
    // Asked until there is an answer: the kernel makes a virtual function's links after the function (drivers/pci/iov.c pci_iov_add_virtfn).
    const { physicalFunction } = facts;
    if (entry.vfIndex !== null || physicalFunction === null) return;
    let reading = numbers.get(physicalFunction);
    if (reading === undefined) {
      reading = readVirtualFunctions(this.#sysRoot, physicalFunction);
      numbers.set(physicalFunction, reading);
    }
    entry.vfIndex = (await reading).get(facts.address) ?? null;
  }

  /** The functions of one scan with all that is known of them. */
  async complete(scanned: readonly ScannedFacts[]): Promise<readonly DeviceFacts[]> {
    const kinds = new Map<string, IdNumbers>();
    const below = new Map<Address, Set<Address>>();
    const virtual = new Map<Address, Address[]>();
    for (const facts of scanned) {
      const numbers = this.#numbers(facts);
      kinds.set(kindOf(numbers), numbers);
      if (facts.physicalFunction !== null) {
        const others = virtual.get(facts.physicalFunction);
        if (others === undefined) virtual.set(facts.physicalFunction, [facts.address]);
        else others.push(facts.address);
      }
      const ports = this.#entries.get(facts.address)?.identity.where?.ports ?? [];
      for (const [index, port] of ports.entries()) {
        const members = below.get(port) ?? new Set();
        for (const member of [...ports.slice(index + 1), facts.address]) members.add(member);
        below.set(port, members);
      }
    }
    await this.#words.learn(kinds);
    const sets = [...below].map(([port, members]) => {
      const addresses = [...members].sort();
      const before = this.#sets.get(port);
      return [
        port,
        before !== undefined && isSame(before.addresses, addresses) ? before : { addresses, source: "TOPOLOGY" as const },
      ] as const;
    });
    this.#sets = new Map(sets);
    this.#virtual = new Map(scanned.flatMap(({ address }) => this.#virtualOf(address, virtual.get(address) ?? [])));
    return scanned.map((facts) => this.#completed(facts));
  }

  #virtualOf(address: Address, addresses: readonly Address[]): readonly (readonly [Address, VirtualFunctions])[] {
    const total = this.#entries.get(address)?.bound.totalVfs ?? null;
    if (total === null) return [];
    const before = this.#virtual.get(address);
    return [[address, before?.total === total && isSame(before.addresses, addresses) ? before : { total, addresses }]];
  }

  #numbers({ address, vendorId, deviceId, classCode }: ScannedFacts): IdNumbers {
    return { vendorId, deviceId, classCode, subsystem: this.#entries.get(address)?.identity.subsystem ?? null };
  }

  #completed(facts: ScannedFacts): DeviceFacts {
    const entry = this.#entries.get(facts.address);
    const { names, candidates } = this.#words.of(kindOf(this.#numbers(facts)));
    const port = entry?.identity.where?.ports.at(-1);
    return {
      ...facts,
      revisionId: entry?.identity.revisionId ?? null,
      subsystem: entry?.identity.subsystem ?? null,
      names,
      driverCandidates: withBound(candidates, facts.driver, facts.vfioBound),
      place: entry?.bound.place ?? null,
      virtualFunctions: this.#virtual.get(facts.address) ?? null,
      vfIndex: facts.physicalFunction === null ? null : (entry?.vfIndex ?? null),
      resetSet: port === undefined ? null : (this.#sets.get(port) ?? null),
    };
  }
}
