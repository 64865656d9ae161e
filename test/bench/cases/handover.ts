// Descriptor hand-over alone: no lease, no gRPC.

import { rmSync } from "node:fs";
import { join } from "node:path";
import { socketFolder } from "../../harness/daemon.js";
import { baseline } from "../harness/baselines.js";
import type { BenchCase, Prepared, Scale } from "../harness/case.js";
import { measured, program, Server } from "../harness/processes.js";
import { apart, type Placement, together } from "../harness/processors.js";

const FRAME_BYTES = 300;
const DESCRIPTORS = 2;

interface Wanted {
  readonly channels: number;
  readonly count: number;
  readonly place: Placement;
}

async function prepare({ channels, count, place }: Wanted): Promise<Prepared> {
  const [server, client] = await Promise.all([baseline("scm_server"), baseline("scm_client")]);
  const folder = socketFolder();
  const numbers = [String(DESCRIPTORS), String(FRAME_BYTES)];
  const socket = (name: string): string => join(folder, name);
  const servers = [
    await Server.start([server, socket("c"), ...numbers], place.server),
    await Server.start([...program("handover-server"), socket("frames"), "frames", ...numbers], place.server),
    await Server.start([...program("handover-server"), socket("offers"), "offers", ...numbers], place.server),
  ];
  const run = (name: string, protocol: "plain" | "offers", spin = 0) => ({
    name: spin > 0 ? `${name}, client spins` : name,
    measure: () => measured([client, socket(name), String(channels), String(count), ...numbers, protocol, String(spin)], place.client),
  });
  return {
    sides: [run("c", "plain"), run("frames", "plain"), run("offers", "offers"), ...(channels === 1 ? [run("c", "plain", 200)] : [])],
    close: async () => {
      for (const each of servers) await each.stop();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

export const handoverCases: readonly BenchCase[] = [
  {
    name: "hand-over, 64 channels",
    rows: [
      {
        ...{ id: "handover-64", measure: "descriptor hand-over alone, 64 channels", against: "C epoll server", unit: "/s" },
        ...{ of: { side: "frames", figure: "perSecond" }, base: { side: "c", figure: "perSecond" }, target: { atLeast: 0.8 } },
      },
      {
        ...{ id: "offers-64", measure: "the same with OFFER, ACK and their checks", against: "C epoll server", unit: "/s" },
        ...{ of: { side: "offers", figure: "perSecond" }, base: { side: "c", figure: "perSecond" }, target: null },
      },
    ],
    prepare: (scale: Scale) => prepare({ channels: 64, count: scale.pick(200_000, 400), place: apart }),
  },
  {
    name: "hand-over, one channel, one core",
    rows: [
      {
        ...{ id: "handover-1", measure: "descriptor hand-over alone, one channel, one core, p50", against: "C epoll server", unit: "µs" },
        ...{ of: { side: "frames", figure: "p50" }, base: { side: "c", figure: "p50" }, target: { atMost: 1.3 } },
      },
      {
        ...{ id: "offers-1", measure: "the same with OFFER, ACK and their checks", against: "C epoll server", unit: "µs" },
        ...{ of: { side: "offers", figure: "p50" }, base: { side: "c", figure: "p50" }, target: null },
      },
    ],
    prepare: (scale: Scale) => prepare({ channels: 1, count: scale.pick(30_000, 100), place: together }),
  },
  {
    name: "spin",
    rows: [
      {
        ...{ id: "spin-limit", measure: "C epoll server, client spins 200 µs, p50", against: "client blocks", unit: "µs" },
        ...{ of: { side: "c, client spins", figure: "p50" }, base: { side: "c", figure: "p50" }, target: null },
      },
    ],
    prepare: (scale: Scale) => prepare({ channels: 1, count: scale.pick(10_000, 100), place: apart }),
  },
];
