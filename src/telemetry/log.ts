// The log: JSON lines on stderr. An event is a constant name with fields; text of clients only ever appears under a field, escaped and cut, because a terminal
// obeys more characters than JSON escapes (C1 controls, bidirectional overrides).

import { type DestinationStream, destination, type Logger, pino, stdTimeFunctions } from "pino";
import { LogEvent, type LogEventName } from "./events.js";

export type LogLevel = "trace" | "debug" | "info" | "warn" | "error" | "silent";
export type LogFields = Readonly<Record<string, string | number | boolean | readonly string[] | null>>;

const MAX_TEXT = 256;

/** Printable ASCII only, at most 256 characters. */
export function safeText(text: string): string {
  const cut = text.length > MAX_TEXT ? `${text.slice(0, MAX_TEXT - 3)}...` : text;
  return cut.replace(/[^\x20-\x7e]/g, "?");
}

export class Log {
  readonly #pino: Logger;

  constructor(level: LogLevel, stream: DestinationStream = destination({ fd: 2, sync: true })) {
    this.#pino = pino(
      {
        level,
        base: null,
        timestamp: stdTimeFunctions.isoTime,
        formatters: { level: (label) => ({ level: label }) },
        messageKey: "message",
      },
      stream,
    );
  }

  write(level: Exclude<LogLevel, "silent">, event: LogEventName, fields: LogFields, message: string): void {
    if (!this.#pino.isLevelEnabled(level)) return;
    const safe: Record<string, unknown> = {};
    // Under one key, so that no field can stand in for the record's own level or time.
    for (const [key, value] of Object.entries(fields)) safe[key] = typeof value === "string" ? safeText(value) : value;
    this.#pino[level]({ event, fields: safe }, safeText(message));
  }

  fault(where: string, error: unknown): void {
    const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
    this.#pino.error({ event: LogEvent.fault, fields: { where: safeText(where), stack: text.slice(0, 4096) } }, "a fault of the daemon");
  }
}
