// A command on a terminal of its own (terminal.py): what a person types and sees.

import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";

// Compiled files lie beside no .py: it is read where it was written.
const PROGRAM = fileURLToPath(new URL("../../../test/harness/terminal.py", import.meta.url));

export class TerminalProcess {
  readonly #child: ChildProcessWithoutNullStreams;
  #shown = "";
  #read = 0;
  #wake: () => void = () => undefined;

  constructor(columns: number, command: readonly string[], env: Readonly<Record<string, string>> = {}) {
    const all: NodeJS.ProcessEnv = { ...process.env, TERM: "xterm", LC_ALL: "C.UTF-8", ...env };
    for (const name of ["NODE_TEST_CONTEXT", "APERTURE_SOCKET", "COLUMNS", "NO_COLOR"]) if (!(name in env)) delete all[name];
    this.#child = spawn("python3", [PROGRAM, String(columns), "50", ...command], { env: all });
    this.#child.stdout.setEncoding("utf8");
    this.#child.stdout.on("data", (chunk: string) => {
      this.#shown += chunk;
      this.#wake();
    });
    this.#child.on("close", () => this.#wake());
  }

  /** Everything so far. */
  get shown(): string {
    return this.#shown;
  }

  type(text: string): void {
    this.#child.stdin.write(text);
  }

  /** Waits for text that matches, after what was waited for before. */
  async see(pattern: RegExp, deadlineMs = 60_000): Promise<RegExpExecArray> {
    const deadline = performance.now() + deadlineMs;
    for (;;) {
      const match = new RegExp(pattern, pattern.flags.replace("g", "")).exec(this.#shown.slice(this.#read));
      if (match !== null) {
        this.#read += match.index + match[0].length;
        return match;
      }
      const left = deadline - performance.now();
      if (left <= 0 || this.#child.exitCode !== null) throw new Error(`${pattern} was not shown:\n${JSON.stringify(this.#shown)}`);
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, left);
        this.#wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
  }

  async ended(): Promise<number | null> {
    if (this.#child.exitCode === null) await once(this.#child, "close");
    return this.#child.exitCode;
  }

  kill(): void {
    this.#child.kill("SIGKILL");
  }
}
