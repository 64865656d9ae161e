// A daemon whose clock is switched off (scans and retries every ten minutes), so whatever it finds out it was told by the kernel; with a client that looks on and one that
// holds devices.

import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type ApertureClient, ApertureError, connect, type Device } from "../../../src/client/index.js";
import { DaemonProcess } from "../../harness/daemon.js";
import { HolderProcess } from "../../harness/holder.js";
import { until } from "../../harness/until.js";

const PATIENCE_MS = 60_000;
const TEN_MINUTES = 600_000;

const CONFIG = `inventory.rescan_ms = ${TEN_MINUTES}
[limits]
ack_ms = 60000
first_call_ms = 60000
retry_min_ms = ${TEN_MINUTES}
retry_max_ms = ${TEN_MINUTES}
recall_grace_ms = ${TEN_MINUTES}
driver_ms = ${PATIENCE_MS}
[[policy]]
name = "root"
uid = [0]
device = "*"
allow_unreset = true
`;

export function reasons(device: Device | null): string {
  return device?.ineligibleReasons.map((each) => each.reason).join(" ") ?? "";
}

/** What a watcher was told of one device, each as `KIND STATE REASONS`. */
export interface Told {
  readonly events: readonly string[];
  end(): Promise<void>;
}

export class LiveDaemon {
  readonly daemon: DaemonProcess;
  readonly observer: ApertureClient;
  readonly holder: HolderProcess;

  private constructor(daemon: DaemonProcess, observer: ApertureClient, holder: HolderProcess) {
    this.daemon = daemon;
    this.observer = observer;
    this.holder = holder;
  }

  static async start(): Promise<LiveDaemon> {
    const daemon = await DaemonProcess.start({ host: "auto", config: CONFIG });
    const observer = await connect({ socket: daemon.socket, timeoutMs: PATIENCE_MS });
    const holder = await HolderProcess.start(daemon.socket);
    assert.equal((await holder.say("acquire 0000:ff:1f.7"))["reason"], "DEVICE_NOT_FOUND");
    await observer.hostInfo();
    daemon.rebase();
    return new LiveDaemon(daemon, observer, holder);
  }

  /** For afterEach: nothing is left open in the daemon, and it met no fault. */
  async isAsBefore(): Promise<void> {
    await this.observer.hostInfo();
    await this.daemon.isAsBefore();
  }

  async stop(): Promise<void> {
    await HolderProcess.killAll();
    await this.observer.close();
    await this.daemon.stop();
  }

  setGrace(ms: number): Promise<void> {
    return this.setLimit("recall_grace_ms", ms);
  }

  async setLimit(name: "recall_grace_ms" | "driver_ms", ms: number): Promise<void> {
    const file = join(this.daemon.folder, "aperture.toml");
    writeFileSync(file, readFileSync(file, "utf8").replace(new RegExp(`^${name} = .*$`, "m"), `${name} = ${ms}`));
    const { applied, problems } = await this.observer.reloadConfig();
    assert.ok(applied, problems.join());
  }

  async find(address: string): Promise<Device | null> {
    try {
      return await this.observer.device(address);
    } catch (error) {
      if (error instanceof ApertureError && error.reason === "DEVICE_NOT_FOUND") return null;
      throw error;
    }
  }

  becomes(what: string, address: string, holds: (device: Device | null) => boolean): Promise<Device | null> {
    return until(`${address} ${what}`, () => this.find(address), holds, PATIENCE_MS);
  }

  there(address: string): Promise<Device | null> {
    return this.becomes("there", address, (device) => device !== null);
  }

  leasable(address: string): Promise<Device | null> {
    return this.becomes("leasable", address, (device) => device !== null && device.state === "FREE" && reasons(device) === "");
  }

  gone(address: string): Promise<Device | null> {
    return this.becomes("gone", address, (device) => device === null);
  }

  leaving(address: string): Promise<Device | null> {
    return this.becomes("leaving", address, (device) => reasons(device) === "DEVICE_LEAVING");
  }

  /** Watches one device from now on. */
  async watch(address: string): Promise<Told> {
    const stop = new AbortController();
    const events: string[] = [];
    const stream = this.observer.watch({ addresses: [address] }, { signal: stop.signal });
    let synced = (): void => {};
    const started = new Promise<void>((resolve) => {
      synced = resolve;
    });
    const over = (async (): Promise<void> => {
      for await (const { kind, device } of stream) {
        if (device === null) synced();
        else events.push([kind, device.state, reasons(device)].join(" ").trim());
      }
    })();
    await Promise.race([started, over]);
    return {
      events,
      async end() {
        stop.abort();
        await over;
      },
    };
  }
}
