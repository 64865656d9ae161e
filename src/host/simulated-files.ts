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
  #files = new Map<number, OwnedDescriptor>();

  constructor(device: SimulatedDevice, queue: BlockingQueue, calls: MemoryCalls, interfere: Interference) {
    this.#device = device;
    this.#queue = queue;
    this.#calls = calls;
    this.#interfere = interfere;
  }

  /** Fresh, zeroed contents for every region: what a reset that clears memory does. All are made before the first old one goes. */
  async renew(): Promise<SysError | null> {
    const fresh = new Map<number, OwnedDescriptor>();
    const error = await this.#make(fresh);
    const old = error === null ? this.#files : fresh;
    if (error === null) this.#files = fresh;
    await this.#closeAll(old);
    return error;
  }

  /** True when somebody else has one of the files open or mapped. */
  async shared(): Promise<SysResult<boolean>> {
    for (const file of this.#files.values()) {
      const interference = await this.#interfere("F_SETLEASE", this.#device.address);
      if (interference !== null) return failed(interference);
      const shared = this.#calls.memfdShared(file.borrow());
      if (shared.error !== null || shared.value) return shared;
    }
    return { value: false, error: null };
  }

  /** A second open file of a region; the caller owns the descriptor. */
  async reopen(region: number, writable: boolean): Promise<SysResult<number>> {
    const interference = await this.#interfere("open", this.#device.address);
    if (interference !== null) return failed(interference);
    const file = this.#files.get(region);
    if (file === undefined) throw new Error(`${this.#device.address} has no simulated region ${region}`);
    return this.#calls.reopen(file.borrow(), writable ? "readwrite" : "read");
  }

  async close(): Promise<void> {
    const old = this.#files;
    this.#files = new Map();
    await this.#closeAll(old);
  }

  async #make(fresh: Map<number, OwnedDescriptor>): Promise<SysError | null> {
    for (const region of this.#device.regions) {
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
  async #closeAll(files: ReadonlyMap<number, OwnedDescriptor>): Promise<void> {
    await this.#queue.closeAll([...files.values()].map((file) => file.take()));
  }
}

/** Whether a client of a device lease gets a descriptor of the region. */
export function isUsable(region: SimulatedRegion): boolean {
  return (region.flags & (RegionFlag.read | RegionFlag.mmap)) !== 0;
}
