// The devices of this host as the broker knows them: facts from the last scan, the probe of each VFIO device, its state in the book. One revision
// counter orders all changes; watchers are told of each. What the host notices by itself names the devices that are read again; a scan of all, from
// time to time, finds what was missed.

import type { Address, DeviceFacts, DeviceProbe, Region } from "./device.js";
import { type IneligibleReason, ineligibleReasons } from "./eligibility.js";
import { Hints, type Which } from "./hints.js";
import type { LeaseState } from "./lease-table.js";
import { type PeerSet, PeerSets } from "./peer-set.js";
import type { Clock, Host, KnownDevice, Observer } from "./ports.js";
import type { Refusal } from "./refusal.js";

/** One device, as shown to clients. Immutable: a change makes a new one. */
export interface DeviceView {
  readonly facts: DeviceFacts;
  readonly probe: DeviceProbe | null;
  readonly state: LeaseState;
  readonly stateDetail: string;
  readonly ineligibleReasons: readonly IneligibleReason[];
  /** Those that the operator declares and that name it. */
  readonly peerSets: readonly PeerSet[];
  readonly generation: bigint;
}

export interface InventoryChange {
  readonly kind: "CHANGED" | "REMOVED";
  readonly view: DeviceView;
  readonly revision: bigint;
}

interface Entry {
  facts: DeviceFacts;
  probe: DeviceProbe | null;
  probeRefusal: Refusal | null;
  /** A probe is running: the device must not be leased, and not be probed twice. */
  probing: boolean;
  state: LeaseState;
  stateDetail: string;
  view: DeviceView;
}

export class Inventory {
  readonly #host: Host;
  readonly #clock: Clock;
  readonly #observer: Observer;
  readonly #entries = new Map<Address, Entry>();
  readonly #listeners = new Set<(change: InventoryChange) => void>();
  #revision = 0n;
  /** By IOMMU group. */
  readonly #groups = new Map<number, Set<Entry>>();
  /** In order of address; made anew, when somebody asks, after a device has come or gone. */
  #ordered: readonly Entry[] | null = null;
  /** The views of these; made anew after any change. */
  #views: readonly DeviceView[] | null = null;
  #peerSets = new PeerSets([]);
  #refreshing: Promise<void> | null = null;
  /** A refresh was asked for while one ran: what it saw may be older than the wish. */
  #again = false;
  /** Running probes by IOMMU group. A probe can take 30 s and more (a device that is not ready): nothing but settled() waits for it. */
  readonly #probing = new Map<number, Promise<void>>();
  /** The last scan in line: they take turns, so that an older answer never comes after a newer one. */
  #scanning: Promise<void> = Promise.resolve();

