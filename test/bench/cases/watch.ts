// Watching the inventory: the first snapshot, and one change to many watchers.

import { readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { socketFolder } from "../../harness/daemon.js";
import { baseline } from "../harness/baselines.js";
import { BenchDaemon } from "../harness/bench-daemon.js";
import type { BenchCase, Figures, Prepared, Scale } from "../harness/case.js";
import { measured, program, Server } from "../harness/processes.js";
import { apart } from "../harness/processors.js";
import { median } from "../harness/statistics.js";
import { addressOf } from "../programs/many-devices.js";

const WATCH = ["--path", "/aperture.v1.DeviceService/WatchDevices"] as const;

async function snapshots(scale: Scale): Promise<Prepared> {
  const devices = scale.pick(10_000, 300);
  const client = await baseline("stream_client");
  const folder = socketFolder();
  const [bare, record] = [join(folder, "bare"), join(folder, "record")];
  const daemon = await BenchDaemon.start({ devices, leasable: 1, cpu: apart.server });
  const snapshot = async (...more: readonly string[]): Promise<Figures> => {
    const figures = await measured([client, "--mode", "snapshot", ...more], apart.client);
    if (figures["count"] !== devices) throw new Error(`${figures["count"]} devices in the snapshot instead of ${devices}`);
    return figures;
  };
  // The first watcher after a start pays for encoding every device. What it got is what the bare server sends.
  const first = await snapshot("--socket", daemon.socket, ...WATCH, "--record", record);
  const server = await Server.start([...program("echo-server"), bare, "bound", record], apart.server);
  const bytes = readFileSync(record).length - 4 * (first["messages"] ?? 0);
  // One takes some 15 ms: a garbage collection in it doubles that.
  const several = async (...from: readonly string[]): Promise<Figures> => {
    const rates: number[] = [];
    for (let i = 0; i < scale.pick(15, 1); i += 1) {
      const figures = await snapshot(...from);
      if (figures["bytes"] !== bytes) throw new Error(`${figures["bytes"]} bytes of snapshot instead of ${bytes}`);
      rates.push(figures["perSecond"] ?? Number.NaN);
    }
    return { perSecond: median(rates) };
  };
  return {
    sides: [
      { name: "bare", measure: () => several("--socket", bare, "--path", "/bench.Bare/Snapshot") },
      { name: "ours", measure: () => several("--socket", daemon.socket, ...WATCH) },
      { name: "first", measure: async () => first },
    ],
    close: async () => {
      await daemon.stop();
      await server.stop();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

/** A lease of a device, told to every watcher. */
export function changeLoad(client: string, daemon: BenchDaemon, watchers: number, count: number, record: string | null): Promise<Figures> {
  const sockets = ["--socket", daemon.socket, "--channel", daemon.channel, ...WATCH];
  const numbers = ["--connections", String(watchers), "--count", String(count), "--lease", "--address", addressOf(0)];
  return measured([client, "--mode", "change", ...sockets, ...numbers, ...(record === null ? [] : ["--record", record])], apart.client);
}

async function changes(scale: Scale): Promise<Prepared> {
  const client = await baseline("stream_client");
  const [watchers, count] = [scale.pick(256, 8), scale.pick(30, 2)];
  const folder = socketFolder();
  const [bare, record] = [join(folder, "bare"), join(folder, "record")];
  const daemon = await BenchDaemon.start({ devices: 8, cpu: apart.server });
  await changeLoad(client, daemon, 1, 1, record);
  const server = await Server.start([...program("echo-server"), bare, "bound", record], apart.server);
  const numbers = ["--connections", String(watchers), "--count", String(count)];
  return {
    sides: [
      {
        name: "bare",
        measure: () => measured([client, "--mode", "change", "--socket", bare, "--path", "/bench.Bare/Watch", ...numbers], apart.client),
      },
      {
        name: "ours",
        measure: async () => {
          const figures = await changeLoad(client, daemon, watchers, count, null);
          await daemon.settled();
          return figures;
        },
      },
    ],
    close: async () => {
      await daemon.stop();
      await server.stop();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

export const watchCases: readonly BenchCase[] = [
  {
    name: "snapshot",
    rows: [
      {
        ...{ id: "snapshot", measure: "snapshot of 10,000 devices to a watcher", against: "bare grpc-js server stream of the same bytes" },
        ...{ unit: "devices/s", of: { side: "ours", figure: "perSecond" }, base: { side: "bare", figure: "perSecond" } },
        target: { atLeast: 0.7 },
      },
      {
        ...{
          id: "snapshot-first",
          measure: "the same, the first after the start",
          against: "bare grpc-js server stream of the same bytes",
        },
        ...{ unit: "devices/s", of: { side: "first", figure: "perSecond" }, base: { side: "bare", figure: "perSecond" }, target: null },
      },
    ],
    prepare: snapshots,
  },
  {
    name: "change",
    rows: [
      {
        ...{
          id: "change-256",
          measure: "one change to 256 watchers, last one's delay, p50",
          against: "bare grpc-js broadcast",
          unit: "µs",
        },
        ...{ of: { side: "ours", figure: "p50" }, base: { side: "bare", figure: "p50" }, target: { atMost: 2 } },
      },
    ],
    prepare: changes,
  },
];
