// The daemon as a process: how soon it serves, and how much memory it keeps.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { DAEMON, daemonEnvironment, socketFolder } from "../../harness/daemon.js";
import { Lines } from "../../harness/lines.js";
import { DeviceService, Rpc } from "../../harness/rpc.js";
import { baseline } from "../harness/baselines.js";
import { BenchDaemon } from "../harness/bench-daemon.js";
import type { BenchCase, Figures, Prepared, Scale } from "../harness/case.js";
import { program, residentBytes } from "../harness/processes.js";
import { apart, pinned } from "../harness/processors.js";
import { leaseLoad } from "./leases.js";

const MIB = 2 ** 20;
/** After which a process counts as idle: its first garbage collections are over. */
const CALM_MS = 1_000;
/** V8 collects what it need not when little has been allocated for 8 s (heap/memory-reducer.h), in several steps. */
const MEMORY_BACK_MS = 40_000;

interface Started {
  readonly command: readonly string[];
  readonly output: "stdout" | "stderr";
  /** Part of the line that says so. */
  readonly ready: string;
  /** Where it is called after that. */
  readonly socket?: string;
}

async function start({ command, output, ready, socket }: Started, scale: Scale): Promise<Figures> {
  const [file = "", ...args] = [...pinned(apart.server), ...command];
  const begin = performance.now();
  const child = spawn(file, args, { stdio: ["ignore", "pipe", "pipe"], env: daemonEnvironment() });
  const lines = new Lines(child[output]);
  for (;;) {
    const line = await lines.next();
    if (line === null) throw new Error(`${command.join(" ")} ended before it was ready:\n${lines.all.join("\n")}`);
    if (line.includes(ready)) break;
  }
  const milliseconds = performance.now() - begin;
  await sleep(scale.pick(CALM_MS, 0));
  const resident = (): number => residentBytes(child.pid ?? -1) / MIB;
  const mebibytes = resident();
  const called = socket === undefined ? {} : await firstCalls(socket);
  await sleep(scale.pick(CALM_MS, 0));
  const afterCalls = resident();
  child.kill("SIGTERM");
  await once(child, "exit");
  return { milliseconds, mebibytes, afterCalls, ...called };
}

/** Milliseconds of the first call, the connection included, and of the second. */
async function firstCalls(socket: string): Promise<Figures> {
  const rpc = new Rpc(socket);
  const list = async (): Promise<number> => {
    const begin = performance.now();
    const { code } = await rpc.call(DeviceService, "ListDevices", {});
    if (code !== "OK") throw new Error(`ListDevices: ${code}`);
    return performance.now() - begin;
  };
  try {
    return { first: await list(), second: await list() };
  } finally {
    rpc.close();
  }
}

async function starts(scale: Scale): Promise<Prepared> {
  const folder = socketFolder();
  const file = join(folder, "aperture.toml");
  writeFileSync(file, `host = "simulated"\nsocket = "${join(folder, "a.sock")}"\nmetrics.listen = "127.0.0.1:0"\n`);
  const command = [...DAEMON, "--config", file];
  const apertured: Started = { command, output: "stderr", ready: "daemon.ready", socket: join(folder, "a.sock") };
  return {
    sides: [
      {
        name: "empty",
        measure: () => start({ command: [...program("empty"), join(folder, "empty")], output: "stdout", ready: "READY" }, scale),
      },
      { name: "apertured", measure: () => start(apertured, scale) },
    ],
    close: async () => rmSync(folder, { recursive: true, force: true }),
  };
}

async function memory(scale: Scale): Promise<Prepared> {
  const client = await baseline("lease_client");
  const [connections, devices] = [8, 8];
  return {
    warmUp: false,
    sides: [
      {
        name: "daemon",
        measure: async () => {
          const daemon = await BenchDaemon.start({ devices: connections * devices, cpu: apart.server });
          try {
            await sleep(scale.pick(CALM_MS, 0));
            const idle = daemon.server.residentBytes() / MIB;
            const count = scale.pick(100_000, 100);
            const { socket, channel } = daemon;
            const figures = await leaseLoad(client, { way: "push", socket, channel, connections, devices, count, warmup: 0 });
            if (figures["count"] !== count) throw new Error(`${figures["count"]} leases instead of ${count}`);
            await daemon.settled();
            await sleep(scale.pick(MEMORY_BACK_MS, 0));
            return { idle, after: daemon.server.residentBytes() / MIB };
          } finally {
            await daemon.stop();
          }
        },
      },
    ],
    close: async () => undefined,
  };
}

export const processCases: readonly BenchCase[] = [
  {
    name: "start",
    rows: [
      {
        ...{ id: "start", measure: "start to ready, simulated host", against: "an empty Node process", unit: "ms" },
        ...{ of: { side: "apertured", figure: "milliseconds" }, base: { side: "empty", figure: "milliseconds" }, target: { atMost: 1.8 } },
      },
      {
        ...{ id: "idle-memory", measure: "idle RSS", against: "an empty Node process", unit: "MiB" },
        ...{ of: { side: "apertured", figure: "mebibytes" }, base: { side: "empty", figure: "mebibytes" }, target: { atMost: 1.5 } },
      },
      {
        ...{ id: "first-call", measure: "first ListDevices after the start", against: "the second", unit: "ms" },
        ...{ of: { side: "apertured", figure: "first" }, base: { side: "apertured", figure: "second" }, target: null },
      },
      {
        ...{ id: "memory-first-call", measure: "RSS after that", against: "an empty Node process", unit: "MiB" },
        ...{ of: { side: "apertured", figure: "afterCalls" }, base: { side: "empty", figure: "mebibytes" }, target: null },
      },
    ],
    prepare: starts,
  },
  {
    name: "memory after leases",
    rows: [
      {
        ...{ id: "memory", measure: "RSS 40 s after 100,000 leases", against: "idle RSS", unit: "MiB" },
        ...{ of: { side: "daemon", figure: "after" }, base: { side: "daemon", figure: "idle" }, target: { atMost: 1.3 } },
      },
    ],
    prepare: memory,
  },
];
