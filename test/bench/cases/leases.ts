// Leases: acquire, two descriptors, six regions, acknowledgement. One load client for every server. What is timed is the acquisition; a release, where there is one between two
// leases, is not. Rates are of leases that are kept, as many as there are devices, because a released device is proven free and reset before it is leased again.

import { rmSync } from "node:fs";
import { join } from "node:path";
import { socketFolder } from "../../harness/daemon.js";
import { baseline } from "../harness/baselines.js";
import { BenchDaemon } from "../harness/bench-daemon.js";
import type { BenchCase, FigureName, Figures, Prepared, Row, Scale, Side, Target } from "../harness/case.js";
import { measured, program, Server } from "../harness/processes.js";
import { apart } from "../harness/processors.js";
import { median } from "../harness/statistics.js";

type Way = "push" | "session" | "ticket" | "token";

const ONE = { connections: 1, devices: 64 } as const;

interface Load {
  readonly way: Way;
  readonly socket: string;
  readonly channel: string;
  readonly connections: number;
  readonly count: number;
  readonly warmup: number;
  /** How many devices a connection takes in turn, when it releases. */
  readonly devices?: number;
  readonly spin?: number;
  /** Of each lease, when not as many as test/bench/programs/many-devices.ts has. */
  readonly descriptors?: number;
  readonly regions?: number;
}

export function leaseLoad(client: string, load: Load): Promise<Figures> {
  const { way, socket, channel, ...numbers } = load;
  const command = [client, "--way", way, "--socket", socket, "--channel", channel];
  for (const [name, value] of Object.entries(numbers)) command.push(`--${name}`, String(value));
  return measured(load.devices === undefined ? command : [...command, "--release"], apart.client);
}

/** An echo of as many bytes as an answer of a lease has. */
export function echoLoad(client: string, socket: string, connections: number, count: number): Promise<Figures> {
  const numbers = ["--connections", String(connections), "--count", String(count), "--warmup", String(Math.ceil(count / 10))];
  return measured([client, "--way", "echo", "--path", "/bench.Bare/Echo", "--socket", socket, ...numbers], apart.client);
}

