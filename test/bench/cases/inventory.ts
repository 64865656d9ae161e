// Reading the inventory: scan, encoding, lists while devices are slow, scrapes.

import { setTimeout as sleep } from "node:timers/promises";
import { connect, type HeldLease } from "../../../src/client/index.js";
import { SysfsTree } from "../../unit/host/sysfs-tree.js";
import { baseline } from "../harness/baselines.js";
import { BenchDaemon } from "../harness/bench-daemon.js";
import type { BenchCase, Prepared, Scale } from "../harness/case.js";
import { measured, program, Server } from "../harness/processes.js";
import { apart } from "../harness/processors.js";
import { addressOf } from "../programs/many-devices.js";

const MANY = 10_000;
const FEW = 300;
const SLOW_DEVICES = 64;

function sysfs(devices: number): SysfsTree {
  // Memory, where there is some: a scan must not wait for a disk.
  process.env["TMPDIR"] = "/dev/shm";
  try {
    const tree = new SysfsTree();
    for (let i = 0; i < devices; i += 1)
      tree.add(addressOf(i), {
        ...{ driver: "vfio-pci", group: i, resetMethod: "flr bus", numaNode: "0", vfio: i, cdev: `511:${i}` },
        ...{ revision: "0x01", subsystem: ["0x1af4", "0x1100"], link: ["16.0 GT/s PCIe", "16", "16.0 GT/s PCIe", "16"] },
        // Eight functions below each port.
        below: `pci0000:00/${addressOf(8 * (i >> 3)).replace(/^1/, "2")}`,
      });
    return tree;
  } finally {
    delete process.env["TMPDIR"];
  }
}

async function scans(scale: Scale): Promise<Prepared> {
  const devices = scale.pick(MANY, FEW);
  const tree = sysfs(devices);
  const run = (mode: string) => ({
    name: mode,
    measure: () => measured([...program("scan"), mode, tree.sysRoot, String(devices)], apart.server),
  });
  return { sides: [run("sync"), run("ours")], close: async () => tree.remove() };
}

async function encodings(scale: Scale): Promise<Prepared> {
  const run = (mode: string, passes: number) => ({
    name: mode,
    measure: () => measured([...program("encode"), mode, String(scale.pick(MANY, FEW)), String(passes)], apart.server),
  });
  return {
    sides: [run("protobufjs", scale.pick(20, 2)), run("ours", scale.pick(20, 2)), run("first", scale.pick(3, 1))],
    close: async () => undefined,
  };
}

/** Lists while as many devices as there are reset, or while none does. */
async function lists(scale: Scale): Promise<Prepared> {
  const client = await baseline("lease_client");
  const resetMs = scale.pick(5_000, 1_500);
  const daemons = {
    resetting: await BenchDaemon.start({ devices: SLOW_DEVICES, resetMs, cpu: apart.server }),
    quiet: await BenchDaemon.start({ devices: SLOW_DEVICES, cpu: apart.server }),
  };
  const list = (daemon: BenchDaemon) => {
    const numbers = ["--connections", "1", "--count", String(scale.pick(2_000, 20)), "--warmup", String(scale.pick(200, 2))];
    const path = ["--path", "/aperture.v1.DeviceService/ListDevices"];
    return measured([client, "--way", "call", ...path, "--socket", daemon.socket, ...numbers], apart.client);
  };
  return {
    sides: [
      {
        name: "quiet",
        measure: async () => {
          const held = await holdAll(daemons.quiet);
          const figures = await list(daemons.quiet);
          await held.release();
          return figures;
        },
      },
      {
        name: "resetting",
        measure: async () => {
          const held = await holdAll(daemons.resetting);
          const begin = performance.now();
          let over = false;
          const released = held.release().then(() => {
            over = true;
          });
          // The proofs, which come before the resets, are through.
          await sleep(scale.pick(500, 100));
          const figures = await list(daemons.resetting);
          if (over) throw new Error("the resets were over before the lists were");
          await released;
          if (performance.now() - begin < resetMs) throw new Error("the resets took less than they should");
          return figures;
        },
      },
    ],
    close: async () => {
      for (const daemon of Object.values(daemons)) await daemon.stop();
    },
  };
}

