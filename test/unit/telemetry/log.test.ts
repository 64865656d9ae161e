import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { describe, it } from "node:test";
import fc from "fast-check";
import { EVENTS, FIELDS, type FieldName, type LogEventName } from "../../../src/telemetry/events.js";
import { LINE_LIMIT } from "../../../src/telemetry/line-limit.js";
import { Log } from "../../../src/telemetry/log.js";
import { FakeClock } from "../../fakes/clock.js";

interface Record_ {
  readonly level: string;
  readonly time: string;
  readonly event: string;
  readonly fields: Readonly<Record<string, unknown>>;
  readonly message: string;
}

function captured(clock = new FakeClock()): { readonly log: Log; readonly lines: string[] } {
  const lines: string[] = [];
  return { lines, log: new Log("debug", { write: (line) => lines.push(line) }, (ms, callback) => clock.after(ms, callback)) };
}

function parsed(line: string | undefined): Record_ {
  return JSON.parse(line ?? "") as Record_;
}

describe("[pure] log", () => {
  it("makes lines when its sink says so, with the time at which they were asked for", (t) => {
    t.mock.timers.enable({ apis: ["Date"], now: 1_000 });
    const [lines, makes]: [string[], (() => void)[]] = [[], []];
    const log = new Log("debug", { write: (line) => lines.push(line), later: (make) => makes.push(make) });
    log.write("device.recovered", { pci_address: "0000:01:00.0" }, "one");
    t.mock.timers.tick(500);
    log.write("device.recovered", { pci_address: "0000:01:00.0" }, "two");
    log.write("device.recovered", { pci_address: "0000:01:00.0" }, "three");
    t.mock.timers.tick(500);
    assert.deepEqual(lines, []);
    for (const make of makes) make();
    assert.deepEqual(
      lines.map((line) => parsed(line)).map(({ time, message }) => `${time} ${message}`),
      ["1970-01-01T00:00:01.000Z one", "1970-01-01T00:00:01.500Z two", "1970-01-01T00:00:01.500Z three"],
    );
  });

  // C0, DEL, C1, quotes and braces of JSON, line separators, direction overrides, surrogates with and without a partner.
  const nasty = fc.string({
    unit: fc.oneof(
      fc.integer({ min: 0, max: 0x1f }).map(String.fromCharCode),
      fc.integer({ min: 0x7f, max: 0x9f }).map(String.fromCharCode),
      fc.integer({ min: 0xd800, max: 0xdfff }).map(String.fromCharCode),
      fc.constantFrom(
        '"',
        "\\",
        "{",
        "}",
        ",",
        ":",
        "\u2028",
        "\u2029",
        "\u202e",
        "\u2066",
        "\ufeff",
        '","level":"debug',
        "\ud83d\ude00",
        "a",
      ),
    ),
    maxLength: 40,
  });

  it("makes one line of printable ASCII of 100,000 texts that a client could send, with level, time and event as called", () => {
    const { log, lines } = captured();
    const begin = new Date().toISOString();
    let longest = 0;
    fc.assert(
      fc.property(nasty, fc.constantFrom("why", "message", "list", "where", "stack"), (text, place) => {
        lines.length = 0;
        if (place === "why") log.write("device.quarantined", { pci_address: text, why: text }, "m");
        if (place === "message") log.write("device.quarantined", { pci_address: "", why: "" }, text);
        if (place === "list") log.write("lease.ended", { lease: text, cause: "RELEASED", quarantined: [text, text] }, "m");
        if (place === "where") log.fault(text, text);
        if (place === "stack") log.fault("", Object.assign(new Error(text), { stack: text }));
        assert.equal(lines.length, 1);
        const [line = ""] = lines;
        if (!/^[\x20-\x7e]+\n$/.test(line)) assert.fail(`not printable: ${JSON.stringify(line)}`);
        const record = parsed(line);
        const expected = { why: "warn", message: "warn", list: "info", where: "error", stack: "error" }[place];
        if (record.level !== expected || !(record.event in EVENTS) || record.time < begin) assert.fail(line);
        if (line.match(/"level":/g)?.length !== 1) assert.fail(line);
        longest = Math.max(longest, line.length);
      }),
      { numRuns: 100_000 },
    );
    assert.ok(longest < 2_000, `${longest} characters`);
  });

  it("cuts a text of 1 MiB to 256 characters, and a stack to 4,096", () => {
    for (const text of ["x", "\u009b", "\ud800", '"', "\\", "\n"].map((unit) => unit.repeat(1 << 20))) {
      const { log, lines } = captured();
      log.write("device.quarantined", { pci_address: text, why: text }, text);
      log.fault(text, Object.assign(new Error(), { stack: text }));
      const [first, second] = lines.map(parsed);
      for (const value of [first?.fields["why"], first?.message, second?.fields["where"]]) assert.equal(String(value).length, 256);
      assert.equal(String(second?.fields["stack"]).length, 4_096);
    }
  });

  it("takes of a peer its pid and uid, whatever else the object carries", () => {
    const { log, lines } = captured();
    const peer = { pid: 7, uid: 8, level: "debug", secret: "ticket" };
    log.write("lease.refused", { reason: "POLICY_DENIED", why: "", peer }, "");
    assert.deepEqual(parsed(lines[0]).fields["peer"], { pid: 7, uid: 8 });
  });

  it("writes 10 lines in 5 s of what one user can cause at no cost, counts the rest, and leaves other users and other events alone", () => {
    const clock = new FakeClock();
    const { log, lines } = captured(clock);
    const refuse = (uid: number): void => log.write("lease.refused", { reason: "POLICY_DENIED", why: "", peer: { pid: 1, uid } }, "");
    for (let i = 0; i < 500; i += 1) refuse(1000);
    assert.equal(lines.length, 10);
    const violation = (): void => log.write("peer.rejected", { reason: "FOREIGN_SENDER", peer: { pid: 1, uid: 1000 } }, "");
    violation();
    violation();
    assert.equal(lines.length, 11, "the first of its reason, and no second");
    lines.pop();
    refuse(1001);
    for (let i = 0; i < 30; i += 1)
      log.write("lease.granted", { lease: "l", pci_addresses: [], kind: "DEVICE", peer: { pid: 1, uid: 1000 } }, "");
    assert.equal(lines.length, 41);
    clock.advance(LINE_LIMIT.windowMs - 1);
    assert.equal(lines.length, 41);
    clock.advance(1);
    assert.equal(lines.length, 42);
    assert.deepEqual([parsed(lines[41]).event, parsed(lines[41]).fields], ["log.suppressed", { uid: 1000, suppressed: 491, seconds: 5 }]);
    assert.equal(log.suppressedLines, 491);
    refuse(1000);
    assert.equal(lines.length, 43, "a new window");
    clock.advance(LINE_LIMIT.windowMs);
    assert.equal(lines.length, 43, "nothing was left out in it");
  });

  it("remembers 1,024 users, folds the others into one, and says every count when it is flushed", () => {
    const { log, lines } = captured();
    for (let uid = 0; uid < 3_000; uid += 1) log.write("peer.rejected", { reason: "CONNECTION_LIMIT", peer: { pid: 1, uid } }, "");
    assert.equal(lines.length, 1_024 + 10);
    log.flush();
    assert.equal(lines.length, 1_024 + 10 + 1);
    assert.deepEqual(parsed(lines.at(-1)).fields, { uid: -1, suppressed: 3_000 - 1_034, seconds: 5 });
    log.flush();
    assert.equal(lines.length, 1_035);
  });

  it("has a place in the code for every event of its table, and an event for every field", () => {
    const folder = new URL("../../../../src/", import.meta.url);
    const files = (readdirSync(folder, { recursive: true }) as string[]).filter(
      (name) => name.endsWith(".ts") && !name.endsWith("events.ts"),
    );
    const source = files.map((name) => readFileSync(new URL(name, folder), "utf8")).join("\n");
    for (const name of Object.keys(EVENTS)) assert.ok(source.includes(`"${name}"`), `nobody writes ${name}`);
    const used = new Set<FieldName>((Object.keys(EVENTS) as LogEventName[]).flatMap((name) => [...EVENTS[name].fields]));
    assert.deepEqual([...used].sort(), Object.keys(FIELDS).sort());
  });
});
