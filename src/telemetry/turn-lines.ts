// Log lines on their way to stderr: those of one turn of the event loop are made and written at its end, in one write, which never waits. A lease is a few lines, and a system call
// for each, or a thread that is woken for it, costs more than making them; and a client waits for its lease, not for the line about it. A reader that does not read must not
// stop the daemon: what the kernel has no room for waits here, up to a bound, and what comes beyond that is left out and counted.

import { writeSync } from "node:fs";

/** POLLOUT of a pipe promises room for PIPE_BUF bytes (pipe(7)): a write of no more does not block. */
const PIPE_BUF = 4096;
const AGAIN_MS = 10;
/** Characters; lines are ASCII. */
const MOST_WAITING = 1024 * 1024;

export interface LineSink {
  /** Whether a write of PIPE_BUF bytes would not block. */
  isWritable(): boolean;
  /** write(2): how many bytes were taken. */
  write(bytes: Buffer): number;
}

export class TurnLines {
  readonly #sink: LineSink;
  #unmade: (() => void)[] = [];
  #waiting = "";
  #scheduled = false;
  #dropped = 0;

  constructor(sink: LineSink) {
    this.#sink = sink;
  }

  /** Lines left out. */
  get dropped(): number {
    return this.#dropped;
  }

  write(line: string): void {
    if (this.#waiting.length + line.length > MOST_WAITING) {
      this.#dropped += 1;
      return;
    }
    this.#waiting += line;
    this.#schedule();
  }

  /** make: writes a line, at the end of this turn. Lines come in the order in which they were asked for. */
  later(make: () => void): void {
    this.#unmade.push(make);
    this.#schedule();
  }

  #schedule(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    setImmediate(() => this.flush());
  }

  /** Writes what there is room for, now. */
  flush(): void {
    this.#scheduled = true;
    // It grows when making a line asks for another.
    for (const make of this.#unmade) make();
    this.#unmade = [];
    this.#scheduled = false;
    let bytes = Buffer.from(this.#waiting, "latin1");
    try {
      while (bytes.length > 0 && this.#sink.isWritable()) bytes = bytes.subarray(this.#sink.write(bytes.subarray(0, PIPE_BUF)));
    } catch (error) {
      // EAGAIN: somebody else made it non-blocking and has just filled it. Anything else (EPIPE: the reader is gone) will not get better.
      if ((error as NodeJS.ErrnoException).code !== "EAGAIN") bytes = Buffer.alloc(0);
    }
    this.#waiting = bytes.toString("latin1");
    if (bytes.length === 0 || this.#scheduled) return;
    this.#scheduled = true;
    setTimeout(() => this.flush(), AGAIN_MS).unref();
  }
}

/** For a process: what a turn leaves is written when it exits, as far as there is room. */
export function stderrLines(isWritable: (fd: number) => boolean): TurnLines {
  const lines = new TurnLines({ isWritable: () => isWritable(2), write: (bytes) => writeSync(2, bytes) });
  process.on("exit", () => lines.flush());
  return lines;
}
