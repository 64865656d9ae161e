// One device of a held lease: which descriptor reaches which region, and everything that can block on the device, in order, on the device's own
// native thread. What a descriptor needs before it can be used differs by kind; this is the only place that knows.

import type { OwnedDescriptor } from "../descriptor.js";
import { type BlockingQueue, native, type VfioRegionInfo } from "../native.js";
import { SystemCallError, unwrap } from "./errors.js";
import { uuidText } from "./frame.js";
import type { DescriptorInfo, LeasedDevice, Region } from "./model.js";
import { RegionMapping } from "./region-mapping.js";

/** What the native helper moves in one call; more is for a mapping. */
const LARGEST_TRANSFER = 64 << 20;

/** One descriptor of a lease with what it is. */
export interface LeasedDescriptor {
  readonly info: DescriptorInfo;
  /** Owned by the lease, which closes it: borrow() its number for a call or a child process. Who take()s it has to close it before release(). */
  readonly descriptor: OwnedDescriptor;
}

/** How to reach a region: where it starts in which descriptor. */
interface Route {
  readonly descriptor: OwnedDescriptor;
  readonly base: bigint;
  /** The descriptor ends at the backed size (a memfd): what lies beyond must not be written, or the file would grow. */
  readonly endsWithBacking: boolean;
}

export class LeasedDeviceAccess {
  readonly #device: LeasedDevice;
  readonly #descriptors: readonly LeasedDescriptor[];
  readonly #iommufd: OwnedDescriptor | null;
  readonly #queue: BlockingQueue;
  readonly #mappings = new Set<RegionMapping>();
  readonly #beingMapped = new Set<Promise<unknown>>();
  #bound: Promise<void> | null = null;

  /** inUse: the descriptors come from a holder before, which has bound them. */
  constructor(device: LeasedDevice, descriptors: readonly LeasedDescriptor[], inUse = false) {
    this.#device = device;
    this.#descriptors = descriptors.filter(({ info }) => info.address === device.address);
    this.#iommufd = descriptors.find(({ info }) => info.kind === "IOMMUFD")?.descriptor ?? null;
    this.#queue = new native.BlockingQueue(`lease ${device.address}`);
    if (inUse) this.#bound = Promise.resolve();
  }

  /** VFIO_DEVICE_BIND_IOMMUFD, once; nothing to do for descriptors that are ready. */
  bind(): Promise<void> {
    const unbound = this.#find("DEVICE_UNBOUND");
    if (unbound === null) return Promise.resolve();
    this.#bound ??= this.#bind(unbound.descriptor);
    return this.#bound;
  }

  async #bind(descriptor: OwnedDescriptor): Promise<void> {
    if (this.#iommufd === null) throw new RangeError(`the lease has no iommufd to bind ${this.#device.address} to`);
    const { address, vfToken } = this.#device;
    const token = vfToken === undefined ? null : uuidText(vfToken, 0);
    const { error } = await this.#queue.bindIommufd(descriptor.borrow(), this.#iommufd.borrow(), token, address);
    if (error === null) return;
    throw new SystemCallError(
      error,
      error.code === "EINVAL"
        ? "a process that was given this descriptor has bound it already; a descriptor is bound once, for good"
        : null,
    );
  }

