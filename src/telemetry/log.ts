// The log: JSON lines on stderr. An event is a constant name with the fields of its row in events.ts; text of clients only ever appears under a field, escaped and cut,
// because a terminal obeys more characters than JSON escapes (C1 controls, bidirectional overrides).

import { type DestinationStream, type Logger, pino } from "pino";
import { EVENTS, type LogEventName, type LogFields, type LogLevel } from "./events.js";
import { LINE_LIMIT, LineLimit } from "./line-limit.js";
import { currentTrace } from "./trace.js";

const MAX_TEXT = 256;
const MAX_STACK = 4096;

/** Printable ASCII only, at most 256 characters. */
export function safeText(text: string): string {
  const cut = text.length > MAX_TEXT ? `${text.slice(0, MAX_TEXT - 3)}...` : text;
  return cut.replace(/[^\x20-\x7e]/g, "?");
}

type Value = string | number | readonly string[] | { readonly pid: number; readonly uid: number };

function safe(key: string, value: Value): unknown {
  if (typeof value === "string") return key === "stack" ? value.slice(0, MAX_STACK).replace(/[^\x20-\x7e\n]/g, "?") : safeText(value);
  if (typeof value === "number") return value;
  return "pid" in value ? { pid: value.pid, uid: value.uid } : value.map(safeText);
}

function uidOf({ peer }: Readonly<Record<string, Value>>): number {
  return typeof peer === "object" && "uid" in peer ? peer.uid : -1;
}

const timers = (ms: number, callback: () => void): (() => void) => {
  const timer = setTimeout(callback, ms).unref();
  return () => clearTimeout(timer);
};

/** Where lines go. */
export interface LogLines extends DestinationStream {
  /** Lines left out so far. */
  readonly dropped?: number;
  /** Makes a line when nobody waits any more. Without it each is made at once. */
  later?(make: () => void): void;
}

export class Log {
  readonly #pino: Logger;
  readonly #limit: LineLimit;
  readonly #lines: LogLines;
  /** When what the next line tells of happened, milliseconds since the epoch, and the same as text. */
  #time = 0;
  #timeText = "";

  constructor(level: LogLevel, lines: LogLines, after = timers) {
    this.#lines = lines;
    this.#pino = pino(
      {
        level,
        base: null,
        timestamp: () => this.#timeText,
        formatters: { level: (label) => ({ level: label }) },
        messageKey: "message",
      },
      lines,
    );
    const onSuppressed = (uid: number, suppressed: number): void =>
      this.write("log.suppressed", { uid, suppressed, seconds: LINE_LIMIT.windowMs / 1000 }, "lines of a user were left out");
    this.#limit = new LineLimit({ after, onSuppressed });
  }

  write<E extends LogEventName>(event: E, fields: LogFields<E>, message: string): void {
    const row: { readonly level: Exclude<LogLevel, "silent">; readonly limited?: true } = EVENTS[event];
    if (!this.#pino.isLevelEnabled(row.level)) return;
    const values = fields as Readonly<Record<string, Value>>;
    if (row.limited && !this.#limit.admits(uidOf(values), `${event} ${values["reason"]}`)) return;
    const [time, trace] = [Date.now(), currentTrace()];
    const make = (): void => {
      this.#setTime(time);
      // Under one key, so that no field can stand in for the record's own level or time.
      const record: Record<string, unknown> = {};
      for (const [key, value] of Object.entries(values)) record[key] = safe(key, value);
      const ids = trace === null ? {} : { trace_id: trace.traceId, span_id: trace.spanId };
      this.#pino[row.level]({ event, ...ids, fields: record }, safeText(message));
    };
    if (this.#lines.later) this.#lines.later(make);
    else make();
  }

  #setTime(time: number): void {
    if (time === this.#time) return;
    this.#time = time;
    this.#timeText = `,"time":"${new Date(time).toISOString()}"`;
  }

  setLevel(level: LogLevel): void {
    this.#pino.level = level;
  }

  fault(where: string, error: unknown): void {
    const stack = error instanceof Error ? (error.stack ?? error.message) : String(error);
    this.write("daemon.fault", { where, stack }, "a fault of the daemon");
  }

  /** Lines left out because their user caused too many, or because nobody has read those before. */
  get suppressedLines(): number {
    return this.#limit.total + (this.#lines.dropped ?? 0);
  }

  /** Says now what was left out so far. */
  flush(): void {
    this.#limit.flush();
  }
}
