// A whole daemon in the test's own process, around a simulated host that the test can make answer as a kernel would. Everything but the host is what runs in production: sockets,
// gRPC, policy, leases, metrics. For what no simulated host of a daemon process can be brought to say.

import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Address, DeviceFacts, DeviceProbe } from "../../src/broker/device.js";
import type { DriverControl } from "../../src/broker/driver-control.js";
import type { NumaNode } from "../../src/broker/facts.js";
import type { Host, HostCapability, HostChange, KnownDevice, OpenedLease, OpenRequest, ProofOutcome } from "../../src/broker/ports.js";
import type { Outcome } from "../../src/broker/refusal.js";
import { compose, type Daemon } from "../../src/daemon/compose.js";
import { type ConfigOutcome, loadConfig } from "../../src/daemon/config.js";
import { SimulatedHost, type SimulatedOptions } from "../../src/host/simulated-host.js";
import { type ListeningSocket, listenAt } from "../../src/peer/socket-path.js";
import { PollSet } from "../../src/poll-set.js";
import { Log } from "../../src/telemetry/log.js";
import { TelemetryObserver } from "../../src/telemetry/observer.js";
import { type LogRecord, socketFolder } from "./daemon.js";
import { until } from "./until.js";

/** The simulated host with some of its answers replaced. */
export class AlteredHost implements Host {
  readonly backend = "SIMULATED";
  readonly simulated: SimulatedHost;
  scans = 0;
  facts: (facts: DeviceFacts) => DeviceFacts = (facts) => facts;
  probed: (facts: DeviceFacts, simulated: Outcome<DeviceProbe>) => Outcome<DeviceProbe> = (_facts, simulated) => simulated;
  /** Before descriptors are opened; null: as simulated. */
  opening: (request: OpenRequest) => Promise<Outcome<OpenedLease> | null> = async () => null;

  constructor(simulated: SimulatedHost) {
    this.simulated = simulated;
  }

  get drivers(): DriverControl {
    return this.simulated.drivers;
  }

  capabilities(): readonly HostCapability[] {
    return this.simulated.capabilities();
  }

  numaNodes(): readonly NumaNode[] {
    return this.simulated.numaNodes();
  }

  async scan(only?: ReadonlySet<Address>): Promise<readonly DeviceFacts[]> {
    const found = (await this.simulated.scan(only)).map((facts) => this.facts(facts));
    this.scans += 1;
    return found;
  }

  changes(listener: (change: HostChange) => void): () => void {
    return this.simulated.changes(listener);
  }

  async probe(facts: DeviceFacts): Promise<Outcome<DeviceProbe>> {
    return this.probed(facts, await this.simulated.probe(facts));
  }

  async open(request: OpenRequest, devices: readonly KnownDevice[]): Promise<Outcome<OpenedLease>> {
    return (await this.opening(request)) ?? (await this.simulated.open(request, devices));
  }

  prove(devices: readonly KnownDevice[]): Promise<ProofOutcome> {
    return this.simulated.prove(devices);
  }

  close(): Promise<void> {
    return this.simulated.close();
  }

  /** When a scan that began later than now is over. */
  async scannedAgain(): Promise<void> {
    const wanted = this.scans + 2;
    await until(
      "scans",
      () => this.scans,
      (scans) => scans >= wanted,
    );
  }
}

export interface OwnDaemonOptions extends Omit<SimulatedOptions, "observer"> {
  /** TOML, as DaemonOptions.config. */
  readonly config?: string;
  /** Between two scans of the inventory; 100. */
  readonly rescanMs?: number;
  /** Runs before the first scan. */
  readonly alter?: (host: AlteredHost) => void;
}

export class OwnDaemon {
  static readonly #running = new Set<OwnDaemon>();
  readonly #daemon: Daemon;
  readonly #folder: string;
  readonly #lines: string[];
  readonly host: AlteredHost;
  readonly socket: string;
  metricsAddress = "";

  private constructor(daemon: Daemon, folder: string, host: AlteredHost, lines: string[]) {
    this.#daemon = daemon;
    this.#folder = folder;
    this.#lines = lines;
    this.host = host;
    this.socket = join(folder, "a.sock");
    OwnDaemon.#running.add(this);
  }

  static async start({ config = "", rescanMs = 100, alter = () => {}, ...simulation }: OwnDaemonOptions = {}): Promise<OwnDaemon> {
    const folder = socketFolder();
    const file = join(folder, "aperture.toml");
    const head = `socket = "${join(folder, "a.sock")}"\nmetrics.listen = "127.0.0.1:0"\nlog.level = "debug"\ninventory.rescan_ms = ${rescanMs}\n`;
    writeFileSync(file, head + config);
    const load = (): ConfigOutcome => loadConfig({ config: file, settings: [] }, {}, process.geteuid?.() ?? 0);
    const outcome = load();
    if (outcome.problems !== null) throw new Error(outcome.problems.join("\n"));
    const lines: string[] = [];
    const log = new Log("debug", { write: (line) => void lines.push(line) });
    const simulated = await SimulatedHost.create({ ...simulation, observer: { fault: (where, error) => log.fault(where, error) } });
    if (simulated.refusal !== null) throw new Error(simulated.refusal.message);
    const host = new AlteredHost(simulated.value);
    alter(host);
    const sockets = { grpc: listening(folder, "a.sock", "stream"), channel: listening(folder, "a.sock.channel", "seqpacket") };
    const observer = new TelemetryObserver(log);
    const pollSet = new PollSet((error) => observer.fault("poll", error));
    const parts = {
      config: outcome.config,
      load,
      log,
      observer,
      pollSet,
      host,
      backendReason: "a test",
      version: "0.0.0",
      sockets,
      peerCapabilities: [],
    };
    const daemon = new OwnDaemon(compose(parts), folder, host, lines);
    const started = await daemon.#daemon.start();
    if (started.problem !== null) throw new Error(started.problem);
    daemon.metricsAddress = started.metricsAddress ?? "";
    return daemon;
  }

  /** For afterEach. */
  static async stopAll(): Promise<void> {
    for (const daemon of OwnDaemon.#running) await daemon.stop();
  }

  records(): readonly LogRecord[] {
    return this.#lines.map((line) => JSON.parse(line) as LogRecord);
  }

  /** For LeaseBench: the descriptors of the test process itself are nobody's baseline. */
  rebase(): void {}

  async metrics(): Promise<string> {
    return await (await fetch(`${this.metricsAddress}/metrics`, { headers: { connection: "close" } })).text();
  }

  async stop(): Promise<void> {
    if (!OwnDaemon.#running.delete(this)) return;
    await this.#daemon.stop();
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

function listening(folder: string, name: string, type: "stream" | "seqpacket"): ListeningSocket {
  const made = listenAt({ path: join(folder, name), type, mode: 0o666, gid: -1 });
  if (made.problem !== null) throw new Error(made.problem);
  return made.socket;
}