  async read(index: number, offset: bigint, length: number): Promise<Uint8Array> {
    const region = this.#accessible(index, offset, length, "readable");
    const route = await this.#route(region);
    const bytes = unwrap(await this.#queue.pread(route.descriptor.borrow(), route.base + offset, length, this.#subject(index)));
    if (bytes.length === length) return bytes;
    // Two kinds of descriptor end early and mean the same: a memfd ends at the backed size, and nvgrace-gpu gives a short count where a read of its
    // non-cached region crosses the end of real memory. Beyond it the driver's answer is 0xFF.
    if (offset + BigInt(bytes.length) < region.backedSize) throw this.#short("pread", index, bytes.length, length);
    const whole = new Uint8Array(length).fill(0xff);
    whole.set(bytes);
    return whole;
  }

  async write(index: number, offset: bigint, data: Uint8Array): Promise<void> {
    const region = this.#accessible(index, offset, data.length, "writable");
    const route = await this.#route(region);
    const backed = region.backedSize > offset ? region.backedSize - offset : 0n;
    const kept = route.endsWithBacking && backed < BigInt(data.length) ? data.subarray(0, Number(backed)) : data;
    if (kept.length === 0) return;
    const written = unwrap(await this.#queue.pwrite(route.descriptor.borrow(), route.base + offset, kept, this.#subject(index)));
    if (written < kept.length && BigInt(written) < backed) throw this.#short("pwrite", index, written, kept.length);
  }

  async map(index: number, write: boolean): Promise<RegionMapping> {
    const region = this.#region(index);
    if (!region.mappable) throw new RangeError(`${this.#subject(index)} cannot be mapped: its driver offers no area`);
    const route = await this.#route(region);
    const mapping = native.mapRegion(route.descriptor.borrow(), route.base, region.size, region.areas, write, this.#subject(index));
    // close() waits for it: a descriptor that is closed while another thread maps it may be somebody else's by then.
    this.#beingMapped.add(mapping);
    try {
      const made = new RegionMapping(unwrap(await mapping), (closed) => this.#mappings.delete(closed));
      this.#mappings.add(made);
      return made;
    } finally {
      this.#beingMapped.delete(mapping);
    }
  }

  /** VFIO_DEVICE_GET_REGION_INFO on the descriptor of this process. */
  async regionInfo(index: number): Promise<VfioRegionInfo> {
    const descriptor = await this.#deviceDescriptor();
    if (descriptor === null) throw new RangeError(`the lease has no device descriptor of ${this.#device.address} to ask`);
    return unwrap(await this.#queue.regionInfo(descriptor.borrow(), index, this.#subject(index)));
  }

  async closeMappings(): Promise<void> {
    await Promise.allSettled(this.#beingMapped);
    for (const mapping of [...this.#mappings]) await mapping.close();
  }

  /** Closes the descriptors on the device's thread: the last close of a VFIO device resets it. Mappings stay. Once. */
  async closeDescriptors(): Promise<void> {
    await Promise.allSettled(this.#beingMapped);
    const open = this.#descriptors.filter(({ descriptor }) => descriptor.isOpen);
    const results = await Promise.all(open.map(({ descriptor }) => this.#queue.close(descriptor.take())));
    for (const result of results) unwrap(result);
  }

  #find(kind: "DEVICE" | "DEVICE_UNBOUND"): LeasedDescriptor | null {
    return this.#descriptors.find(({ info }) => info.kind === kind) ?? null;
  }

  async #deviceDescriptor(): Promise<OwnedDescriptor | null> {
    await this.bind();
    return (this.#find("DEVICE") ?? this.#find("DEVICE_UNBOUND"))?.descriptor ?? null;
  }

  async #route(region: Region): Promise<Route> {
    const own = this.#descriptors.find(({ info }) => info.kind === "REGION" && info.region === region.index);
    if (own !== undefined) return { descriptor: own.descriptor, base: own.info.offset, endsWithBacking: true };
    const descriptor = await this.#deviceDescriptor();
    if (descriptor === null) throw new RangeError(`the lease has no descriptor that reaches ${this.#subject(region.index)}`);
    return { descriptor, base: region.offset, endsWithBacking: false };
  }

  #region(index: number): Region {
    const region = this.#device.regions.find((candidate) => candidate.index === index);
    if (region !== undefined) return region;
    const known = this.#device.regions.map((candidate) => candidate.index).join(", ");
    throw new RangeError(`the lease has no ${this.#subject(index)}; it has ${known === "" ? "none" : known}`);
  }

  #accessible(index: number, offset: bigint, length: number, how: "readable" | "writable"): Region {
    const region = this.#region(index);
    if (!region[how]) throw new RangeError(`${this.#subject(index)} is not ${how}`);
    if (!Number.isInteger(length) || length < 0 || length > LARGEST_TRANSFER) {
      throw new RangeError(`a length of ${length} bytes is not between 0 and ${LARGEST_TRANSFER}: map the region for more`);
    }
    if (offset < 0n || offset + BigInt(length) > region.size) {
      throw new RangeError(
        `${length} bytes at 0x${offset.toString(16)} are beyond ${this.#subject(index)} of 0x${region.size.toString(16)} bytes`,
      );
    }
    return region;
  }

  #short(operation: string, index: number, got: number, wanted: number): SystemCallError {
    return new SystemCallError({
      operation,
      errno: 0,
      code: "SHORT_TRANSFER",
      subject: `${this.#subject(index)} (${got} of ${wanted} bytes)`,
    });
  }

  #subject(index: number): string {
    return `${this.#device.address} region ${index}`;
  }
}
