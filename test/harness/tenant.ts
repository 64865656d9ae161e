// A client process in C that does what the test says: test/lab/clients/tenant.c from the other side of its pipes.

import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process";
import { once } from "node:events";
import { cProgram } from "./c-programs.js";
import { Lines } from "./lines.js";

export type Answer = { readonly ok: boolean } & Readonly<Record<string, unknown>>;

export interface TenantOptions {
  /** Needs root. null: the test's own user. */
  readonly uid?: number | null;
  /** Runs it under this command, for limits: for example ["prlimit", "--nofile=8"]. */
  readonly under?: readonly string[];
}

export class TenantProcess {
  static readonly #running = new Set<TenantProcess>();
  readonly #child: ChildProcessWithoutNullStreams;
  readonly #lines: Lines;

  private constructor(child: ChildProcessWithoutNullStreams) {
    this.#child = child;
    this.#lines = new Lines(child.stdout);
    TenantProcess.#running.add(this);
    child.once("exit", () => TenantProcess.#running.delete(this));
  }

  /** For afterEach. */
  static async killAll(): Promise<void> {
    for (const tenant of TenantProcess.#running) await tenant.kill();
  }

  /** Starts it, with its channel attached. */
  static async start(socket: string, options: TenantOptions = {}): Promise<TenantProcess> {
    const { uid = null, under = [] } = options;
    const [command = "", ...args] = [...under, cProgram("tenant"), socket];
    const identity = uid === null ? {} : { uid, gid: uid };
    const child = spawn(command, args, { stdio: ["pipe", "pipe", "pipe"], ...identity });
    child.stderr.pipe(process.stderr);
    const tenant = new TenantProcess(child);
    const first = await tenant.#answer();
    if (!first.ok) throw new Error(`the tenant could not attach: ${JSON.stringify(first)}`);
    return tenant;
  }

  get pid(): number {
    return this.#child.pid ?? -1;
  }

  /** Says a line, returns the answer, whatever it is. */
  async say(line: string): Promise<Answer> {
    this.#child.stdin.write(`${line}\n`);
    return await this.#answer();
  }

  /** Says a line whose answer must be ok. */
  async must(line: string): Promise<Answer> {
    const answer = await this.say(line);
    if (!answer.ok) throw new Error(`${line}: ${JSON.stringify(answer)}`);
    return answer;
  }

  async kill(): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.#gone();
  }

  /** Ends it with whatever it holds. */
  async exit(): Promise<void> {
    this.#child.stdin.write("exit\n");
    await this.#gone();
  }

  async #gone(): Promise<void> {
    if (this.#child.exitCode === null && this.#child.signalCode === null) await once(this.#child, "exit");
  }

  async #answer(): Promise<Answer> {
    const line = await this.#lines.next(120_000);
    if (line === null) throw new Error("the tenant has ended");
    return JSON.parse(line) as Answer;
  }
}
