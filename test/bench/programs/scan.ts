// One scan of a made-up sysfs: by the daemon's host layer, with the longest time in which its event loop stood still, or by reading the same files with Node's synchronous fs.
// Usage: scan.js ours|sync SYS_ROOT DEVICES

import { lstatSync, readdirSync, readFileSync, readlinkSync } from "node:fs";
import { join } from "node:path";
import { Machine } from "../../../src/host/machine.js";

const [mode = "", sysRoot = "", devices = "0"] = process.argv.slice(2);

function orNull<T>(read: () => T): T | null {
  try {
    return read();
  } catch {
    return null;
  }
}

const ONCE = ["vendor", "device", "class", "revision", "subsystem_vendor", "subsystem_device"];
const EACH_BIND = ["current_link_speed", "current_link_width", "max_link_speed", "max_link_width", "sriov_totalvfs"];

/** The files that the scan of src/host reads, each once: of a function in full or, as when it is known already, without what stays; and the members of each IOMMU group. */
function readAll(attributes: readonly string[], known: boolean): number {
  const folder = join(sysRoot, "bus/pci/devices");
  const groups = new Set<string>();
  let read = 0;
  for (const address of readdirSync(folder).sort()) {
    const path = join(folder, address);
    const facts = [
      orNull(() => lstatSync(path, { bigint: true })),
      orNull(() => readlinkSync(join(path, "driver"))),
      orNull(() => lstatSync(join(path, "driver"), { bigint: true })),
      orNull(() => readdirSync(join(path, "vfio-dev"))),
      orNull(() => readlinkSync(join(path, "physfn"))),
      known ? null : orNull(() => readlinkSync(path)),
      ...attributes.map((name) => orNull(() => readFileSync(join(path, name), "latin1"))),
    ];
    const group = orNull(() => readlinkSync(join(path, "iommu_group")));
    if (group !== null) groups.add(group.slice(group.lastIndexOf("/") + 1));
    if (facts[0] !== null) read += 1;
  }
  for (const group of groups) readdirSync(join(sysRoot, "kernel/iommu_groups", group, "devices"));
  return read;
}

function check(found: number): void {
  if (found !== Number(devices)) throw new Error(`${found} devices were found instead of ${devices}`);
}

let stall = 0;
let last = performance.now();
const watch = (): void => {
  const now = performance.now();
  stall = Math.max(stall, now - last);
  last = now;
  timer = setTimeout(watch, 1);
};
let timer = setTimeout(watch, 1);

const EACH_SCAN = ["reset_method", "numa_node"];

if (mode === "sync") {
  let begin = performance.now();
  check(readAll([...EACH_SCAN, ...ONCE, ...EACH_BIND], false));
  const milliseconds = performance.now() - begin;
  begin = performance.now();
  check(readAll(EACH_SCAN, true));
  process.stdout.write(`${JSON.stringify({ milliseconds, againMilliseconds: performance.now() - begin })}\n`);
} else {
  const machine = new Machine({
    ...{ sysRoot, devRoot: "/dev" },
    observer: {
      fault: (where, error) => {
        throw new Error(`${where}: ${String(error)}`);
      },
    },
  });
  const scan = async (): Promise<{ milliseconds: number; stallMs: number }> => {
    const begin = performance.now();
    [stall, last] = [0, begin];
    const facts = await machine.scan();
    const milliseconds = performance.now() - begin;
    check(facts.length);
    // The timer itself ticks every millisecond.
    return { milliseconds, stallMs: Math.max(0, stall - 1, performance.now() - last - 1) };
  };
  const { milliseconds, stallMs } = await scan();
  const again = await scan();
  const figures = { milliseconds, stallMs, stallShare: stallMs / milliseconds, againMilliseconds: again.milliseconds };
  process.stdout.write(`${JSON.stringify(figures)}\n`);
}
clearTimeout(timer);
process.exit(0);
