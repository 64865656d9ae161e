// The memory behind a simulated device: one sparse memfd for each region, ending where the region's real memory ends. Nothing is allocated before somebody writes, so a 95 GiB
// aperture costs nothing. Our own descriptor is the only open file of each: clients get a second one, so that memfdShared can tell when they have let go.

import { OwnedDescriptor } from "../descriptor.js";
import type { BlockingQueue, Native, SysError, SysResult } from "../native.js";
import { RegionFlag, RegionIndex } from "./region.js";
import { configSpace, type SimulatedDevice, type SimulatedRegion } from "./simulated-devices.js";

export type MemoryCalls = Pick<Native, "memfdCreate" | "memfdShared" | "reopen" | "closeDescriptor">;

/** Asked before each call that touches a device: an error to answer with, or null to go on. */
export type Interference = (operation: string, address: string) => Promise<SysError | null>;

function failed<T>(error: SysError): SysResult<T> {
  return { value: null, error };
}

export class SimulatedFiles {
  readonly #device: SimulatedDevice;
  readonly #queue: BlockingQueue;
  readonly #calls: MemoryCalls;
  readonly #interfere: Interference;
  readonly #files = new Map<number, OwnedDescriptor>();
  /** Regions of which somebody else has been given an open file since the file was made. */
  readonly #lent = new Set<number>();

  constructor(device: SimulatedDevice, queue: BlockingQueue, calls: MemoryCalls, interfere: Interference) {
    this.#device = device;
    this.#queue = queue;
    this.#calls = calls;
    this.#interfere = interfere;
  }

  /**
   * Fresh, zeroed contents for every region: what a reset that clears memory does. A file that was never lent is as it was made, and stays. All new ones are made
   * before the first old one goes.
   */
  async renew(): Promise<SysError | null> {
    const fresh = new Map<number, OwnedDescriptor>();
    const error = await this.#make(fresh);
    if (error !== null) {
      await this.#closeAll(fresh.values());
      return error;
    }
    const old: OwnedDescriptor[] = [];
    for (const [region, file] of fresh) {
      const earlier = this.#files.get(region);
      if (earlier !== undefined) old.push(earlier);
      this.#files.set(region, file);
    }
    this.#lent.clear();
    await this.#closeAll(old);
    return null;
  }

  /** True when somebody else has one of the files open or mapped. Only those that were lent are asked about: the others have never left this process. */
  async shared(): Promise<SysResult<boolean>> {
    for (const region of this.#lent) {
      const shared = await this.#isShared(region);
      if (shared.error !== null || shared.value) return shared;
    }
    return { value: false, error: null };
  }

  /** Why this kernel cannot tell; null: it can. */
  async obstacle(): Promise<SysError | null> {
    const [any] = this.#files.keys();
    return any === undefined ? null : (await this.#isShared(any)).error;
  }

  /** A second open file of a region; the caller owns the descriptor. */
  async reopen(region: number, writable: boolean): Promise<SysResult<number>> {
    const interference = await this.#interfere("open", this.#device.address);
    if (interference !== null) return failed(interference);
    const opened = this.#calls.reopen(this.#file(region).borrow(), writable ? "readwrite" : "read");
    if (opened.error === null) this.#lent.add(region);
    return opened;
  }

  async close(): Promise<void> {
    const old = [...this.#files.values()];
    this.#files.clear();
    this.#lent.clear();
    await this.#closeAll(old);
  }

  async #isShared(region: number): Promise<SysResult<boolean>> {
    const interference = await this.#interfere("F_SETLEASE", this.#device.address);
    return interference === null ? this.#calls.memfdShared(this.#file(region).borrow()) : failed(interference);
  }

  #file(region: number): OwnedDescriptor {
    const file = this.#files.get(region);
    if (file === undefined) throw new Error(`${this.#device.address} has no simulated region ${region}`);
    return file;
  }

  async #make(fresh: Map<number, OwnedDescriptor>): Promise<SysError | null> {
    for (const region of this.#device.regions) {
      if (this.#files.has(region.index) && !this.#lent.has(region.index)) continue;
      const interference = await this.#interfere("memfd_create", this.#device.address);
      if (interference !== null) return interference;
      const made = this.#calls.memfdCreate(`${this.#device.address} region ${region.index}`, region.backedSize);
      if (made.error !== null) return made.error;
      fresh.set(region.index, new OwnedDescriptor(made.value, `${this.#device.address} region ${region.index}`));
      if (region.index !== RegionIndex.config) continue;
      const written = await this.#queue.pwrite(made.value, 0n, configSpace(this.#device), `${this.#device.address} config`);
      if (written.error !== null) return written.error;
    }
    return null;
  }

  /** On the queue: the last close of a file that a client has filled gives gigabytes back. */
  async #closeAll(files: Iterable<OwnedDescriptor>): Promise<void> {
    await this.#queue.closeAll(Array.from(files, (file) => file.take()));
  }
}

/** Whether a client of a device lease gets a descriptor of the region. */
export function isUsable(region: SimulatedRegion): boolean {
  return (region.flags & (RegionFlag.read | RegionFlag.mmap)) !== 0;
}