async function one(scale: Scale): Promise<Prepared> {
  const [client, scmServer, scmClient] = await Promise.all([baseline("lease_client"), baseline("scm_server"), baseline("scm_client")]);
  const folder = socketFolder();
  const daemon = await BenchDaemon.start({ devices: ONE.devices, cpu: apart.server });
  const bare = await Server.start([...program("echo-server"), join(folder, "bare"), "bound", "-"], apart.server);
  const limit = await Server.start([scmServer, join(folder, "c"), "2", "300"], apart.server);
  const count = scale.pick(3_000, 20);
  const { socket, channel } = daemon;
  const lease = (way: Way, spin = 0): Side => ({
    name: spin > 0 ? `${way}, client spins` : way,
    measure: async () => {
      const figures = await leaseLoad(client, { way, socket, channel, ...ONE, count, warmup: scale.pick(300, 2), spin });
      await daemon.settled();
      return figures;
    },
  });
  return {
    sides: [
      { name: "c", measure: () => measured([scmClient, join(folder, "c"), "1", String(count), "2", "300", "plain", "0"], apart.client) },
      { name: "echo", measure: () => echoLoad(client, join(folder, "bare"), 1, count) },
      ...[lease("session"), lease("push"), lease("session", 200)],
    ],
    close: async () => {
      for (const server of [daemon, bare, limit]) await server.stop();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

async function many(scale: Scale, ways: readonly Way[]): Promise<Prepared> {
  const connections = scale.pick(64, 8);
  // A file for each region of each device, and a second one while it is reset, which all are at once when a client ends: RLIMIT_NOFILE bounds how many there can be.
  const [count, warmup] = [scale.pick(1_200, 60), scale.pick(200, 8)];
  const devices = count + warmup;
  const client = await baseline("lease_client");
  const peerProgram = ways.includes("token") ? await baseline("grpc_peer") : null;
  const folder = socketFolder();
  const daemon = await BenchDaemon.start({ devices, cpu: apart.server });
  const peerSockets = { socket: join(folder, "peer"), channel: join(folder, "token") };
  const peer =
    peerProgram === null ? null : await Server.start([peerProgram, peerSockets.socket, peerSockets.channel, String(devices)], apart.server);
  return {
    sides: ways.map((way) => ({
      name: way,
      measure: async () => {
        const { socket, channel } = way === "token" ? peerSockets : daemon;
        const passes: number[] = [];
        for (let i = 0; i < scale.pick(6, 1); i += 1) {
          const { perSecond = 0 } = await leaseLoad(client, { way, socket, channel, connections, count, warmup });
          passes.push(perSecond);
          if (way !== "token") await daemon.settled();
        }
        return { perSecond: median(passes) };
      },
    })),
    close: async () => {
      await daemon.stop();
      await peer?.stop();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

const AT_64 = "lease, 64 clients";

function row(id: string, measure: string, against: string, unit: string, of: FigureName, base: FigureName, target: Target | null): Row {
  return { id, measure, against, unit, of, base, target };
}

const rate = (side: string): FigureName => ({ side, figure: "perSecond" });
const middle = (side: string): FigureName => ({ side, figure: "p50" });

async function library(scale: Scale): Promise<Prepared> {
  const client = await baseline("lease_client");
  const daemon = await BenchDaemon.start({ devices: 1, cpu: apart.server });
  const count = scale.pick(1_000, 10);
  const { socket, channel } = daemon;
  const library = (spin: string): Promise<Figures> => measured([...program("library-lease"), socket, String(count), spin], apart.client);
  return {
    sides: [
      { name: "library", measure: () => library("0") },
      {
        name: "load client",
        measure: () =>
          leaseLoad(client, { way: "push", socket, channel, connections: 1, devices: 1, count, warmup: Math.ceil(count / 10) }),
      },
      // As long as a lease takes this client: it waits for gRPC too, not for the channel alone.
      { name: "library, spins", measure: () => library("2000") },
    ],
    close: async () => {
      await daemon.settled();
      await daemon.stop();
    },
  };
}

export const leaseCases: readonly BenchCase[] = [
  {
    name: "lease, one client",
    rows: [
      row("session-1", "lease on Session, one client, p50", "C, one round trip, two descriptors", "µs", middle("session"), middle("c"), {
        atMost: 1.4,
      }),
      row(
        "push-1",
        "unary AcquireLease with push, one client, p50",
        "bare grpc-js echo, same kind of socket",
        "µs",
        middle("push"),
        middle("echo"),
        {
          atMost: 1.5,
        },
      ),
      row(
        "session-spin",
        "lease on Session, client spins 200 µs, p50",
        "the same, client blocks",
        "µs",
        middle("session, client spins"),
        middle("session"),
        null,
      ),
    ],
    prepare: one,
  },
  {
    name: `${AT_64}, C++ peer`,
    rows: [
      row("session-64-peer", `${AT_64} on Session`, "C++ gRPC unary + token server", "/s", rate("session"), rate("token"), { atLeast: 1 }),
    ],
    prepare: (scale) => many(scale, ["session", "token"]),
  },
  {
    name: `${AT_64}, ticket`,
    rows: [
      row("session-64-ticket", `${AT_64} on Session`, "our own unary AcquireLease with a ticket", "/s", rate("session"), rate("ticket"), {
        atLeast: 2,
      }),
    ],
    prepare: (scale) => many(scale, ["session", "ticket"]),
  },
  {
    name: `${AT_64}, push`,
    rows: [row("push-64-peer", `${AT_64}, unary with push`, "C++ gRPC unary + token server", "/s", rate("push"), rate("token"), null)],
    prepare: (scale) => many(scale, ["push", "token"]),
  },
  {
    name: "lease, client library",
    rows: [
      row(
        "library",
        "lease by the client library, one client, p50",
        "the load client in C++",
        "µs",
        middle("library"),
        middle("load client"),
        null,
      ),
      row("library-spin", "the same with spinMicroseconds 2000", "without", "µs", middle("library, spins"), middle("library"), null),
    ],
    prepare: library,
  },
];
