// How cost grows with what there is. 0 is flat, 1 linear.

import { baseline } from "../harness/baselines.js";
import { BenchDaemon } from "../harness/bench-daemon.js";
import type { GrowthCase, Prepared, Scale } from "../harness/case.js";
import { measured, Server } from "../harness/processes.js";
import { apart } from "../harness/processors.js";
import { leaseLoad } from "./leases.js";
import { changeLoad } from "./watch.js";

/** Devices that are acquired and released in turn. */
const TURNING = 8;

/** Devices of one region each: RLIMIT_NOFILE bounds how many files there can be, and 10,000 have to be leasable at once. */
const PLAIN = { descriptors: 1, regions: 1 } as const;

async function acquiring(scale: Scale, devices: number, held: number): Promise<Prepared> {
  const client = await baseline("lease_client");
  const leasable = held + Math.min(devices, TURNING);
  const daemon = await BenchDaemon.start({ devices: devices + held, leasable, regions: PLAIN.regions, cpu: apart.server });
  const { socket, channel } = daemon;
  const sockets = ["--way", "push", "--socket", socket, "--channel", channel];
  const holding = [...sockets, "--connections", "1", "--count", String(held), "--first", String(TURNING), "--hold"];
  for (const [name, value] of Object.entries(PLAIN)) holding.push(`--${name}`, String(value));
  const holder = held === 0 ? null : await Server.start([client, ...holding], apart.client);
  const load = { way: "push", socket, channel, connections: 1, devices: TURNING, ...PLAIN } as const;
  return {
    sides: [
      {
        name: "push",
        measure: async () => {
          const figures = await leaseLoad(client, { ...load, count: scale.pick(1_000, 10), warmup: scale.pick(100, 1) });
          const left = await daemon.metric("aperture_leases");
          if (left !== held) throw new Error(`${left} leases are held instead of ${held}`);
          return figures;
        },
      },
    ],
    close: async () => {
      await daemon.settled(held);
      // Not after the holder: ten thousand simulated devices that are reset at once want more descriptors than RLIMIT_NOFILE gives.
      await daemon.kill();
      await holder?.kill();
    },
  };
}

async function listing(scale: Scale, devices: number): Promise<Prepared> {
  const client = await baseline("lease_client");
  const daemon = await BenchDaemon.start({ devices, leasable: 1, cpu: apart.server });
  const numbers = ["--connections", "1", "--count", String(scale.pick(500, 10)), "--warmup", String(scale.pick(50, 1))];
  const command = [client, "--way", "call", "--path", "/aperture.v1.DeviceService/ListDevices", "--socket", daemon.socket, ...numbers];
  return { sides: [{ name: "list", measure: () => measured(command, apart.client) }], close: () => daemon.stop() };
}

async function watching(scale: Scale, watchers: number): Promise<Prepared> {
  const client = await baseline("stream_client");
  const daemon = await BenchDaemon.start({ devices: TURNING, cpu: apart.server });
  return {
    sides: [{ name: "change", measure: () => changeLoad(client, daemon, watchers, scale.pick(20, 2), null) }],
    close: async () => {
      await daemon.settled();
      await daemon.stop();
    },
  };
}

const FLAT = 0.1;
const LINEAR = 1;

export const growthCases: readonly GrowthCase[] = [
  {
    ...{ id: "acquire-by-leases", measure: "AcquireLease with push, p50", unit: "µs", over: "leases held", figure: "p50" },
    ...{ points: [1, 100, 10_000], quickPoints: [1, 20], atMost: LINEAR },
    prepare: (scale, held) => acquiring(scale, TURNING, held),
  },
  {
    ...{ id: "acquire-by-devices", measure: "AcquireLease with push, p50", unit: "µs", over: "devices", figure: "p50" },
    ...{ points: [10, 1_000, 10_000], quickPoints: [10, 100], atMost: FLAT },
    prepare: (scale, devices) => acquiring(scale, devices, 0),
  },
  {
    ...{ id: "list-by-devices", measure: "ListDevices, first page of 100, p50", unit: "µs", over: "devices", figure: "p50" },
    ...{ points: [10, 1_000, 10_000], quickPoints: [10, 100], atMost: LINEAR },
    prepare: listing,
  },
  {
    ...{ id: "change-by-watchers", measure: "one change, last watcher's delay, p50", unit: "µs", over: "watchers", figure: "p50" },
    ...{ points: [1, 64, 1_024], quickPoints: [1, 8], atMost: LINEAR },
    prepare: watching,
  },
];
