// A client process that does what the test says: test/lab/clients/holder.ts from the other side of its pipes.

import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { Lines } from "./lines.js";

const PROGRAM = fileURLToPath(new URL("../lab/clients/holder.js", import.meta.url));

export type Answer = { readonly ok: boolean } & Readonly<Record<string, unknown>>;

export class HolderProcess {
  static readonly #running = new Set<HolderProcess>();
  readonly #child: ChildProcessWithoutNullStreams;
  readonly #lines: Lines;

  private constructor(child: ChildProcessWithoutNullStreams) {
    this.#child = child;
    this.#lines = new Lines(child.stdout);
    HolderProcess.#running.add(this);
    child.once("exit", () => HolderProcess.#running.delete(this));
  }

  /** For afterEach: a failed test must not leave clients that keep the test process, and devices, busy. */
  static async killAll(): Promise<void> {
    for (const holder of HolderProcess.#running) await holder.kill();
  }

  /** uid null: the test's own user. under: the command that runs it, normally this very Node. */
  static async start(socket: string, uid: number | null = null, under: readonly string[] = [process.execPath]): Promise<HolderProcess> {
    const env: NodeJS.ProcessEnv = { ...process.env };
    delete env["NODE_TEST_CONTEXT"];
    const identity = uid === null ? {} : { uid, gid: uid };
    const [command = process.execPath, ...before] = under;
    const words = [...before, "--enable-source-maps", PROGRAM, socket];
    const child = spawn(command, words, { stdio: ["pipe", "pipe", "pipe"], env, ...identity });
    child.stderr.pipe(process.stderr);
    const holder = new HolderProcess(child);
    const first = await holder.#answer();
    if (!first.ok) throw new Error(`the holder could not connect: ${JSON.stringify(first)}`);
    return holder;
  }

  get running(): boolean {
    return this.#child.exitCode === null && this.#child.signalCode === null;
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

  /** SIGKILL, and waits for the end. */
  async kill(): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.gone();
  }

  /** Ends it without releasing anything. */
  async exit(): Promise<void> {
    this.#child.stdin.write("exit\n");
    await this.gone();
  }

  async gone(): Promise<void> {
    if (this.running) await once(this.#child, "exit");
  }

  async #answer(): Promise<Answer> {
    const line = await this.#lines.next(120_000);
    if (line === null) throw new Error("the holder has ended");
    return JSON.parse(line) as Answer;
  }
}
