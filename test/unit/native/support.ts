// What the tests of the bridge share: peers in processes of their own, and descriptors counted from outside.

import assert from "node:assert/strict";
import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process";
import { once } from "node:events";
import { chmodSync, mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { SysError, SysResult } from "../../../src/native.js";
import { Lines } from "../../harness/lines.js";
import { until } from "../../harness/until.js";

/** The value, or a failure that shows the error. */
export function must<T>(result: SysResult<T>): T {
  if (result.error) assert.fail(`${result.error.operation} ${result.error.code} ${result.error.subject}`);
  return result.value;
}

/** The error, or a failure that shows the value. */
export function refused<T>(result: SysResult<T>): SysError {
  if (!result.error) assert.fail(`expected an error, got ${String(result.value)}`);
  return result.error;
}

/** A folder that listenUnix accepts, removed after use. */
export async function inFolder(use: (folder: string) => void | Promise<void>): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "aperture-native-"));
  chmodSync(folder, 0o755);
  try {
    await use(folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function descriptors(): string[] {
  return readdirSync("/proc/self/fd").flatMap((number) => {
    try {
      return [`${number} ${readlinkSync(`/proc/self/fd/${number}`)}`];
    } catch {
      return []; // the one that read the folder
    }
  });
}

/** Runs the body; afterwards this process has the same descriptors, number for number. */
export async function leavesNoDescriptor(body: () => void | Promise<void>): Promise<void> {
  // Once before: what the body makes Node itself open (a pipe to its threads, say) is there already then.
  await body();
  const before = descriptors();
  await body();
  await until("descriptors", descriptors, (now) => now.join("\n") === before.join("\n")).catch(() =>
    assert.deepEqual(descriptors(), before),
  );
}

/** Names of the threads of this process, or of another. */
export function threads(pid: number = process.pid): string[] {
  return readdirSync(`/proc/${pid}/task`).flatMap((task) => {
    try {
      return [readFileSync(`/proc/${pid}/task/${task}/comm`, "utf8").trim()];
    } catch {
      return [];
    }
  });
}

export const PEER = fileURLToPath(new URL("./peer.js", import.meta.url));

/** test/unit/native/peer.ts, from the other side of its pipes. */
export class PeerProcess {
  readonly #child: ChildProcessWithoutNullStreams;
  readonly #lines: Lines;

  constructor(uid: number | null = null) {
    const identity = uid === null ? {} : { uid, gid: uid };
    this.#child = spawn(process.execPath, [PEER], { stdio: ["pipe", "pipe", "pipe"], ...identity });
    this.#child.stderr.pipe(process.stderr, { end: false });
    this.#lines = new Lines(this.#child.stdout);
  }

  get pid(): number {
    return this.#child.pid ?? -1;
  }

  async say(command: string, argument = ""): Promise<unknown> {
    this.#child.stdin.write(`${command}\t${argument}\n`);
    const line = await this.#lines.next();
    assert.ok(line !== null, `the peer ended at ${command}`);
    return JSON.parse(line);
  }

  /** Says it, and the answer must be the empty error code. */
  async does(command: string, argument = ""): Promise<void> {
    assert.equal(await this.say(command, argument), "", command);
  }

  async kill(): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.#gone();
  }

  async end(): Promise<void> {
    this.#child.stdin.end();
    await this.#gone();
  }

  async #gone(): Promise<void> {
    if (this.#child.exitCode === null && this.#child.signalCode === null) await once(this.#child, "close");
  }
}

export interface ScriptEnd {
  readonly status: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
}

/** Where a script or worker imports the bridge from. */
export const NATIVE = new URL("../../../src/native.js", import.meta.url).href;

/** A process of its own that runs `body` as a module; `native` is in scope unless it is told to do without. */
export class Script {
  readonly #child: ChildProcessWithoutNullStreams;
  readonly #lines: Lines;

  constructor(body: string, options: { readonly nofile?: number; readonly bare?: boolean } = {}) {
    const source = options.bare ? body : `import { native } from ${JSON.stringify(NATIVE)};\n${body}`;
    const node = [process.execPath, "--expose-gc", "--input-type=module", "-e", source];
    const [command = "", ...args] = options.nofile ? ["sh", "-c", `ulimit -n ${options.nofile}; exec "$0" "$@"`, ...node] : node;
    this.#child = spawn(command, args, { stdio: ["pipe", "pipe", "pipe"] });
    this.#child.stderr.pipe(process.stderr, { end: false });
    this.#lines = new Lines(this.#child.stdout);
  }

  say(line: string): void {
    this.#child.stdin.write(`${line}\n`);
  }

  get pid(): number {
    return this.#child.pid ?? -1;
  }

  async line(): Promise<string | null> {
    return await this.#lines.next();
  }

  async ended(): Promise<ScriptEnd> {
    this.#child.stdin.end();
    if (this.#child.exitCode === null && this.#child.signalCode === null) await once(this.#child, "close");
    return { status: this.#child.exitCode, signal: this.#child.signalCode, stdout: this.#lines.all.join("\n") };
  }
}
