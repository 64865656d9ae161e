// Names and driver candidates of the devices that there are, looked up once for each kind of device and not for each device: 128 virtual functions are one kind.

import type { DriverCandidate, Names } from "../broker/facts.js";
import { DriverCandidates, withBound } from "./driver-candidates.js";
import { type IdNumbers, lookUpNames } from "./pci-ids.js";
import type { SystemFiles } from "./system-file.js";

export interface Words {
  readonly names: Names | null;
  readonly candidates: readonly DriverCandidate[];
}

export const NO_WORDS: Words = { names: null, candidates: [] };

export function kindOf({ vendorId, deviceId, classCode, subsystem }: IdNumbers): string {
  return [vendorId, deviceId, classCode, subsystem?.vendorId, subsystem?.deviceId].join(" ");
}

export class DeviceWords {
  readonly #files: SystemFiles;
  readonly #candidates: DriverCandidates;
  #words = new Map<string, Words>();
  /** Candidates of a kind together with a driver that has a device of it. */
  readonly #withBound = new WeakMap<Words, Map<string, readonly DriverCandidate[]>>();
  #stamp = "";

  constructor(sysRoot: string, files: SystemFiles) {
    this.#files = files;
    this.#candidates = new DriverCandidates(sysRoot, files);
  }

  of(kind: string): Words {
    return this.#words.get(kind) ?? NO_WORDS;
  }

  /** The candidates of one of them with the driver that it has: the same object as long as they are the same, for a thousand devices and from scan to scan. */
  candidates(words: Words, driver: string, vfioBound: boolean): readonly DriverCandidate[] {
    let known = this.#withBound.get(words);
    if (known === undefined) {
      known = new Map();
      this.#withBound.set(words, known);
    }
    const key = vfioBound ? `vfio ${driver}` : driver;
    let candidates = known.get(key);
    if (candidates === undefined) {
      candidates = withBound(words.candidates, driver, vfioBound);
      known.set(key, candidates);
    }
    return candidates;
  }

  /** Looks up what is new among the kinds, and forgets the others. Modules that were installed meanwhile make all new. */
  async learn(kinds: ReadonlyMap<string, IdNumbers>): Promise<void> {
    const stamp = await this.#candidates.stamp();
    const before = stamp === this.#stamp ? this.#words : new Map<string, Words>();
    this.#stamp = stamp;
    const unknown = [...kinds].filter(([kind]) => !before.has(kind));
    if (unknown.length === 0 && before.size === kinds.size) {
      this.#words = before;
      return;
    }
    const numbers = unknown.map(([, ids]) => ids);
    const [names, candidates] =
      numbers.length === 0 ? [[], []] : await Promise.all([lookUpNames(this.#files.pciIds, numbers), this.#candidates.lookUp(numbers)]);
    const fresh = new Map(unknown.map(([kind], index) => [kind, { names: names[index] ?? null, candidates: candidates[index] ?? [] }]));
    this.#words = new Map([...kinds.keys()].map((kind) => [kind, fresh.get(kind) ?? before.get(kind) ?? NO_WORDS]));
  }
}
