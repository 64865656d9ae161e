// Lines of a child's output, one after the other, with a deadline for each.

import type { Readable } from "node:stream";

export class Lines {
  readonly #lines: string[] = [];
  readonly #waiting: ((line: string | null) => void)[] = [];
  readonly all: string[] = [];
  readonly #stream: Readable;
  #rest = "";
  #over = false;

  constructor(stream: Readable) {
    this.#stream = stream;
    stream.setEncoding("utf8");
    stream.on("data", (chunk: string) => {
      const parts = (this.#rest + chunk).split("\n");
      this.#rest = parts.pop() ?? "";
      for (const line of parts) this.#push(line);
    });
    stream.on("close", () => {
      this.#over = true;
      for (const waiting of this.#waiting.splice(0)) waiting(null);
    });
  }

  /** The next line; null when the stream has ended; an error after the deadline. */
  async next(deadlineMs = 30_000): Promise<string | null> {
    const ready = this.#lines.shift();
    if (ready !== undefined) return ready;
    if (this.#over) return null;
    return await new Promise<string | null>((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#waiting.splice(this.#waiting.indexOf(take), 1);
        reject(new Error(`no line within ${deadlineMs} ms; so far:\n${this.all.join("\n")}`));
      }, deadlineMs);
      const take = (line: string | null): void => {
        clearTimeout(timer);
        resolve(line);
      };
      this.#waiting.push(take);
    });
  }

  /** Reads no more: the pipe fills. */
  pause(): void {
    this.#stream.pause();
  }

  resume(): void {
    this.#stream.resume();
  }

  #push(line: string): void {
    this.all.push(line);
    const waiting = this.#waiting.shift();
    if (waiting) waiting(line);
    else this.#lines.push(line);
  }
}
