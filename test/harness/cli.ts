// aperturectl as a process of its own.

import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process";
import { once } from "node:events";
import { constants } from "node:os";
import { text } from "node:stream/consumers";
import { fileURLToPath } from "node:url";
import { Lines } from "./lines.js";

export const CLI = fileURLToPath(new URL("../../src/cli/main.js", import.meta.url));

export interface CliOptions {
  readonly env?: Readonly<Record<string, string>>;
  readonly uid?: number;
  /** What it reads on stdin. */
  readonly input?: string;
}

export interface CliResult {
  /** 128 + N when signal N ended it. */
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

function environment(env: Readonly<Record<string, string>> = {}): NodeJS.ProcessEnv {
  const all: NodeJS.ProcessEnv = { ...process.env, ...env };
  for (const name of ["NODE_TEST_CONTEXT", "APERTURE_SOCKET", "COLUMNS"]) if (!(name in env)) delete all[name];
  return all;
}

/** Runs it to its end; ended by force after 60 s. */
export async function aperturectl(socket: string, args: readonly string[], options: CliOptions = {}): Promise<CliResult> {
  const identity = options.uid === undefined ? {} : { uid: options.uid, gid: options.uid };
  const child = spawn(process.execPath, [CLI, "--socket", socket, ...args], {
    ...{ env: environment(options.env), timeout: 60_000, killSignal: "SIGKILL", ...identity },
  });
  child.stdin.on("error", () => undefined);
  child.stdin.end(options.input ?? "");
  const [out, err, [code, signal]] = await Promise.all([text(child.stdout), text(child.stderr), once(child, "close")]);
  return { code: (code as number | null) ?? 128 + constants.signals[signal as NodeJS.Signals], out, err };
}

/** One that goes on until it is told to end. */
export class CliProcess {
  static readonly #running = new Set<CliProcess>();
  readonly child: ChildProcessWithoutNullStreams;
  readonly out: Lines;
  readonly err: Lines;

  constructor(socket: string, args: readonly string[], options: CliOptions = {}) {
    this.child = spawn(process.execPath, [CLI, "--socket", socket, ...args], { env: environment(options.env) });
    this.out = new Lines(this.child.stdout);
    this.err = new Lines(this.child.stderr);
    CliProcess.#running.add(this);
    this.child.once("exit", () => CliProcess.#running.delete(this));
  }

  /** For afterEach. */
  static async killAll(): Promise<void> {
    for (const cli of CliProcess.#running) {
      cli.signal("SIGKILL");
      await cli.ended();
    }
  }

  get pid(): number {
    return this.child.pid ?? -1;
  }

  signal(name: NodeJS.Signals): void {
    this.child.kill(name);
  }

  /** The next line of stdout that matches. */
  async line(pattern: RegExp): Promise<string> {
    return await next(this.out, pattern);
  }

  /** The next line of stderr that matches. */
  async message(pattern: RegExp): Promise<string> {
    return await next(this.err, pattern);
  }

  /** Exit status; 128 + N when signal N ended it. */
  async ended(): Promise<number> {
    if (this.child.exitCode === null && this.child.signalCode === null) await once(this.child, "exit");
    return this.child.exitCode ?? 128 + constants.signals[this.child.signalCode ?? "SIGKILL"];
  }
}

async function next(lines: Lines, pattern: RegExp): Promise<string> {
  for (;;) {
    const line = await lines.next(60_000);
    if (line === null) throw new Error(`it ended before ${pattern}:\n${lines.all.join("\n")}`);
    if (pattern.test(line)) return line;
  }
}
