// The series of each device. A host with thousands of virtual functions changes few of them between two scrapes, so the lines of a device are kept and made anew at the
// next scrape after it has changed, and a metric is kept, as the bytes that are sent, while none of its lines has: a lease that comes and goes leaves what the devices are alone.

import type { DeviceView, Inventory } from "../broker/inventory.js";
import { METRICS, type MetricName } from "./metric-table.js";

type Name = "aperture_device_info" | "aperture_device_state" | "aperture_device_quarantine_start_timestamp_seconds";

const NAMES: readonly (Name & MetricName)[] = [
  "aperture_device_info",
  "aperture_device_state",
  "aperture_device_quarantine_start_timestamp_seconds",
];

interface Kept {
  readonly view: DeviceView;
  /** null: no series. */
  readonly lines: Readonly<Record<Name, string | null>>;
}

export class DeviceSeries {
  readonly #now: () => number;
  readonly #kept = new Map<string, Kept>();
  /** Changed since the last scrape. */
  readonly #changed = new Map<string, DeviceView>();
  /** Milliseconds since the epoch at which a device was quarantined. */
  readonly #quarantined = new Map<string, number>();
  readonly #pages = new Map<Name, Buffer>();
  readonly #byState = new Map<string, number>();
  #leasable = 0;

  /** now: milliseconds since the epoch. */
  constructor(inventory: Inventory, now: () => number) {
    this.#now = now;
    for (const view of inventory.list()) this.#take(view);
    inventory.subscribe(({ kind, view }) => {
      if (kind === "REMOVED") this.#drop(view.facts.address);
      else this.#take(view);
    });
  }

  /** How many devices there are in each state (names of LeaseState), and how many could be leased. */
  counts(): { readonly byState: ReadonlyMap<string, number>; readonly leasable: number } {
    this.#update();
    return { byState: this.#byState, leasable: this.#leasable };
  }

  /** In the text format of Prometheus, a metric each. */
  pages(): readonly Buffer[] {
    this.#update();
    return NAMES.map((name) => {
      const page = this.#pages.get(name) ?? this.#write(name);
      this.#pages.set(name, page);
      return page;
    });
  }

  #write(name: Name): Buffer {
    const row = METRICS[name];
    const lines = [`# HELP ${name} ${row.help} (${row.unit})`, `# TYPE ${name} ${row.type}`];
    for (const { lines: own } of this.#kept.values()) if (own[name] !== null) lines.push(own[name]);
    return Buffer.from(`${lines.join("\n")}\n\n`);
  }

  /** Puts a device where it belongs, in the lines and in the sums; null: it is gone. */
  #keep(address: string, now: Kept | null): void {
    const earlier = this.#kept.get(address) ?? null;
    for (const name of NAMES) if ((now?.lines[name] ?? null) !== (earlier?.lines[name] ?? null)) this.#pages.delete(name);
    for (const [kept, by] of [
      [earlier, -1],
      [now, 1],
    ] as const) {
      if (kept === null) continue;
      const { state, ineligibleReasons } = kept.view;
      const devices = (this.#byState.get(state) ?? 0) + by;
      if (devices > 0) this.#byState.set(state, devices);
      else this.#byState.delete(state);
      if (state === "FREE" && ineligibleReasons.length === 0) this.#leasable += by;
    }
    if (now === null) this.#kept.delete(address);
    else this.#kept.set(address, now);
  }

  #take(view: DeviceView): void {
    const { address } = view.facts;
    this.#changed.set(address, view);
    // Being tried again is no end of a quarantine.
    if (view.state === "QUARANTINED") {
      if (!this.#quarantined.has(address)) this.#quarantined.set(address, this.#now());
    } else if (view.state !== "RELEASING" && view.state !== "RESETTING") this.#quarantined.delete(address);
  }

  #drop(address: string): void {
    this.#keep(address, null);
    this.#changed.delete(address);
    this.#quarantined.delete(address);
  }

  #update(): void {
    for (const [address, view] of this.#changed) {
      const earlier = this.#kept.get(address);
      const since = this.#quarantined.get(address);
      const info = earlier?.view.facts === view.facts ? earlier.lines.aperture_device_info : infoLine(view);
      const lines: Kept["lines"] = {
        aperture_device_info: info,
        aperture_device_state: line("aperture_device_state", { pci_address: address, state: view.state.toLowerCase() }, "1"),
        aperture_device_quarantine_start_timestamp_seconds:
          since === undefined
            ? null
            : line("aperture_device_quarantine_start_timestamp_seconds", { pci_address: address }, (since / 1000).toFixed(3)),
      };
      this.#keep(address, { view, lines });
    }
    this.#changed.clear();
  }
}

function infoLine({ facts }: DeviceView): string {
  return line(
    "aperture_device_info",
    {
      pci_address: facts.address,
      vendor_id: hex(facts.vendorId, 4),
      device_id: hex(facts.deviceId, 4),
      class: hex(facts.classCode, 6),
      driver: facts.driver,
      iommu_group: String(facts.iommuGroup?.id ?? ""),
      numa_node: String(facts.numaNode ?? ""),
    },
    "1",
  );
}

function line<N extends Name>(name: N, labels: Readonly<Record<keyof (typeof METRICS)[N]["labels"], string>>, value: string): string {
  const pairs = Object.entries<string>(labels).map(([label, text]) => `${label}="${escaped(text)}"`);
  return `${name}{${pairs.join(",")}} ${value}`;
}

/** As the text format asks. The only text here that is not the daemon's own is the name of a driver. */
function escaped(text: string): string {
  return text.replace(/[\\"\n]/g, (character) => (character === "\n" ? "\\n" : `\\${character}`));
}

function hex(value: number, digits: number): string {
  return value.toString(16).padStart(digits, "0");
}
