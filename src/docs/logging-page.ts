// docs/LOGGING.md from src/telemetry.

import { EVENTS, FIELDS, type FieldName, type LogEventName, type LogLevel } from "../telemetry/events.js";
import { LINE_LIMIT } from "../telemetry/line-limit.js";
import { code, table } from "./markdown.js";

interface Row {
  readonly level: LogLevel;
  readonly when: string;
  readonly fields: readonly FieldName[];
  readonly limited?: true;
}

export function loggingPage(): string {
  return `# Log

One JSON object a line, on stderr. Made from \`src/telemetry/events.ts\` by \`npm run docs\`; the code is typed against the same table.

${table(
  ["key", "meaning"],
  [
    [code("level"), "`trace`, `debug`, `info`, `warn` or `error` (setting `log.level`)"],
    [code("time"), "ISO 8601, UTC, milliseconds"],
    [code("event"), "one of the names below, which are stable"],
    [code("trace_id"), "32 hexadecimal digits: the trace of the call that caused this. Only when the call brought a valid `traceparent`"],
    [code("span_id"), "16 hexadecimal digits: the caller's span. The daemon makes none of its own"],
    [code("fields"), "what the event is about: exactly the fields of its row"],
    [code("message"), "the same in words; may change"],
  ],
)}

Every line is printable ASCII. Text that a client or a driver chose stands under \`fields\` only, at most 256 characters, and what is no printable ASCII in it is a \`?\`.

\`traceparent\` is metadata of the gRPC call ([W3C Trace Context](https://www.w3.org/TR/trace-context/)); one that is not valid is ignored. Its ids also stand in what the call causes later: the end
of a lease that it released, a quarantine that follows.

## Events

"Limited" events are those that a client can cause at no cost: ${LINE_LIMIT.lines} lines in ${LINE_LIMIT.windowMs / 1000} s for each user, and the first of each reason however many there are. The rest is counted, told by one \`log.suppressed\` when the window ends, and in
\`aperture_log_lines_suppressed_total\`. Grants and ends of leases are not limited: each costs its client a proof and a reset.
A reader of stderr that is slow does not hold up the daemon: 1 MiB of lines waits for it; what comes beyond is left out and counted there too.

${table(
  ["event", "level", "when", "fields", "limited"],
  (Object.entries(EVENTS) as [LogEventName, Row][]).map(([name, event]) => [
    code(name),
    event.level,
    event.when,
    event.fields.map(code).join(", "),
    event.limited ? "yes" : "",
  ]),
)}

## Fields

${table(
  ["field", "type", "meaning"],
  Object.entries(FIELDS).map(([name, { type, meaning }]) => [code(name), TYPES[type], meaning]),
)}
`;
}

const TYPES = { text: "text", number: "number", list: "list of texts", peer: "object", stack: "text" } as const;
