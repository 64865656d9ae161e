// Servers and clients of a case: processes of their own, each on its processor.

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, openSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { Lines } from "../../harness/lines.js";
import { type Figures, NotMeasured } from "./case.js";
import { pinned } from "./processors.js";

/** A file of test/bench/programs, compiled. */
export function program(name: string): readonly string[] {
  return [process.execPath, "--enable-source-maps", fileURLToPath(new URL(`../programs/${name}.js`, import.meta.url))];
}

/** Exit status of a baseline for which this machine, or this daemon, lacks something. */
const CANNOT = 77;

const PATIENCE_MS = 120_000;

/** stderr goes to a file where one is named, so that who reads it takes nobody's time. */
function started(command: readonly string[], cpu: number | null, log: string | null = null): ChildProcess {
  const [file = "", ...args] = [...(cpu === null ? [] : pinned(cpu)), ...command];
  const env: NodeJS.ProcessEnv = { ...process.env };
  delete env["NODE_OPTIONS"];
  const stderr = log === null ? null : openSync(log, "w");
  try {
    return spawn(file, args, { stdio: ["ignore", "pipe", stderr ?? "pipe"], env });
  } finally {
    if (stderr !== null) closeSync(stderr);
  }
}

function keep(child: ChildProcess): () => string {
  let text = "";
  child.stderr?.setEncoding("utf8").on("data", (chunk: string) => {
    text = (text + chunk).slice(-8000);
  });
  return () => text;
}

export class Server {
  static readonly #running = new Set<Server>();
  readonly #child: ChildProcess;
  readonly #stderr: () => string;
  /** What stands behind READY. */
  readonly told: string;

  private constructor(child: ChildProcess, stderr: () => string, told: string) {
    this.#child = child;
    this.#stderr = stderr;
    this.told = told;
    Server.#running.add(this);
  }

  /** Waits for its line READY on stdout. */
  static async start(command: readonly string[], cpu: number | null, log: string | null = null): Promise<Server> {
    const child = started(command, cpu, log);
    const stderr = log === null ? keep(child) : () => complaints(readFileSync(log, "utf8"));
    if (child.stdout === null) throw new Error("no stdout");
    const lines = new Lines(child.stdout);
    for (;;) {
      const line = await lines.next(PATIENCE_MS);
      if (line === null) throw new Error(`${command.join(" ")} ended before it was ready:\n${stderr()}`);
      if (line.startsWith("READY")) return new Server(child, stderr, line.slice("READY".length).trim());
    }
  }

  /** For the end of a run that failed. */
  static killAll(): void {
    for (const server of Server.#running) server.#child.kill("SIGKILL");
  }

  get pid(): number {
    return this.#child.pid ?? -1;
  }

  /** Resident bytes now. */
  residentBytes(): number {
    return residentBytes(this.pid);
  }

  /** A server that has ended by itself, or complained on stderr, has failed. */
  async stop(): Promise<void> {
    Server.#running.delete(this);
    const early = this.#child.exitCode !== null || this.#child.signalCode !== null;
    if (early) throw new Error(`a server ended by itself (${this.#child.exitCode ?? this.#child.signalCode}):\n${this.#stderr()}`);
    this.#child.kill("SIGTERM");
    await once(this.#child, "exit");
    if (this.#stderr() !== "") throw new Error(`a server complained:\n${this.#stderr()}`);
  }

  /** For one whose end says nothing of what was measured. */
  async kill(): Promise<void> {
    Server.#running.delete(this);
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const exit = once(this.#child, "exit");
    this.#child.kill("SIGKILL");
    await exit;
  }
}

/** What a daemon's log has that it should not have. A client that was faster than its own acknowledgement is told to ask again, which is no complaint. */
function complaints(log: string): string {
  const records = log.split("\n").filter((line) => line !== "" && !/"level":"(trace|debug|info)"/.test(line));
  return records.filter((line) => !line.includes('"event":"log.suppressed"') && !line.includes("HANDOVER_PENDING")).join("\n");
}

export function residentBytes(pid: number): number {
  return 1024 * Number(/^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1] ?? Number.NaN);
}

/** Runs a program that prints one line of JSON, and gives its numbers. */
export async function measured(command: readonly string[], cpu: number | null): Promise<Figures> {
  const child = started(command, cpu);
  const stderr = keep(child);
  let out = "";
  child.stdout?.setEncoding("utf8").on("data", (chunk: string) => {
    out += chunk;
  });
  const [status, signal] = (await once(child, "close")) as [number | null, NodeJS.Signals | null];
  if (status === CANNOT) throw new NotMeasured(stderr().trim());
  if (status !== 0) throw new Error(`${command.join(" ")} ended with ${status ?? signal}:\n${stderr()}`);
  const line = out.trim().split("\n").at(-1) ?? "";
  const figures = JSON.parse(line) as Figures;
  for (const [name, value] of Object.entries(figures))
    if (typeof value !== "number" || !Number.isFinite(value)) throw new Error(`${command.join(" ")}: ${name} is ${value}`);
  return figures;
}
