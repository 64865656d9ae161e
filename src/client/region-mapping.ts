// A padded aperture in this process's address space, with typed errors around the native mapping.

import type { Mapping } from "../native.js";
import { unwrap } from "./errors.js";

/** Made by HeldLease.map. Offsets are bytes from the start of the region. */
export class RegionMapping {
  readonly #mapping: Mapping;
  readonly #forget: (mapping: RegionMapping) => void;

  /** Takes ownership of the native mapping. */
  constructor(mapping: Mapping, forget: (mapping: RegionMapping) => void) {
    this.#mapping = mapping;
    this.#forget = forget;
  }

  /** Bytes of address space: the padded size of the region. */
  get size(): bigint {
    return this.#mapping.size;
  }

  /**
   * Copies out of the mapping; the tail reads 0xFF. Each access is naturally aligned and as wide as alignment and rest allow, so 4 aligned bytes are
   * one 32-bit load. Throws SystemCallError EFAULT where the access would have been a SIGBUS (device in reset, poisoned memory), RangeError beyond size.
   */
  async read(offset: bigint, length: number): Promise<Uint8Array> {
    return unwrap(await this.#mapping.read(offset, length));
  }

  /** Copies into the mapping; bytes that fall into the tail are dropped. Errors as read. */
  async write(offset: bigint, data: Uint8Array): Promise<void> {
    unwrap(await this.#mapping.write(offset, data));
  }

  /**
   * A view of a range that lies in one area (RangeError else), detached by close(). For memory only: touching a view of a device that is in reset
   * is a SIGBUS that ends the process, so use read and write for registers.
   */
  view(offset: bigint, length: number): ArrayBuffer {
    return this.#mapping.view(offset, length);
  }

  /** Detaches every view and unmaps. Twice is harmless. */
  async close(): Promise<void> {
    this.#forget(this);
    unwrap(await this.#mapping.close());
  }
}
