// A process of test/harness/raw-client.ts, from the other side of its pipes.

import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { Lines } from "./lines.js";

const PROGRAM = fileURLToPath(new URL("raw-client.js", import.meta.url));

export type ClientAnswer = { readonly ok: boolean } & Readonly<Record<string, unknown>>;

export class ClientProcess {
  static readonly #running = new Set<ClientProcess>();
  readonly #child: ChildProcessWithoutNullStreams;
  readonly #lines: Lines;

  private constructor(child: ChildProcessWithoutNullStreams) {
    this.#child = child;
    this.#lines = new Lines(child.stdout);
    ClientProcess.#running.add(this);
    child.once("exit", () => ClientProcess.#running.delete(this));
  }

  /** For afterEach. */
  static async killAll(): Promise<void> {
    for (const client of ClientProcess.#running) await client.kill();
  }

  /** uid null: the test's own user. */
  static async start(socket: string, uid: number | null = null): Promise<ClientProcess> {
    const identity = uid === null ? {} : { uid, gid: uid };
    const child = spawn(process.execPath, [PROGRAM, socket], { stdio: ["pipe", "pipe", "pipe"], ...identity });
    child.stderr.pipe(process.stderr);
    const client = new ClientProcess(child);
    await client.#answer("start");
    return client;
  }

  get pid(): number {
    return this.#child.pid ?? -1;
  }

  /** Says a line; its answer must be ok. */
  async must(line: string): Promise<ClientAnswer> {
    this.#child.stdin.write(`${line}\n`);
    return await this.#answer(line);
  }

  signal(name: NodeJS.Signals): void {
    this.#child.kill(name);
  }

  async kill(): Promise<void> {
    this.#child.kill("SIGKILL");
    if (this.#child.exitCode === null && this.#child.signalCode === null) await once(this.#child, "exit");
  }

  async #answer(line: string): Promise<ClientAnswer> {
    const text = await this.#lines.next();
    if (text === null) throw new Error(`${line}: the client has ended`);
    const answer = JSON.parse(text) as ClientAnswer;
    if (!answer.ok) throw new Error(`${line}: ${String(answer["message"])}`);
    return answer;
  }
}
