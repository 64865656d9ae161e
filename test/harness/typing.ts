// Completion as a person meets it: a shell on a terminal, a line begun, TAB.

import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { CLI } from "./cli.js";
import { TerminalProcess } from "./terminal.js";

export class TypingShell {
  readonly terminal: TerminalProcess;
  readonly #folder: string;

  /** start: lines typed first; the last thing that they show is `prompt-ready`. */
  constructor(socket: string, command: readonly string[], start: string) {
    this.#folder = mkdtempSync(join(tmpdir(), "aperture-typing-"));
    const program = join(this.#folder, "aperturectl");
    writeFileSync(program, `#!/bin/sh\nexec '${process.execPath}' '${CLI}' "$@"\n`);
    chmodSync(program, 0o755);
    const env = {
      APERTURE_SOCKET: socket,
      PATH: `${this.#folder}:${process.env["PATH"] ?? ""}`,
      HOME: this.#folder,
      PS1: "% ",
      TERM: "xterm",
    };
    this.terminal = new TerminalProcess(200, command, env);
    this.terminal.type(`${start}\necho prompt-"ready"\n`);
  }

  async ready(): Promise<void> {
    await this.terminal.see(/prompt-ready\r?\n/);
  }

  /** Types a line with TABs in it and runs it; what it prints is what the line had become. The line begins with `echo` or the like. */
  async becomes(line: string, pattern: RegExp): Promise<void> {
    this.terminal.type(line);
    await this.terminal.see(pattern);
    // Empties the line.
    this.terminal.type("\x15");
  }

  close(): void {
    this.terminal.kill();
    rmSync(this.#folder, { recursive: true, force: true });
  }
}