  constructor(host: Host, clock: Clock, observer: Observer) {
    this.#host = host;
    this.#clock = clock;
    this.#observer = observer;
    const hints = new Hints(clock, (which) => this.#readAgain(which));
    host.changes((change) => {
      if (change.kind === "ALL") hints.add("ALL");
      else if (change.kind === "DEVICES") hints.add(new Set(change.addresses));
    });
  }

  get revision(): bigint {
    return this.#revision;
  }

  get(address: Address): DeviceView | null {
    return this.#entries.get(address)?.view ?? null;
  }

  /** All devices, ordered by address. */
  list(): readonly DeviceView[] {
    this.#ordered ??= [...this.#entries.values()].sort((a, b) => compare(a.facts.address, b.facts.address));
    this.#views ??= this.#ordered.map((entry) => entry.view);
    return this.#views;
  }

  /** All devices, in no order. */
  *views(): Generator<DeviceView> {
    for (const entry of this.#entries.values()) yield entry.view;
  }

  /** Calls back on every change from now on; the returned function ends it. */
  subscribe(listener: (change: InventoryChange) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** The device with its probe, for a lease; null when it is unknown or not probed. */
  known(address: Address): KnownDevice | null {
    const entry = this.#entries.get(address);
    return entry?.probe ? { facts: entry.facts, probe: entry.probe } : null;
  }

  regions(address: Address): readonly Region[] {
    return this.#entries.get(address)?.probe?.regions ?? [];
  }

  /** Set by the book: the only writer of states. */
  setState(address: Address, state: LeaseState, detail: string): void {
    const entry = this.#entries.get(address);
    if (!entry || (entry.state === state && entry.stateDetail === detail)) return;
    // Most states say nothing of whether a device can be leased, and a lease goes through six.
    const reasons = isReason(entry.state) || isReason(state) ? null : entry.view.ineligibleReasons;
    entry.state = state;
    entry.stateDetail = detail;
    this.#changed(entry, "CHANGED", reasons);
    // Bound anew while it was leased: read as soon as the whole set is free.
    if (wantsProbe(entry, false)) queueMicrotask(() => this.#startProbes(false));
  }

  /** What the operator declares, from now on. A device that is free and now tied to one that is locked is locked with it; what was tied stays locked until its lease ends. */
  setPeerSets(sets: readonly PeerSet[]): void {
    const before = this.#peerSets;
    this.#peerSets = new PeerSets(sets);
    for (const address of new Set([...before.devices(), ...this.#peerSets.devices()])) {
      const entry = this.#entries.get(address);
      if (entry) this.#changed(entry);
    }
  }

  /**
   * Scans the machine and starts to probe what is new or was bound anew. Resolves after the scan; settled() waits for the probes. Calls while one runs share
   * it, and make it run once more.
   */
  refresh(): Promise<void> {
    if (this.#refreshing) {
      this.#again = true;
      return this.#refreshing;
    }
    const run = async (): Promise<void> => {
      do {
        this.#again = false;
        await this.#scan();
        this.#startProbes(true);
      } while (this.#again);
    };
    this.#refreshing = run().finally(() => {
      this.#refreshing = null;
    });
    return this.#refreshing;
  }

  /** Reads these again now, with what is tied to them: for whoever has just changed something of them. */
  async readAgain(addresses: ReadonlySet<Address>): Promise<void> {
    await this.#readAgain(addresses);
  }

  /** Resolves when neither the device nor another of its group is being probed. */
  async quiet(address: Address): Promise<void> {
    // A device that has just come free begins to be probed in a microtask.
    await Promise.resolve();
    for (;;) {
      const group = this.#entries.get(address)?.facts.iommuGroup?.id;
      const run = group === undefined ? undefined : this.#probing.get(group);
      if (run === undefined) return;
      await run;
    }
  }

  /** What a hint is about, and what is tied to it: a group's members show each other, a physical function its virtual ones. */
  async #readAgain(which: Which): Promise<void> {
    try {
      if (which === "ALL") {
        await this.#scan();
      } else {
        const before = this.#tiedTo(which);
        await this.#scan(before);
        const after = new Set([...this.#tiedTo(which)].filter((address) => !before.has(address)));
        if (after.size > 0) await this.#scan(after);
      }
      this.#startProbes(false);
    } catch (error) {
      this.#observer.fault("scan after a change", error);
    }
  }

  #tiedTo(addresses: ReadonlySet<Address>): ReadonlySet<Address> {
    const all = new Set(addresses);
    for (const address of addresses) {
      const facts = this.#entries.get(address)?.facts;
      const members = facts?.iommuGroup?.members.map((member) => member.address) ?? [];
      const tied = [...members, ...(facts?.resetSet?.addresses ?? []), ...(facts?.physicalFunction ? [facts.physicalFunction] : [])];
      for (const other of tied) if (this.#entries.has(other)) all.add(other);
    }
    return all;
  }

  #scan(only?: ReadonlySet<Address>): Promise<void> {
    const turn = this.#scanning.then(() => this.#scanNow(only));
    this.#scanning = turn.catch(() => {});
    return turn;
  }

  async #scanNow(only?: ReadonlySet<Address>): Promise<void> {
    const begin = this.#clock.now();
    const found = await this.#host.scan(only);
    this.#observer.operation("scan", this.#clock.now() - begin, true);
    const seen = new Set<Address>();
    for (const facts of found) {
      seen.add(facts.address);
      this.#take(facts);
    }
    for (const [address, entry] of this.#entries) {
      if (seen.has(address) || only?.has(address) === false) continue;
      this.#entries.delete(address);
      this.#leaveGroup(entry);
      this.#ordered = null;
      entry.state = "REMOVED";
      entry.stateDetail = "";
      this.#changed(entry, "REMOVED");
    }
  }

  #take(facts: DeviceFacts): void {
    const entry = this.#entries.get(facts.address);
    if (!entry) {
      const base = { facts, probe: null, probeRefusal: null, probing: false, state: "FREE" as const, stateDetail: "" };
      const fresh: Entry = { ...base, view: { ...base, ineligibleReasons: [], peerSets: [], generation: 0n } };
      this.#entries.set(facts.address, fresh);
      this.#joinGroup(fresh);
      this.#ordered = null;
      this.#changed(fresh);
      return;
    }
    if (sameFacts(entry.facts, facts)) return;
    // Bound anew while leased: what the book says of it stands until its lease ends; the probe is read again when it is free.
    if (entry.facts.bindKey !== facts.bindKey) {
      entry.probe = null;
      entry.probeRefusal = null;
    }
    this.#leaveGroup(entry);
    entry.facts = facts;
    this.#joinGroup(entry);
    this.#changed(entry);
  }

  #joinGroup(entry: Entry): void {
    const group = entry.facts.iommuGroup?.id;
    if (group === undefined) return;
    const members = this.#groups.get(group);
    if (members) members.add(entry);
    else this.#groups.set(group, new Set([entry]));
  }

  #leaveGroup(entry: Entry): void {
    const group = entry.facts.iommuGroup?.id;
    if (group === undefined) return;
    const members = this.#groups.get(group);
    members?.delete(entry);
    if (members?.size === 0) this.#groups.delete(group);
  }

  /** Resolves when no probe is running. */
  async settled(): Promise<void> {
    while (this.#probing.size > 0) await Promise.all(this.#probing.values());
  }

  /** askAgain: also what could not be read or was not ready the last time. */
  #startProbes(askAgain: boolean): void {
    for (const entry of this.#entries.values()) {
      // Only what has a group is ever probed.
      const group = entry.facts.iommuGroup?.id;
      if (group === undefined || !wantsProbe(entry, askAgain) || this.#probing.has(group)) continue;
      const run = this.#probeGroup(group, askAgain).finally(() => this.#probing.delete(group));
      this.#probing.set(group, run);
    }
  }

  /** A legacy group opens once, so its devices are probed one after the other; groups are independent. */
  async #probeGroup(group: number, askAgain: boolean): Promise<void> {
    // By binding: one that was bound anew meanwhile is another question.
    const asked = new Set<string>();
    for (;;) {
      const members = [...(this.#groups.get(group) ?? [])];
      const next = members.find((entry) => !asked.has(binding(entry)) && wantsProbe(entry, askAgain));
      if (!next) return;
      asked.add(binding(next));
      await this.#probe(next);
    }
  }

  async #probe(entry: Entry): Promise<void> {
    entry.probing = true;
    const { facts } = entry;
    const begin = this.#clock.now();
    try {
      const outcome = await this.#host.probe(facts);
      this.#observer.operation("probe", this.#clock.now() - begin, outcome.refusal === null);
      // Bound anew meanwhile: this answer is of another binding.
      if (entry.facts.bindKey !== facts.bindKey) return;
      const same = outcome.refusal !== null && outcome.refusal.message === entry.probeRefusal?.message;
      entry.probe = outcome.value;
      entry.probeRefusal = outcome.refusal;
      entry.probing = false;
      if (!same) this.#changed(entry);
    } catch (error) {
      this.#observer.fault(`probe ${facts.address}`, error);
      entry.probeRefusal = {
        reason: "HOST_OPERATION_FAILED",
        message: `${facts.address} could not be read (see the daemon's log)`,
        metadata: {},
      };
      this.#changed(entry);
    } finally {
      entry.probing = false;
    }
  }

  /** reasons: why it cannot be leased, where that is known to be as it was. */
  #changed(entry: Entry, kind: InventoryChange["kind"] = "CHANGED", reasons: DeviceView["ineligibleReasons"] | null = null): void {
    this.#revision += 1n;
    this.#views = null;
    entry.view = {
      facts: entry.facts,
      probe: entry.probe,
      state: entry.state,
      stateDetail: entry.stateDetail,
      ineligibleReasons: reasons ?? ineligibleReasons(entry),
      peerSets: this.#peerSets.of(entry.facts.address),
      generation: entry.view.generation + 1n,
    };
    const change: InventoryChange = { kind, view: entry.view, revision: this.#revision };
    for (const listener of this.#listeners) listener(change);
  }
}

/** A device in use elsewhere or not ready is asked again at every refresh, and not at every hint: nobody tells us when that ends, and each probe may reset it. */
function wantsProbe(entry: Entry, askAgain: boolean): boolean {
  if (entry.probing || entry.state !== "FREE") return false;
  if (!entry.facts.vfioBound || entry.facts.iommuGroup?.viable !== true) return false;
  if (entry.probe === null) return askAgain || entry.probeRefusal === null;
  return askAgain && entry.probe.notReady !== null;
}

/** A state that ineligibleReasons() knows. */
function isReason(state: LeaseState): boolean {
  return state === "QUARANTINED" || state === "REMOVED";
}

function binding({ facts }: Entry): string {
  return `${facts.address} ${facts.bindKey}`;
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** Compared part by part: what the host keeps from scan to scan (names, drivers, place) is most of it, and is the same object. */
function sameFacts(a: DeviceFacts, b: DeviceFacts): boolean {
  return (Object.keys(b) as (keyof DeviceFacts)[]).every((key) => a[key] === b[key] || JSON.stringify(a[key]) === JSON.stringify(b[key]));
}
