// The one place that knows everybody: makes the parts, connects them, starts and stops them in order.

import { createHash, randomBytes, randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { release } from "node:os";
import { Inventory } from "../broker/inventory.js";
import { Leases } from "../broker/leases.js";
import type { Host, HostCapability, TicketSource } from "../broker/ports.js";
import { OwnedDescriptor } from "../descriptor.js";
import { Channels } from "../handover/channels.js";
import { ConnectionCounter } from "../peer/admission-control.js";
import { GrpcListener } from "../peer/grpc-listener.js";
import { Processes } from "../peer/processes.js";
import type { ListeningSocket } from "../peer/socket-path.js";
import type { PollSet } from "../poll-set.js";
import type { HostFacts, ReloadReport } from "../rpc/host-service.js";
import { RpcServer } from "../rpc/server.js";
import { DeviceSeries } from "../telemetry/device-series.js";
import type { LogLevel } from "../telemetry/events.js";
import type { Log } from "../telemetry/log.js";
import type { PeerRejection } from "../telemetry/metric-table.js";
import { Metrics } from "../telemetry/metrics.js";
import type { TelemetryObserver } from "../telemetry/observer.js";
import { ScrapeServer } from "../telemetry/scrape.js";
import { inTraceOf } from "../telemetry/trace.js";
import { vmmArguments } from "../vmm/arguments.js";
import type { Config, ConfigOutcome } from "./config.js";
import { FormerBindingsFile } from "./former-bindings-file.js";
import { limitsOf } from "./limits.js";
import { LiveSettings } from "./live-settings.js";
import { makeReload } from "./reload.js";
import { SETTING_NAMES, SETTINGS } from "./settings.js";
import { systemClock } from "./system-clock.js";

export interface DaemonParts {
  readonly config: Config;
  /** Reads the configuration again, from where config came. */
  readonly load: () => ConfigOutcome;
  readonly log: Log;
  /** Of the host too, which is made before. */
  readonly observer: TelemetryObserver;
  readonly pollSet: PollSet;
  readonly host: Host;
  readonly backendReason: string;
  readonly version: string;
  readonly sockets: { readonly grpc: ListeningSocket; readonly channel: ListeningSocket };
  readonly peerCapabilities: readonly HostCapability[];
}

export interface Daemon {
  /** Scans, probes, then serves. problem: why it cannot. */
  start(): Promise<{ readonly metricsAddress: string | null; readonly problem: string | null }>;
  /** Reads the configuration again. */
  reload(): ReloadReport;
  /** Refuses new leases, lets calls end, closes everything. Leases that are held stay with their holders. */
  stop(): Promise<void>;
}

const ticketSource: TicketSource = {
  make: () => randomBytes(16),
  digest: (ticket) => createHash("sha256").update(ticket).digest("base64"),
};

export function compose(parts: DaemonParts): Daemon {
  const { config, log, host, sockets, observer, pollSet } = parts;
  const live = new LiveSettings(config.settings);
  const { settings } = config;
  const limits = limitsOf(live);
  const inventory = new Inventory(host, systemClock, observer);
  inventory.setPeerSets(config.peers.map(({ set }) => set));
  const processes: Processes = new Processes(pollSet, settings.peer_identity === "pid" ? "pid" : "pidfd", (id) => {
    leases.processExited(id);
    channels.processExited(id);
    listener.processExited(id);
  });
  const rejected = (reason: PeerRejection, pid: number, uid: number): void => observer.rejected(reason, pid, uid);
  const channels: Channels = new Channels({
    pollSet,
    limits: limits.channels,
    now: systemClock.now,
    onRejected: (reason, peer) => rejected(reason, peer.pid, peer.uid),
    onShown: (peer, channel, ticket) => leases.show(peer, channel, ticket),
  });
  const leases: Leases = new Leases({
    ...{ host, inventory, handover: channels, clock: systemClock, newId: randomUUID, ticketSource, observer },
    limits: limits.leases,
    rules: config.policy,
    operators: [0, process.geteuid?.() ?? 0],
    formerBindings: new FormerBindingsFile(`${sockets.grpc.path}.drivers`, process.geteuid?.() ?? 0, host.backend),
  });

  const listener: GrpcListener = new GrpcListener({
    ...{ pollSet, processes, limits: limits.listener },
    inject: (socket) => rpc.inject(socket),
    onRejected: rejected,
    onFault: (error) => observer.fault("accept", error),
  });
  const rpc = new RpcServer({
    ...{ inventory, leases, host, facts: hostFacts(parts, live) },
    limits: limits.rpc,
    reload: () => reload(),
    vmmArguments,
    peerOf: (key) => listener.peerOf(key),
    onCall: (key) => listener.called(key),
    observeCall: (path, kind) => metrics.calls.begin(path, kind),
    inTraceOf,
    onRefused: (reason) => metrics.refusals.inc({ reason }),
    onFault: (where, error) => observer.fault(where, error),
  });

  const metrics: Metrics = new Metrics(parts.version, host.backend.toLowerCase(), {
    devices: new DeviceSeries(inventory, systemClock.now),
    leases: () => leases.activeCount(),
    connections: () => listener.connections,
    channels: () => channels.count,
    inFlight: () => channels.inFlight,
    suppressedLines: () => log.suppressedLines,
  });
  observer.metrics = metrics;
  host.changes(({ kind }) => metrics.hostChanges.inc({ kind: kind.toLowerCase() }));
  let ready = false;
  const scrape = new ScrapeServer({ metrics, ready: () => ready, onFault: (where, error) => observer.fault(where, error) });

  const channelCounter = new ConnectionCounter(limits.listener);
  const listenForChannels = (): number =>
    must(
      pollSet.listen(sockets.channel.fd, {
        accepted: (accepted) => acceptChannel({ accepted, processes, channels, counter: channelCounter, rejected }),
        starved: () => rejected("STARVED", 0, 0),
      }),
    );

  const rescans = new Rescans(
    inventory,
    (error) => observer.fault("rescan", error),
    () => live.now["inventory.rescan_ms"],
  );
  const reload = makeReload({
    ...{ live, leases, inventory, log, metrics, load: parts.load },
    onApplied: () => {
      log.setLevel(live.now["log.level"] as LogLevel);
      rescans.restart();
    },
  });
  let channelListener: number | null = null;
  return {
    start: async () => {
      const address = settings["metrics.listen"];
      const scraped = address === "off" ? null : await listenForScrapes(scrape, address);
      if (scraped?.problem) return { metricsAddress: null, problem: scraped.problem };
      await inventory.refresh();
      // Probes that are not over by then go on in the background: one device that is not ready must not keep the daemon from serving the others.
      await within(settings["inventory.first_probes_ms"], inventory.settled());
      channelListener = listenForChannels();
      listener.listen(sockets.grpc.fd);
      rescans.restart();
      rpc.setServing(true);
      ready = true;
      return { metricsAddress: scraped?.address ?? null, problem: null };
    },
    reload,
    stop: async () => {
      ready = false;
      leases.drain();
      rpc.setServing(false);
      rescans.stop();
      listener.stopListening();
      if (channelListener !== null) pollSet.remove(channelListener);
      sockets.grpc.unlink();
      sockets.channel.unlink();
      await rpc.shutdown(live.now["limits.shutdown_ms"]);
      listener.destroyAll();
      channels.close();
      processes.close();
      scrape.close();
      await host.close();
      pollSet.close();
    },
  };
}

function acceptChannel(context: {
  readonly accepted: Parameters<Channels["add"]>[0];
  readonly processes: Processes;
  readonly channels: Channels;
  readonly counter: ConnectionCounter;
  readonly rejected: (reason: PeerRejection, pid: number, uid: number) => void;
}): void {
  const { accepted, processes, channels, counter, rejected } = context;
  const identified = processes.identify(accepted);
  if (identified.refusal !== null) {
    closeSocket(accepted.fd);
    rejected(identified.refusal, accepted.pid, accepted.uid);
    return;
  }
  const leave = counter.enter(accepted.uid);
  if (leave === null) {
    closeSocket(accepted.fd);
    identified.peer.forget();
    rejected("CHANNEL_LIMIT", accepted.pid, accepted.uid);
    return;
  }
  channels.add(accepted, identified.peer, leave);
}

/** Scans the machine again and again, also when nobody tells of a change. */
class Rescans {
  readonly #inventory: Inventory;
  readonly #onFault: (error: unknown) => void;
  readonly #every: () => number;
  #timer: NodeJS.Timeout | null = null;

  constructor(inventory: Inventory, onFault: (error: unknown) => void, every: () => number) {
    this.#inventory = inventory;
    this.#onFault = onFault;
    this.#every = every;
  }

  restart(): void {
    this.stop();
    this.#timer = setInterval(() => this.#inventory.refresh().catch(this.#onFault), this.#every());
  }

  stop(): void {
    if (this.#timer) clearInterval(this.#timer);
    this.#timer = null;
  }
}

function hostFacts(parts: DaemonParts, live: LiveSettings): HostFacts {
  const limits = (): ReturnType<HostFacts["limits"]> =>
    SETTING_NAMES.flatMap((name) => {
      const setting = SETTINGS[name];
      return setting.type === "number" ? [{ name, value: BigInt(live.now[name] as number), unit: setting.unit }] : [];
    }).sort((a, b) => (a.name < b.name ? -1 : 1));
  return {
    version: parts.version,
    kernelRelease: release(),
    backendReason: parts.backendReason,
    limits,
    instanceId: randomUUID(),
    startTime: systemClock.now(),
    channelPath: parts.sockets.channel.path,
    capabilities: parts.peerCapabilities,
  };
}

async function listenForScrapes(
  scrape: ScrapeServer,
  address: string,
): Promise<{ readonly address: string | null; readonly problem: string | null }> {
  const match = /^(.+):(\d{1,5})$/.exec(address);
  if (!match?.[1] || !match[2] || Number(match[2]) > 65_535)
    return { address: null, problem: `metrics.listen: "${address}" is no HOST:PORT; say off for none` };
  const bound = await scrape.listen(match[1].replace(/^\[(.*)\]$/, "$1"), Number(match[2]));
  if (bound.problem === null) return { address: bound.address, problem: null };
  const hint =
    bound.problem.code === "EADDRINUSE"
      ? "Another program listens there: choose another with --metrics, or --metrics off"
      : "Choose another with --metrics";
  return { address: null, problem: `cannot listen on ${address} for metrics: ${bound.problem.code ?? bound.problem.message}. ${hint}` };
}

async function within(ms: number, work: Promise<void>): Promise<void> {
  let timer: NodeJS.Timeout | null = null;
  const late = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, ms);
  });
  await Promise.race([work, late]);
  if (timer) clearTimeout(timer);
}

function must(result: ReturnType<PollSet["listen"]>): number {
  if (result.error) throw new Error(`the channel socket cannot be polled: ${result.error.operation} ${result.error.code}`);
  return result.value;
}

function closeSocket(fd: number): void {
  new OwnedDescriptor(fd, "a refused channel").close();
}

/** version from package.json: one place. */
export function packageVersion(): string {
  const file = new URL("../../../package.json", import.meta.url);
  return (JSON.parse(readFileSync(file, "utf8")) as { readonly version: string }).version;
}
