// Drives a holder (holder.ts) from a test: a real process, of another user if wanted.

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

/** One answer of the holder; `ok` tells whether the line was done, the other fields are those that holder.ts lists. */
export type HolderAnswer = { readonly ok: boolean } & Readonly<Record<string, unknown>>;

export interface HolderUser {
  readonly uid: number;
  readonly gid: number;
}

export class HolderProcess {
  readonly #child: ChildProcess;
  readonly #answers: AsyncIterator<string>;

  private constructor(child: ChildProcess, answers: AsyncIterator<string>) {
    this.#child = child;
    this.#answers = answers;
  }

  /** Starts a holder and waits until it has reached the daemon. user: needs root. Throws with the holder's words when it has not. */
  static async start(socket: string, user: HolderUser | null = null): Promise<HolderProcess> {
    const script = fileURLToPath(new URL("holder.js", import.meta.url));
    const child = spawn(process.execPath, [script, socket], { stdio: ["pipe", "pipe", "inherit"], ...(user ?? {}) });
    const holder = new HolderProcess(child, createInterface({ input: child.stdout })[Symbol.asyncIterator]());
    const hello = await holder.#answer();
    if (!hello.ok) throw new Error(`the holder cannot start: ${JSON.stringify(hello)}`);
    return holder;
  }

  get pid(): number {
    return this.#child.pid ?? -1;
  }

  /** Says one line and waits for its answer. */
  async ask(line: string): Promise<HolderAnswer> {
    this.#child.stdin?.write(`${line}\n`);
    return await this.#answer();
  }

  /** ask(), where anything but success is the test's failure. */
  async must(line: string): Promise<HolderAnswer> {
    const answer = await this.ask(line);
    if (!answer.ok) throw new Error(`holder: ${line}: ${JSON.stringify(answer)}`);
    return answer;
  }

  /** Sends the signal and waits for the process's end. Harmless when it has ended. */
  async kill(signal: NodeJS.Signals = "SIGKILL"): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const exited = once(this.#child, "exit");
    this.#child.kill(signal);
    await exited;
  }

  async #answer(): Promise<HolderAnswer> {
    const { value, done } = await this.#answers.next();
    if (done === true) throw new Error(`the holder has ended (exit status ${this.#child.exitCode}, signal ${this.#child.signalCode})`);
    return JSON.parse(value) as HolderAnswer;
  }
}
