// apertured with another device list: the same parts, composed as src/daemon/main.ts composes them, on a simulated host of as many devices as a case needs, each as slow
// to reset as it says. Everything else, configuration and log included, is the daemon's own.
// Usage: daemon.js CONFIG DEVICES LEASABLE REGIONS RESET_MS
// LEASABLE: how many of the devices have memory behind them, a file for each region of each; that is bounded by RLIMIT_NOFILE. The rest are seen, listed and watched only.

import { compose, packageVersion } from "../../../src/daemon/compose.js";
import { type ConfigOutcome, loadConfig } from "../../../src/daemon/config.js";
import { readFlags } from "../../../src/daemon/flags.js";
import { peerCapabilities } from "../../../src/daemon/start-checks.js";
import { SimulatedHost } from "../../../src/host/simulated-host.js";
import { native } from "../../../src/native.js";
import { listenAt } from "../../../src/peer/socket-path.js";
import { PollSet } from "../../../src/poll-set.js";
import type { LogLevel } from "../../../src/telemetry/events.js";
import { Log } from "../../../src/telemetry/log.js";
import { TelemetryObserver } from "../../../src/telemetry/observer.js";
import { stderrLines } from "../../../src/telemetry/turn-lines.js";
import { manyDevices } from "./many-devices.js";
import { withMore } from "./more-devices.js";

const [file = "", devices = "0", leasable = "0", regions = "6", resetMs = "0"] = process.argv.slice(2);

const read = readFlags(["--config", file]);
if (read.kind !== "run") throw new Error("the flags are wrong");
const load = (): ConfigOutcome => loadConfig(read.flags, process.env, process.geteuid?.() ?? 0);
const { config, problems } = load();
if (config === null) throw new Error(problems.join("; "));
const log = new Log(config.settings["log.level"] as LogLevel, stderrLines(native.isWritable));
const made = await SimulatedHost.create({
  observer: { fault: (where, error) => log.fault(where, error) },
  devices: manyDevices(Number(leasable), Number(regions)),
  script: (operation) => (operation === "VFIO_DEVICE_RESET" && Number(resetMs) > 0 ? Number(resetMs) : null),
});
if (made.refusal) throw new Error(made.refusal.message);
const host = withMore(made.value, Number(leasable), Number(devices));

function socketAt(type: "stream" | "seqpacket", path: string) {
  const listening = listenAt({ path, type, mode: 0o666, gid: -1 });
  if (listening.problem !== null) throw new Error(listening.problem);
  return listening.socket;
}

const { socket } = config.settings;
const observer = new TelemetryObserver(log);
const pollSet = new PollSet((error) => observer.fault("poll", error));
const daemon = compose({
  ...{ config, load, log, observer, pollSet, host, version: packageVersion(), backendReason: `bench: ${devices} made-up devices` },
  sockets: { grpc: socketAt("stream", socket), channel: socketAt("seqpacket", `${socket}.channel`) },
  peerCapabilities: peerCapabilities(),
});
const started = await daemon.start();
if (started.problem !== null) throw new Error(started.problem);

process.stdout.write(`READY ${started.metricsAddress ?? "off"}\n`);
process.once("SIGTERM", () => void daemon.stop().then(() => process.exit(0)));
