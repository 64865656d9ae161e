import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { LogEvent } from "../../../src/telemetry/events.js";
import { Log } from "../../../src/telemetry/log.js";

describe("[pure] log", () => {
  it("makes one printable line of whatever a client sends, and keeps its own level, time and event", () => {
    const lines: string[] = [];
    const log = new Log("info", { write: (line) => lines.push(line) });
    const nasty = fc.oneof(
      fc.string({ unit: "binary", maxLength: 600 }),
      fc.constantFrom("\u009b31m", "\u202e", "\u2028", "\x7f", '","level":"debug', "\n{}", "x".repeat(100_000)),
    );
    fc.assert(
      fc.property(nasty, fc.constantFrom("level", "time", "event", "why", "__proto__"), (text, key) => {
        lines.length = 0;
        log.write("error", LogEvent.leaseRefused, { [key]: text }, text);
        assert.equal(lines.length, 1);
        const [line = ""] = lines;
        assert.match(line, /^[\x20-\x7e]+\n$/);
        assert.ok(line.length < 1500, `${line.length} characters`);
        const record = JSON.parse(line) as { level: string; event: string; time: string };
        assert.deepEqual([record.level, record.event], ["error", "lease.refused"]);
        assert.match(record.time, /^\d{4}-\d\d-\d\dT/);
      }),
      { numRuns: 2000 },
    );
  });
});
