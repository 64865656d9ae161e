// The daemon of a case: apertured's own parts over as many made-up devices as the case needs (programs/daemon.ts), with room for as many clients.

import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { NODE_FLAGS, socketFolder } from "../../harness/daemon.js";
import { until } from "../../harness/until.js";
import { REGIONS } from "../programs/many-devices.js";
import { program, Server } from "./processes.js";

/** Limits as wide as the cases need; everything else as it comes. No rescan: between two cases nothing may happen by the clock. */
const CONFIG = `host = "simulated"
metrics.listen = "127.0.0.1:0"
inventory.rescan_ms = 3600000
[limits]
connections = 4096
connections_per_uid = 4096
watchers = 4096
first_call_ms = 600000
ack_ms = 60000
leases_per_uid = 65536
descriptors_in_flight = 65536
`;

export interface BenchDaemonOptions {
  readonly devices: number;
  /** How many of them can be leased; all when it is not said. */
  readonly leasable?: number;
  readonly regions?: number;
  /** Milliseconds that each reset takes. */
  readonly resetMs?: number;
  readonly cpu: number | null;
}

export class BenchDaemon {
  readonly server: Server;
  readonly socket: string;
  readonly channel: string;
  readonly #folder: string;

  private constructor(server: Server, folder: string) {
    this.server = server;
    this.#folder = folder;
    this.socket = join(folder, "a.sock");
    this.channel = `${this.socket}.channel`;
  }

  static async start({ devices, leasable = devices, regions = REGIONS, resetMs = 0, cpu }: BenchDaemonOptions): Promise<BenchDaemon> {
    const folder = socketFolder();
    const file = join(folder, "aperture.toml");
    writeFileSync(file, `socket = "${join(folder, "a.sock")}"\n${CONFIG}`);
    try {
      const numbers = [devices, leasable, regions, resetMs].map(String);
      const [node = "", ...rest] = program("daemon");
      return new BenchDaemon(await Server.start([node, ...NODE_FLAGS, ...rest, file, ...numbers], cpu, join(folder, "log")), folder);
    } catch (error) {
      rmSync(folder, { recursive: true, force: true });
      throw error;
    }
  }

  get metricsUrl(): string {
    return `${this.server.told}/metrics`;
  }

  /** A metric without labels. */
  async metric(name: string): Promise<number> {
    const text = await (await fetch(this.metricsUrl, { headers: { connection: "close" } })).text();
    const value = new RegExp(`^${name} (\\S+)$`, "m").exec(text)?.[1];
    if (value === undefined) throw new Error(`the daemon has no metric ${name}`);
    return Number(value);
  }

  /** Waits until no lease is left but those that are held for good. A device that did not come back, or a fault, makes every figure before it doubtful. */
  async settled(held = 0): Promise<void> {
    await until(
      "leases that have ended",
      () => this.metric("aperture_leases"),
      (leases) => leases === held,
      120_000,
    );
    for (const name of ["aperture_device_quarantines_total", "aperture_faults_total"]) {
      const count = await this.metric(name);
      if (count !== 0) throw new Error(`${name} is ${count}`);
    }
  }

  /** At once, whatever becomes of its leases. */
  async kill(): Promise<void> {
    await this.server.kill();
    rmSync(this.#folder, { recursive: true, force: true });
  }

  async stop(): Promise<void> {
    try {
      await this.server.stop();
    } finally {
      rmSync(this.#folder, { recursive: true, force: true });
    }
  }
}
