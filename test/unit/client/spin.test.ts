// The loop stays awake as long as it was asked to, and no longer.

import assert from "node:assert/strict";
import { performance } from "node:perf_hooks";
import { describe, it } from "node:test";
import { spinning } from "../../../src/client/spin.js";

/** Share of the wait in which the loop slept. */
async function asleep(microseconds: number, milliseconds: number): Promise<number> {
  // The loop's first turn counts from here: before it, nothing is known.
  await new Promise((resolve) => setImmediate(resolve));
  const before = performance.eventLoopUtilization();
  await spinning(microseconds, new Promise((resolve) => setTimeout(resolve, milliseconds)));
  return 1 - performance.eventLoopUtilization(before).utilization;
}

describe("[pure] spinning", () => {
  it("keeps the loop awake until the work is done, and only when it is asked to", async () => {
    assert.ok((await asleep(0, 200)) > 0.5);
    assert.ok((await asleep(10_000_000, 200)) < 0.2);
  });

  it("ends after its time, and with the work", async () => {
    assert.ok((await asleep(1_000, 300)) > 0.5, "a millisecond of 300");
    await spinning(10_000_000, Promise.resolve());
    assert.ok((await asleep(0, 200)) > 0.5, "nothing turns on");
  });

  it("hands on what the work comes to", async () => {
    assert.equal(await spinning(100, Promise.resolve(7)), 7);
    await assert.rejects(spinning(100, Promise.reject(new RangeError("no"))), RangeError);
  });
});
