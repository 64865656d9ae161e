import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { setImmediate } from "node:timers/promises";
import { Log } from "../../../src/telemetry/log.js";
import { currentTrace, inTraceOf, parseTraceparent } from "../../../src/telemetry/trace.js";

const TRACE = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN = "00f067aa0ba902b7";

describe("[pure] traceparent", () => {
  it("is read as W3C Trace Context says, and is ignored when it is not valid", () => {
    const valid = { traceId: TRACE, spanId: SPAN };
    assert.deepEqual(parseTraceparent([`00-${TRACE}-${SPAN}-01`]), valid);
    assert.deepEqual(parseTraceparent([`00-${TRACE}-${SPAN}-ff`]), valid, "flags of later versions are nobody's business");
    assert.deepEqual(parseTraceparent([`01-${TRACE}-${SPAN}-00`]), valid, "a later version");
    assert.deepEqual(parseTraceparent([`cc-${TRACE}-${SPAN}-01-what-will-be`]), valid, "a later version with more");
    const wrong: readonly (readonly unknown[])[] = [
      [],
      [""],
      [`00-${TRACE}-${SPAN}-01`, `00-${TRACE}-${SPAN}-01`],
      [Buffer.from(`00-${TRACE}-${SPAN}-01`)],
      [`00-${TRACE}-${SPAN}-01-more`],
      [`00-${TRACE}-${SPAN}-01-`],
      [`ff-${TRACE}-${SPAN}-01`],
      [`cc-${TRACE}-${SPAN}-01.more`],
      [`00-${"0".repeat(32)}-${SPAN}-01`],
      [`00-${TRACE}-${"0".repeat(16)}-01`],
      [`00-${TRACE.toUpperCase()}-${SPAN}-01`],
      [`00-${TRACE.slice(1)}-${SPAN}-01`],
      [`00-${TRACE}-${SPAN}0-01`],
      [`00-${TRACE}-${SPAN}`],
      [`00-${TRACE}-${SPAN}-1`],
      [` 00-${TRACE}-${SPAN}-01`],
      [`00-${TRACE}-${SPAN}-01\n`],
      ["\u202e\u009b2J"],
      ["0".repeat(1 << 20)],
    ];
    for (const values of wrong) assert.equal(parseTraceparent(values), null, String(values[0]).slice(0, 80));
  });

  it("stands in the log of everything that its call starts, however much later, and of nothing else", async () => {
    const lines: string[] = [];
    const log = new Log("info", { write: (line) => lines.push(line) });
    const say = (address: string): void => log.write("device.recovered", { pci_address: address }, "");
    const other = "1".repeat(32);
    let work: Promise<void> = Promise.resolve();
    const started = async (address: string): Promise<void> => {
      await setImmediate();
      say(address);
    };
    inTraceOf([`00-${TRACE}-${SPAN}-01`], () => {
      work = started("traced");
    });
    inTraceOf([`00-${other}-${SPAN}-01`], () => say("another"));
    inTraceOf(["nonsense"], () => say("not valid"));
    say("outside");
    await work;
    say("after");
    const seen = lines.map((line) => JSON.parse(line) as { trace_id?: string; span_id?: string; fields: { pci_address: string } });
    assert.deepEqual(
      seen.map((record) => [record.fields.pci_address, record.trace_id, record.span_id]),
      [
        ["another", other, SPAN],
        ["not valid", undefined, undefined],
        ["outside", undefined, undefined],
        ["traced", TRACE, SPAN],
        ["after", undefined, undefined],
      ],
    );
    assert.equal(currentTrace(), null);
  });
});
