#!/usr/bin/env node
// apertured: reads its configuration, makes its sockets, runs until SIGTERM or SIGINT.
// Exit status: 0 stopped on request, 1 cannot run, 2 wrong usage.

import { mkdirSync, readFileSync } from "node:fs";
import { dirname } from "node:path";
import { chooseHost, type HostChoice } from "../host/choose.js";
import { native } from "../native.js";
import { type ListeningSocket, listenAt } from "../peer/socket-path.js";
import { PollSet } from "../poll-set.js";
import type { LogLevel } from "../telemetry/events.js";
import { Log } from "../telemetry/log.js";
import { TelemetryObserver } from "../telemetry/observer.js";
import { stderrLines } from "../telemetry/turn-lines.js";
import { compose, packageVersion } from "./compose.js";
import { type Config, type ConfigOutcome, loadConfig } from "./config.js";
import { warningsOf } from "./config-check.js";
import { readFlags, USAGE } from "./flags.js";
import { checkDescriptorLimit, checkPeerIdentity, peerCapabilities } from "./start-checks.js";

class CannotStart extends Error {}

/** SIGHUP asks for a reload. One that comes during the start must not end the process, which is what it does by default: the configuration is read just then anyway. */
const hangup: { act: (() => void) | null } = { act: null };
process.on("SIGHUP", () => hangup.act?.());

async function main(): Promise<number> {
  const uid = process.geteuid?.() ?? 0;
  const outcome = readFlags(process.argv.slice(2));
  switch (outcome.kind) {
    case "help":
      process.stdout.write(USAGE);
      return 0;
    case "version":
      process.stdout.write(`apertured ${packageVersion()}\n`);
      return 0;
    case "problem":
      return complain([outcome.problem], true);
    case "config": {
      const { runConfigCommand } = await import("./config-command.js");
      const { out, messages, status } = runConfigCommand(outcome.command, outcome.flags, process.env, uid);
      process.stdout.write(out);
      complain(messages, status === 2);
      return status;
    }
    case "run": {
      const load = (): ConfigOutcome => loadConfig(outcome.flags, process.env, uid);
      const loaded = load();
      return loaded.problems ? complain(loaded.problems, loaded.usage) : run(loaded.config, load);
    }
  }
}

/** Exit status 1, or 2 for wrong usage. */
function complain(problems: readonly string[], usage: boolean): 1 | 2 {
  for (const problem of problems) process.stderr.write(`apertured: ${problem}\n`);
  if (usage) process.stderr.write("apertured: --help shows the options\n");
  return usage ? 2 : 1;
}

async function run(config: Config, load: () => ConfigOutcome): Promise<number> {
  const { settings } = config;
  const log = new Log(settings["log.level"] as LogLevel, stderrLines(native.isWritable));
  const version = packageVersion();
  log.write("daemon.starting", { version, config: config.files.join(", ") || "none", daemon_pid: process.pid }, "apertured is starting");

  for (const warning of warningsOf(config)) log.write("config.warning", { why: warning }, "the configuration may hold a mistake");

  const limit = checkDescriptorLimit(settings);
  if (limit) throw new CannotStart(limit);
  const capabilities = peerCapabilities();
  const identity = checkPeerIdentity(settings, capabilities);
  if (identity) throw new CannotStart(identity);
  const observer = new TelemetryObserver(log);
  const pollSet = new PollSet((error) => observer.fault("poll", error));
  const chosen = await chooseHost({
    ...{ host: settings.host as HostChoice, sysRoot: "/sys", devRoot: "/dev" },
    ...{ observer, poll: pollSet },
  });
  if (chosen.error) throw new CannotStart(`${chosen.error.what}: ${chosen.error.why}. Next: ${chosen.error.next}`);
  if (chosen.host.backend === "SIMULATED") {
    log.write("host.simulated", { why: chosen.reason }, "SIMULATED HOST: every device is made of memory; nothing here is real hardware");
  }

  const grpc = makeSocket(config, "stream", settings.socket);
  let channel: ListeningSocket;
  try {
    channel = makeSocket(config, "seqpacket", `${settings.socket}.channel`);
  } catch (error) {
    grpc.unlink();
    throw error;
  }
  const daemon = compose({
    ...{ config, load, log, version, host: chosen.host, backendReason: chosen.reason },
    ...{ observer, pollSet, sockets: { grpc, channel }, peerCapabilities: capabilities },
  });
  const stopped = stopSignal();
  hangup.act = () => daemon.reload();
  const started = await daemon.start().catch((error: unknown) => {
    grpc.unlink();
    channel.unlink();
    throw error;
  });
  if (started.problem) {
    await daemon.stop();
    throw new CannotStart(started.problem);
  }
  const fields = { socket: settings.socket, backend: chosen.host.backend, why: chosen.reason, metrics: started.metricsAddress ?? "off" };
  log.write("daemon.ready", fields, "apertured is ready");
  const signal = await stopped;
  log.write("daemon.stopping", { signal }, "apertured is stopping");
  await daemon.stop();
  log.flush();
  log.write("daemon.stopped", {}, "apertured has stopped");
  return 0;
}

function makeSocket(config: Config, type: "stream" | "seqpacket", path: string): ListeningSocket {
  const { settings } = config;
  // Only the default folder is made: a path that was named must be right.
  const directory = dirname(path);
  if (
    directory === "/run/aperture" ||
    /^\/tmp\/aperture-\d+$/.test(directory) ||
    directory === `${process.env["XDG_RUNTIME_DIR"]}/aperture`
  ) {
    mkdirSync(directory, { recursive: true, mode: 0o755 });
  }
  const made = listenAt({ path, type, mode: Number.parseInt(settings.socket_mode, 8), gid: groupId(settings.socket_group) });
  if (made.problem !== null) throw new CannotStart(made.problem);
  return made.socket;
}

function groupId(group: string): number {
  if (group === "") return -1;
  if (/^\d+$/.test(group)) return Number(group);
  for (const line of readFileSync("/etc/group", "utf8").split("\n")) {
    const [name, , id] = line.split(":");
    if (name === group && id) return Number(id);
  }
  throw new CannotStart(`socket_group: there is no group "${group}" in /etc/group`);
}

function stopSignal(): Promise<string> {
  return new Promise((resolve) => {
    // For good, not once: Ctrl-C under npm start comes twice, from the terminal and from npm, and the second must not cut the stop short.
    for (const signal of ["SIGTERM", "SIGINT"] as const) process.on(signal, () => resolve(signal));
  });
}

// A fault that nobody caught leaves the book in an unknown state: say so and end. What clients hold stays theirs.
process.on("uncaughtException", (error) => {
  new Log("error", stderrLines(native.isWritable)).fault("uncaught exception", error);
  process.exit(1);
});

main().then(
  (status) => process.exit(status),
  (error: unknown) => {
    if (error instanceof CannotStart) process.stderr.write(`apertured: ${error.message}\n`);
    else new Log("error", stderrLines(native.isWritable)).fault("start", error);
    process.exit(1);
  },
);
