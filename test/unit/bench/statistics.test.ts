import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { exponent, median, percentile, spread } from "../../bench/harness/statistics.js";

describe("[pure] statistics of the bench", () => {
  it("the median is the middle one, or between the two in the middle", () => {
    assert.equal(median([9, 1, 5]), 5);
    assert.equal(median([4, 1, 100, 2]), 3);
    assert.throws(() => median([]), RangeError);
  });

  it("a spread is the median with the least and the greatest", () => {
    assert.deepEqual(spread([3, 1, 2]), { median: 2, min: 1, max: 3 });
  });

  it("the 99th of 200 values has two above it", () => {
    const values = Array.from({ length: 200 }, (_, i) => i);
    assert.equal(percentile(values, 99), 198);
    assert.equal(percentile([7], 99), 7);
  });

  it("the exponent of a flat, a linear and a quadratic series", () => {
    const of = (power: number) => exponent([1, 64, 1024].map((x) => ({ x, y: 3 * x ** power })));
    for (const power of [0, 1, 2]) assert.ok(Math.abs(of(power) - power) < 1e-9);
  });
});
