// What provocations of reasons are made of: daemons to ask, and the ways in which a reason can be told.

import { spawn } from "node:child_process";
import { once } from "node:events";
import type { DeviceFacts } from "../../src/broker/device.js";
import { type Reason, type Refusal, refuse } from "../../src/broker/refusal.js";
import { DaemonProcess, type LogRecord } from "../harness/daemon.js";
import { LeaseBench } from "../harness/lease-bench.js";
import { type AlteredHost, OwnDaemon, type OwnDaemonOptions } from "../harness/own-daemon.js";
import { RawChannel } from "../harness/raw-channel.js";
import type { Result } from "../harness/rpc.js";

export const NVME = "0000:02:00.0";
export const VF = "0000:41:01.0";
export const GPU = "0009:01:00.0";
export const DENIED = "0019:01:00.0";
export const NO_LEASE = "00000000-0000-4000-8000-000000000000";

/** Who told the reason, and what came with it. */
export type Told =
  | { readonly by: "call"; readonly result: Result<unknown> }
  | { readonly by: "goodbye"; readonly reason: string | null }
  /** The answer to a ticket that was shown. */
  | { readonly by: "refused"; readonly reason: string }
  /** aperturectl met it. */
  | { readonly by: "cli"; readonly status: number | null; readonly stderr: string }
  /** Nobody is left to be told: the log has it. */
  | { readonly by: "log"; readonly record: LogRecord }
  /** The rules alone, on fakes. */
  | { readonly by: "rules"; readonly refusal: Refusal };

/** A daemon that a provocation may ask. */
export interface Target {
  readonly socket: string;
  metrics(): Promise<string>;
}

export interface Provocation {
  /**
   * Where it is provoked. daemon: a daemon process on the simulated host. altered: a daemon in the test's process whose host answers as a kernel would. server: the gRPC
   * server alone. rules: the broker on fakes.
   */
  readonly rung: "daemon" | "altered" | "server" | "rules";
  readonly provoke: (daemons: Daemons) => Promise<readonly Told[]>;
}

/** Daemons for provocations; each asks for what it needs. All are asked for their counters afterwards. */
export class Daemons {
  readonly #common: DaemonProcess;
  readonly started: Target[] = [];

  constructor(common: DaemonProcess) {
    this.#common = common;
  }

  common(): DaemonProcess {
    this.started.push(this.#common);
    return this.#common;
  }

  async process(config: string): Promise<DaemonProcess> {
    const daemon = await DaemonProcess.start({ config });
    this.started.push(daemon);
    return daemon;
  }

  async altered(options: OwnDaemonOptions): Promise<OwnDaemon> {
    const daemon = await OwnDaemon.start(options);
    this.started.push(daemon);
    return daemon;
  }
}

const CLI = new URL("../../src/cli/main.js", import.meta.url).pathname;

/** Runs aperturectl against the daemon. */
export async function ctl(target: Target, ...args: readonly string[]): Promise<Told> {
  const env: NodeJS.ProcessEnv = { ...process.env, APERTURE_SOCKET: target.socket };
  delete env["NODE_TEST_CONTEXT"];
  const child = spawn(process.execPath, ["--enable-source-maps", CLI, ...args], {
    stdio: ["ignore", "ignore", "pipe"],
    env,
    timeout: 20_000,
  });
  let stderr = "";
  child.stderr.on("data", (chunk: Buffer) => {
    stderr += chunk.toString();
  });
  const [status] = (await once(child, "close")) as [number | null];
  return { by: "cli", status, stderr };
}

export function asked(result: Result<unknown>): Told {
  return { by: "call", result };
}

/** A refusal of acquiring one device, asked of the daemon and by aperturectl (of another device, when the first is not to be had meanwhile). */
export async function acquireRefused(target: Target & { rebase(): void }, address: string, byCli = address): Promise<readonly Told[]> {
  const bench = await LeaseBench.at(target);
  return [asked(await bench.acquire(address)), await ctl(target, "exec", byCli, "--", "true")];
}

/** In the common daemon. */
export function onCommon(address: string): Provocation {
  return { rung: "daemon", provoke: (daemons) => acquireRefused(daemons.common(), address) };
}

/** A host that says something else of the NVMe drive. */
export function altered(alter: (host: AlteredHost) => void): Provocation {
  return {
    rung: "altered",
    provoke: async (daemons) => acquireRefused(await daemons.altered({ config: ALL_ALLOWED, alter }), NVME),
  };
}

export function factsOf(change: Partial<DeviceFacts>): Provocation {
  return altered((host) => {
    host.facts = (facts) => (facts.address === NVME ? { ...facts, ...change } : facts);
  });
}

export function probeRefused(reason: Reason, message: string): Provocation {
  return altered((host) => {
    host.probed = (facts, simulated) => (facts.address === NVME ? refuse(reason, message) : simulated);
  });
}

export const ALL_ALLOWED = '[[policy]]\nname = "all"\ndevice = "*"\n';

/** The rules of the daemon that most provocations share. */
export const COMMON_CONFIG = `[[policy]]\nname = "not this one"\ndevice = "${DENIED}"\nkind = []\n${ALL_ALLOWED}`;

export async function attached(target: Target): Promise<RawChannel> {
  return (await RawChannel.attached(target.socket)).channel;
}
