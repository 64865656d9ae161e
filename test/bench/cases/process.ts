// The daemon as a process: how soon it serves, and how much memory it keeps.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { daemonEnvironment, socketFolder } from "../../harness/daemon.js";
import { Lines } from "../../harness/lines.js";
import { baseline } from "../harness/baselines.js";
import { BenchDaemon } from "../harness/bench-daemon.js";
import type { BenchCase, Figures, Prepared, Scale } from "../harness/case.js";
import { program, residentBytes } from "../harness/processes.js";
import { apart, pinned } from "../harness/processors.js";
import { leaseLoad } from "./leases.js";

const LAUNCH = fileURLToPath(new URL("../../../src/daemon/launch.js", import.meta.url));
const MIB = 2 ** 20;
/** After which a process counts as idle: its first garbage collections are over. */
const CALM_MS = 1_000;

async function start(command: readonly string[], output: "stdout" | "stderr", ready: string, scale: Scale): Promise<Figures> {
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
  const mebibytes = residentBytes(child.pid ?? -1) / MIB;
  child.kill("SIGTERM");
  await once(child, "exit");
  return { milliseconds, mebibytes };
}

async function starts(scale: Scale): Promise<Prepared> {
  const folder = socketFolder();
  const file = join(folder, "aperture.toml");
  writeFileSync(file, `host = "simulated"\nsocket = "${join(folder, "a.sock")}"\nmetrics.listen = "127.0.0.1:0"\n`);
  return {
    sides: [
      { name: "empty", measure: () => start([...program("empty"), join(folder, "empty")], "stdout", "READY", scale) },
      { name: "apertured", measure: () => start([process.execPath, LAUNCH, "--config", file], "stderr", "daemon.ready", scale) },
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
            await sleep(scale.pick(CALM_MS, 0));
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
    ],
    prepare: starts,
  },
  {
    name: "memory after leases",
    rows: [
      {
        ...{ id: "memory", measure: "RSS after 100,000 leases", against: "idle RSS", unit: "MiB" },
        ...{ of: { side: "daemon", figure: "after" }, base: { side: "daemon", figure: "idle" }, target: { atMost: 1.3 } },
      },
    ],
    prepare: memory,
  },
];
