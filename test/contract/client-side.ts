// What a client does with the descriptors of a lease, and no more than it may: copies them (as SCM_RIGHTS does: same open file, other number), binds an unbound
// device to its iommufd, maps a region. The contract needs it because only what a client does makes a device held.

import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import type { KnownDevice, OpenedLease } from "../../src/broker/ports.js";
import { type BlockingQueue, type Mapping, native, type SysResult } from "../../src/native.js";

/** Open descriptors of this process, by number. readdir's own is among them each time. */
export function openDescriptors(): number {
  return readdirSync("/proc/self/fd").length;
}

/** The value of a call that must not fail. */
export function must<T>(result: SysResult<T>): T {
  if (result.error !== null) assert.fail(`${result.error.operation} on ${result.error.subject}: ${result.error.code}`);
  return result.value;
}

export class ClientSide {
  readonly #queue: BlockingQueue = new native.BlockingQueue("client");
  readonly #lease: OpenedLease;
  #copies: number[];

  private constructor(lease: OpenedLease, copies: number[]) {
    this.#lease = lease;
    this.#copies = copies;
  }

  /** Receives a lease: from here on the broker may close its own copies. */
  static receive(lease: OpenedLease): ClientSide {
    return new ClientSide(
      lease,
      lease.descriptors.map((descriptor) => must(native.duplicate(descriptor.borrow()))),
    );
  }

  /** Makes every device usable: on iommufd that is BIND, and until then the kernel does not count it as held. */
  async bind(): Promise<void> {
    const infos = this.#lease.descriptors.map((descriptor) => descriptor.info);
    const iommufd = infos.findIndex((info) => info.kind === "IOMMUFD");
    for (const [index, info] of infos.entries()) {
      if (info.kind !== "DEVICE_UNBOUND") continue;
      must(await this.#queue.bindIommufd(this.#copy(index), this.#copy(iommufd), null, info.address ?? ""));
    }
  }

  /** Maps a region through whichever descriptor of the lease gives it. */
  async map(known: KnownDevice, index: number): Promise<Mapping> {
    const { descriptor, offset } = this.#regionDescriptor(known, index);
    const region = known.probe.regions.find((candidate) => candidate.index === index);
    assert.ok(region !== undefined);
    return must(await native.mapRegion(descriptor, offset, region.size, region.areas, true, known.facts.address));
  }

  /** Reads with pread(2), as the driver answers. */
  async read(known: KnownDevice, index: number, at: bigint, length: number): Promise<SysResult<Uint8Array>> {
    const { descriptor, offset } = this.#regionDescriptor(known, index);
    return this.#queue.pread(descriptor, offset + at, length, known.facts.address);
  }

  async write(known: KnownDevice, index: number, at: bigint, data: Uint8Array): Promise<SysResult<number>> {
    const { descriptor, offset } = this.#regionDescriptor(known, index);
    return this.#queue.pwrite(descriptor, offset + at, data, known.facts.address);
  }

  /** Closes every descriptor; mappings stay. */
  async drop(): Promise<void> {
    const copies = this.#copies;
    this.#copies = [];
    for (const copy of copies.reverse()) must(await this.#queue.close(copy));
  }

  #copy(index: number): number {
    const copy = this.#copies[index];
    assert.ok(copy !== undefined, "the lease has no such descriptor");
    return copy;
  }

  #regionDescriptor(known: KnownDevice, index: number): { descriptor: number; offset: bigint } {
    const { address } = known.facts;
    const infos = this.#lease.descriptors.map((descriptor) => descriptor.info);
    const own = infos.findIndex((info) => info.kind === "REGION" && info.address === address && info.region === index);
    if (own >= 0) return { descriptor: this.#copy(own), offset: infos[own]?.offset ?? 0n };
    const device = infos.findIndex((info) => (info.kind === "DEVICE" || info.kind === "DEVICE_UNBOUND") && info.address === address);
    const region = known.probe.regions.find((candidate) => candidate.index === index);
    return { descriptor: this.#copy(device), offset: region?.offset ?? 0n };
  }
}
