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

/** What the scan of src/host asks of each function and of each IOMMU group, one call after the other. */
function readAll(): number {
  const folder = join(sysRoot, "bus/pci/devices");
  const groups = new Set<string>();
  const ofDriver = (path: string) => [
    orNull(() => readlinkSync(join(path, "driver"))),
    orNull(() => lstatSync(join(path, "driver"), { bigint: true })),
  ];
  const ofVfio = (path: string) => orNull(() => readdirSync(join(path, "vfio-dev")));
  let read = 0;
  for (const address of readdirSync(folder).sort()) {
    const path = join(folder, address);
    const facts = [
      ...["vendor", "device", "class", "reset_method", "numa_node"].map((name) => orNull(() => readFileSync(join(path, name), "latin1"))),
      ...[ofDriver(path), orNull(() => readlinkSync(join(path, "physfn"))), ofVfio(path)],
    ];
    const group = orNull(() => readlinkSync(join(path, "iommu_group")));
    if (facts[0] !== null) read += 1;
    if (group === null || groups.has(group)) continue;
    groups.add(group);
    const members = join(sysRoot, "kernel/iommu_groups", group.slice(group.lastIndexOf("/") + 1), "devices");
    for (const member of readdirSync(members)) void [ofDriver(join(folder, member)), ofVfio(join(folder, member))];
  }
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

if (mode === "sync") {
  const begin = performance.now();
  const found = readAll();
  const milliseconds = performance.now() - begin;
  check(found);
  process.stdout.write(`${JSON.stringify({ milliseconds })}\n`);
} else {
  const machine = new Machine({
    ...{ sysRoot, devRoot: "/dev" },
    observer: {
      fault: (where, error) => {
        throw new Error(`${where}: ${String(error)}`);
      },
    },
  });
  last = performance.now();
  const begin = last;
  const facts = await machine.scan();
  const milliseconds = performance.now() - begin;
  stall = Math.max(stall, performance.now() - last);
  check(facts.length);
  // The timer itself ticks every millisecond.
  const stallMs = Math.max(0, stall - 1);
  process.stdout.write(`${JSON.stringify({ milliseconds, stallMs, stallShare: stallMs / milliseconds })}\n`);
}
clearTimeout(timer);
process.exit(0);
