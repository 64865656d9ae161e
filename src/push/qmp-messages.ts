// QMP as bytes (QEMU's docs/interop/qmp-spec): JSON objects one after the other, on one line each or, from a monitor with pretty=on, on many. Pure. The other side is a
// socket that somebody named on a command line, so nothing of it is believed before it has been looked at.

import { PushError } from "./errors.js";

/** QEMU's longest answers, of commands that are never sent here, are some hundred KiB. */
const LONGEST_MESSAGE = 1 << 20;

export interface QemuVersion {
  readonly major: number;
  readonly minor: number;
  readonly micro: number;
}

export type QmpMessage =
  | { readonly type: "greeting"; readonly version: QemuVersion }
  | { readonly type: "return"; readonly id: unknown; readonly value: unknown }
  | { readonly type: "error"; readonly id: unknown; readonly class: string; readonly description: string }
  | { readonly type: "event"; readonly name: string; readonly data: Readonly<Record<string, unknown>> };

const BRACE_OPEN = 0x7b;
const BRACE_CLOSE = 0x7d;
const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const SPACE: ReadonlySet<number> = new Set([0x20, 0x09, 0x0a, 0x0d]);

/** Cuts a stream of bytes into JSON objects. */
export class QmpSplitter {
  #parts: Buffer[] = [];
  #length = 0;
  #depth = 0;
  #inString = false;
  #escaped = false;

  /** The objects that these bytes complete. Throws PushError VMM_PROTOCOL for what can be no object, and for one that is too long. */
  push(bytes: Buffer): readonly string[] {
    const whole: string[] = [];
    let begin = 0;
    for (let at = 0; at < bytes.length; at++) {
      const byte = bytes[at] ?? 0;
      if (this.#depth === 0) {
        begin = at;
        if (SPACE.has(byte)) continue;
        if (byte !== BRACE_OPEN) throw notQmp(bytes.subarray(at));
        this.#depth = 1;
      } else if (this.#inString) {
        if (this.#escaped) this.#escaped = false;
        else if (byte === BACKSLASH) this.#escaped = true;
        else if (byte === QUOTE) this.#inString = false;
      } else if (byte === QUOTE) {
        this.#inString = true;
      } else if (byte === BRACE_OPEN) {
        this.#depth += 1;
      } else if (byte === BRACE_CLOSE) {
        this.#depth -= 1;
        if (this.#depth === 0) whole.push(this.#take(bytes.subarray(begin, at + 1)));
      }
    }
    if (this.#depth > 0) this.#keep(bytes.subarray(begin));
    return whole;
  }

  #keep(bytes: Buffer): void {
    this.#length += bytes.length;
    if (this.#length > LONGEST_MESSAGE)
      throw new PushError("VMM_PROTOCOL", `the VMM's socket sent a message of more than ${LONGEST_MESSAGE} bytes, which QMP never does`);
    this.#parts.push(Buffer.from(bytes));
  }

  #take(last: Buffer): string {
    this.#keep(last);
    const text = Buffer.concat(this.#parts).toString("utf8");
    this.#parts = [];
    this.#length = 0;
    return text;
  }
}

/** Reads one object. Throws PushError VMM_PROTOCOL. */
export function parseQmp(text: string): QmpMessage {
  const message = object(json(text));
  if (message === null) throw notQmp(Buffer.from(text));
  if ("QMP" in message) return { type: "greeting", version: version(message["QMP"], text) };
  if ("event" in message) {
    if (typeof message["event"] !== "string") throw notQmp(Buffer.from(text));
    return { type: "event", name: message["event"], data: object(message["data"]) ?? {} };
  }
  if ("return" in message) return { type: "return", id: message["id"], value: message["return"] };
  const error = object(message["error"]);
  if (error === null) throw notQmp(Buffer.from(text));
  return { type: "error", id: message["id"], class: String(error["class"]), description: String(error["desc"]) };
}

function version(greeting: unknown, text: string): QemuVersion {
  const { major, minor, micro } = object(object(object(greeting)?.["version"])?.["qemu"]) ?? {};
  if (typeof major !== "number" || typeof minor !== "number" || typeof micro !== "number") throw notQmp(Buffer.from(text));
  return { major, minor, micro };
}

function json(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

function object(value: unknown): Readonly<Record<string, unknown>> | null {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Readonly<Record<string, unknown>>) : null;
}

function notQmp(bytes: Buffer): PushError {
  const seen = JSON.stringify(bytes.subarray(0, 40).toString("latin1"));
  return new PushError("VMM_PROTOCOL", `what the VMM's socket sent is no QMP: ${seen}`, "name the socket that QEMU was given with -qmp");
}
