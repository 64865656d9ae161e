// What it costs that the daemon accepts by itself and hands the connection to grpc-js.

import { rmSync } from "node:fs";
import { join } from "node:path";
import { socketFolder } from "../../harness/daemon.js";
import { baseline } from "../harness/baselines.js";
import type { BenchCase } from "../harness/case.js";
import { program, Server } from "../harness/processes.js";
import { apart } from "../harness/processors.js";
import { echoLoad } from "./leases.js";

export const echoCases: readonly BenchCase[] = [
  {
    name: "injected connections",
    rows: [
      {
        ...{ id: "injected", measure: "echoes on injected connections, 64 clients", against: "grpc-js bindAsync", unit: "/s" },
        ...{ of: { side: "injected", figure: "perSecond" }, base: { side: "bound", figure: "perSecond" }, target: { atLeast: 0.9 } },
      },
    ],
    prepare: async (scale) => {
      const client = await baseline("lease_client");
      const folder = socketFolder();
      const sides = ["bound", "injected"] as const;
      const servers: Server[] = [];
      for (const side of sides) servers.push(await Server.start([...program("echo-server"), join(folder, side), side, "-"], apart.server));
      return {
        sides: sides.map((name) => ({
          name,
          measure: () => echoLoad(client, join(folder, name), scale.pick(64, 8), scale.pick(30_000, 100)),
        })),
        close: async () => {
          for (const server of servers) await server.stop();
          rmSync(folder, { recursive: true, force: true });
        },
      };
    },
  },
];
