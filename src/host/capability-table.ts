// What was asked of the running kernel: never assumed from its version. Each row says how it was asked and what came back.

import type { HostCapability } from "../broker/ports.js";

export type CapabilityName =
  | "bind_token"
  | "cdev"
  | "dma_buf_export"
  | "dma_buf_mmap"
  | "iommufd"
  | "open_count"
  | "rlimit_mode"
  | "uevents";

export class CapabilityTable {
  readonly #rows: Map<CapabilityName, HostCapability>;

  /** start: what to say of each before it was asked, or when there is nothing to ask. */
  constructor(start: Readonly<Record<CapabilityName, string>>, availability: HostCapability["availability"] = "UNKNOWN") {
    const names = (Object.keys(start) as CapabilityName[]).sort();
    this.#rows = new Map(names.map((name) => [name, { name, availability, detail: start[name] }]));
  }

  set(name: CapabilityName, availability: HostCapability["availability"], detail: string): void {
    this.#rows.set(name, { name, availability, detail });
  }

  get(name: CapabilityName): HostCapability["availability"] {
    return this.#rows.get(name)?.availability ?? "UNKNOWN";
  }

  detail(name: CapabilityName): string {
    return this.#rows.get(name)?.detail ?? "";
  }

  /** Ordered by name: the map was filled in that order and set() replaces in place. */
  all(): readonly HostCapability[] {
    return [...this.#rows.values()];
  }
}