async function holdAll(daemon: BenchDaemon): Promise<{ release(): Promise<void> }> {
  const client = await connect({ socket: daemon.socket });
  const held: HeldLease[] = [];
  for (let i = 0; i < SLOW_DEVICES; i += 1) held.push(await client.acquire({ kind: "device", addresses: [addressOf(i)] }));
  return {
    release: async () => {
      await Promise.all(held.map((lease) => lease.release()));
      await client.close();
      await daemon.settled();
    },
  };
}

async function scrapes(scale: Scale): Promise<Prepared> {
  const devices = scale.pick(MANY, FEW);
  const client = await baseline("http_get");
  const daemon = await BenchDaemon.start({ devices, leasable: 1, cpu: apart.server });
  const naive = await Server.start([...program("prom-server"), String(devices)], apart.server);
  const scrape = (name: string, url: string, line: string) => ({
    name,
    measure: () => measured([client, url, String(scale.pick(31, 2)), line], apart.client),
  });
  return {
    sides: [
      scrape("prom-client", naive.told, "device_leasable{"),
      scrape("ours", daemon.metricsUrl, `aperture_devices_leasable ${devices}`),
    ],
    close: async () => {
      await daemon.stop();
      await naive.stop();
    },
  };
}

const again = (side: string) => ({ side, figure: "againMilliseconds" });
const time = (side: string) => ({ side, figure: "milliseconds" });

export const inventoryCases: readonly BenchCase[] = [
  {
    name: "ListDevices while devices reset",
    rows: [
      {
        ...{ id: "list-resets", measure: "ListDevices p99 while 64 simulated devices take 5 s each to reset", unit: "µs" },
        ...{ against: "the same with none resetting", of: { side: "resetting", figure: "p99" }, base: { side: "quiet", figure: "p99" } },
        target: { atMost: 1.5 },
      },
    ],
    prepare: lists,
  },
  {
    name: "encoding ListDevices",
    rows: [
      {
        ...{
          id: "encode",
          measure: "encoding ListDevices, 10,000 devices × 6 regions, pages of 100",
          against: "protobufjs static encoding",
        },
        ...{ unit: "ms", of: time("ours"), base: time("protobufjs"), target: { atMost: 0.2 } },
      },
      {
        ...{
          id: "encode-first",
          measure: "the same for the first time, from the broker's own objects",
          against: "protobufjs static encoding",
        },
        ...{ unit: "ms", of: time("first"), base: time("protobufjs"), target: null },
      },
    ],
    prepare: encodings,
  },
  {
    name: "inventory scan",
    rows: [
      {
        ...{
          id: "scan",
          measure: "inventory scan of 10,000 sysfs devices, the first",
          against: "plain fs sync of the same files",
          unit: "ms",
        },
        ...{ of: time("ours"), base: time("sync"), target: { atMost: 0.6 } },
      },
      {
        ...{
          id: "scan-again",
          measure: "the same again, when nothing has changed",
          against: "plain fs sync of what can change",
          unit: "ms",
        },
        ...{ of: again("ours"), base: again("sync"), target: null },
      },
      {
        ...{ id: "scan-stall", measure: "longest stall of the loop in the first, share of that scan", against: "", unit: "" },
        ...{ of: { side: "ours", figure: "stallShare" }, base: null, target: { atMost: 0.1 } },
      },
    ],
    prepare: scans,
  },
  {
    name: "scrape",
    rows: [
      {
        ...{ id: "scrape", measure: "scrape with 10,000 devices", against: "prom-client, one series per device and gauge", unit: "ms" },
        ...{ of: time("ours"), base: time("prom-client"), target: { atMost: 0.02 } },
      },
    ],
    prepare: scrapes,
  },
];
