// A real daemon in a process of its own, for tests that look at it from outside.

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { descriptorsOf, settlesAt } from "./descriptors.js";
import { Lines } from "./lines.js";

const MAIN = fileURLToPath(new URL("../../src/daemon/launch.js", import.meta.url));
const PACKAGE = new URL("../../../package.json", import.meta.url);
const { config } = JSON.parse(readFileSync(PACKAGE, "utf8")) as { readonly config: { readonly daemon_node_flags: string } };

/** Node's flags that the daemon runs with. */
export const NODE_FLAGS: readonly string[] = config.daemon_node_flags.split(" ");
/** The command that `apertured` stands for. */
export const DAEMON: readonly string[] = [process.execPath, ...NODE_FLAGS, MAIN];

export interface DaemonOptions {
  readonly host?: "auto" | "iommufd" | "legacy" | "simulated";
  /** TOML that stands before the tables: further settings, then [limits] and [[policy]]. */
  readonly config?: string;
  /** Runs the daemon under this command, for limits: for example ["prlimit", "--nofile=100"]. */
  readonly under?: readonly string[];
  /** Further flags; they are stronger than the file. */
  readonly flags?: readonly string[];
  /** Default 0666, so that every user of a test can connect. */
  readonly socketMode?: string;
}

export interface LogRecord {
  readonly level: string;
  readonly event: string;
  readonly fields: Readonly<Record<string, unknown>>;
  readonly message: string;
}

export interface Ended {
  readonly status: number | null;
  readonly stderr: string;
}

/** A folder that the daemon accepts for its sockets and every user may reach. */
export function socketFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "aperture-test-"));
  chmodSync(folder, 0o755);
  return folder;
}

export function daemonEnvironment(): NodeJS.ProcessEnv {
  const env: NodeJS.ProcessEnv = { ...process.env };
  // Set by node:test for its own children; the daemon is none.
  delete env["NODE_TEST_CONTEXT"];
  delete env["APERTURE_SOCKET"];
  delete env["APERTURE_CONFIG"];
  return env;
}

export class DaemonProcess {
  readonly #child: ChildProcess;
  readonly #folder: string;
  readonly #ownsFolder: boolean;
  readonly log: Lines;
  readonly socket: string;
  /** Set when ready: the descriptors of the daemon with nobody connected. */
  baseline: readonly string[] = [];
  metricsAddress = "";

  private constructor(child: ChildProcess, folder: string, ownsFolder: boolean, log: Lines) {
    this.#child = child;
    this.#folder = folder;
    this.#ownsFolder = ownsFolder;
    this.log = log;
    this.socket = join(folder, "a.sock");
  }

  /** Starts the process and returns at once; see start() and ended(). */
  static spawn(options: DaemonOptions = {}, folder = socketFolder(), ownsFolder = true): DaemonProcess {
    const file = join(folder, "aperture.toml");
    const head = `host = "${options.host ?? "simulated"}"\nsocket = "${join(folder, "a.sock")}"\nsocket_mode = "${options.socketMode ?? "0666"}"\nmetrics.listen = "127.0.0.1:0"\nlog.level = "debug"\n`;
    writeFileSync(file, head + (options.config ?? ""));
    const [command = process.execPath, ...args] = [...(options.under ?? []), ...DAEMON, "--config", file, ...(options.flags ?? [])];
    const child = spawn(command, args, { stdio: ["ignore", "ignore", "pipe"], env: daemonEnvironment() });
    if (!child.stderr) throw new Error("no stderr");
    return new DaemonProcess(child, folder, ownsFolder, new Lines(child.stderr));
  }

  /** Starts it and waits until it serves. */
  static async start(options: DaemonOptions = {}, folder = socketFolder(), ownsFolder = true): Promise<DaemonProcess> {
    const daemon = DaemonProcess.spawn(options, folder, ownsFolder);
    const ready = await daemon.event("daemon.ready", 60_000);
    daemon.metricsAddress = String(ready.fields["metrics"]);
    daemon.baseline = descriptorsOf(daemon.pid);
    return daemon;
  }

  get pid(): number {
    return this.#child.pid ?? -1;
  }

  get folder(): string {
    return this.#folder;
  }

  /** Waits for a log record with this event (and, if given, these fields). */
  async event(name: string, deadlineMs = 30_000, matches: (record: LogRecord) => boolean = () => true): Promise<LogRecord> {
    const deadline = performance.now() + deadlineMs;
    for (;;) {
      const line = await this.log.next(Math.max(1, deadline - performance.now()));
      if (line === null) throw new Error(`the daemon ended before ${name}:\n${this.log.all.join("\n")}`);
      const record = parse(line);
      if (record?.event === name && matches(record)) return record;
    }
  }

  /** Every record so far. */
  records(): readonly LogRecord[] {
    return this.log.all.flatMap((line) => parse(line) ?? []);
  }

  async metrics(): Promise<string> {
    return await (await fetch(`${this.metricsAddress}/metrics`, { headers: { connection: "close" } })).text();
  }

  /** Takes what is open now as the state to come back to: for a test that keeps a connection of its own. */
  rebase(): void {
    this.baseline = descriptorsOf(this.pid);
  }

  /** The daemon has exactly the descriptors that it had when it became ready, and has met no fault. */
  async isAsBefore(): Promise<void> {
    await settlesAt(this.pid, this.baseline);
    const faults = this.records().filter((record) => record.event === "daemon.fault");
    if (faults.length > 0) throw new Error(`faults of the daemon: ${JSON.stringify(faults)}`);
  }

  signal(name: NodeJS.Signals): void {
    this.#child.kill(name);
  }

  async ended(): Promise<Ended> {
    if (this.#child.exitCode === null && this.#child.signalCode === null) await once(this.#child, "close");
    return { status: this.#child.exitCode, stderr: this.log.all.join("\n") };
  }

  /** Stops it, and fails when it does not stop well. */
  async stop(): Promise<void> {
    this.signal("SIGTERM");
    const { status, stderr } = await this.ended();
    if (this.#ownsFolder) rmSync(this.#folder, { recursive: true, force: true });
    if (status !== 0) throw new Error(`the daemon ended with ${status}:\n${stderr}`);
  }
}

function parse(line: string): LogRecord | null {
  try {
    return JSON.parse(line) as LogRecord;
  } catch {
    return null;
  }
}
