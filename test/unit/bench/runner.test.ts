// The bench's own judgement: ratios within a round, verdicts, and that nothing that went wrong looks like a figure.

import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { type BenchCase, NotMeasured, type Row, type Scale, type Side } from "../../bench/harness/case.js";
import { Runner } from "../../bench/harness/runner.js";

const FULL: Scale = { quick: false, pick: (full) => full };
const calm = async (): Promise<boolean> => true;
const QUICK: Scale = { quick: true, pick: (_full, quick) => quick };

function side(name: string, values: readonly number[]): Side {
  let next = 0;
  return {
    name,
    measure: async () => {
      next += 1;
      return { p50: values[(next - 1) % values.length] ?? Number.NaN };
    },
  };
}

function row(target: Row["target"], base: string | null = "base"): Row {
  return {
    ...{ id: "row", measure: "row", against: "base", unit: "µs", target },
    ...{ of: { side: "ours", figure: "p50" }, base: base === null ? null : { side: base, figure: "p50" } },
  };
}

function benchCase(rows: readonly Row[], sides: readonly Side[], close: () => Promise<void> = async () => undefined): BenchCase {
  return { name: "case", rows, prepare: async () => ({ sides, warmUp: false, close }) };
}

async function only(scale: Scale, rounds: number, given: BenchCase) {
  const [result] = await new Runner(scale, rounds, calm).rows(given);
  assert.ok(result);
  return result;
}

describe("[pure] runner of the bench", () => {
  it("a ratio is formed within a round: what disturbs both sides of one is not seen", async () => {
    const given = benchCase([row({ atMost: 1.5 })], [side("ours", [10, 100, 20]), side("base", [10, 100, 10])]);
    const result = await only(FULL, 3, given);
    assert.deepEqual(result.ratio, { median: 1, min: 1, max: 2 });
    assert.equal(result.verdict, "met");
    assert.equal(result.rounds.length, 3);
  });

  it("targets go both ways, and without a baseline the figure itself is judged", async () => {
    const sides = () => [side("ours", [3]), side("base", [2])];
    const verdict = async (target: Row["target"], base: string | null = "base") =>
      (await only(FULL, 1, benchCase([row(target, base)], sides()))).verdict;
    assert.equal(await verdict({ atMost: 1.4 }), "not met");
    assert.equal(await verdict({ atLeast: 1.4 }), "met");
    assert.equal(await verdict({ atMost: 2 }, null), "not met");
    assert.equal(await verdict(null), "told");
  });

  it("a quick run judges nothing", async () => {
    const result = await only(QUICK, 1, benchCase([row({ atMost: 0 })], [side("ours", [3]), side("base", [2])]));
    assert.equal(result.verdict, "ran");
  });

  it("a side that fails takes its own rows with it, and no other", async () => {
    const broken: Side = { name: "broken", measure: () => Promise.reject(new Error("7 descriptors instead of 2")) };
    const rows = [row({ atMost: 2 }), row({ atMost: 2 }, "broken")];
    const [whole, failed] = await new Runner(FULL, 2, calm).rows(benchCase(rows, [broken, side("ours", [1]), side("base", [1])]));
    assert.equal(whole?.verdict, "met");
    assert.equal(failed?.verdict, "failed");
    assert.match(failed?.why ?? "", /7 descriptors instead of 2/);
    assert.equal(failed?.value, null);
  });

  it("what a machine lacks is told, and is no failure", async () => {
    const lacking: BenchCase = { ...benchCase([row(null)], []), prepare: () => Promise.reject(new NotMeasured("needs libgrpc++-dev")) };
    const result = await only(FULL, 1, lacking);
    assert.deepEqual([result.verdict, result.why], ["not measured", "needs libgrpc++-dev"]);
  });

  it("a server that complains at its end spoils the figures that came before", async () => {
    const complaint = () => Promise.reject(new Error("a server complained"));
    const result = await only(FULL, 1, benchCase([row(null)], [side("ours", [1]), side("base", [1])], complaint));
    assert.equal(result.verdict, "failed");
    assert.equal(result.ratio, null);
  });

  it("growth tells the exponent, and which is too great", async () => {
    const growth = (power: number) =>
      new Runner(FULL, 1, calm).growth({
        ...{ id: "g", measure: "g", unit: "µs", over: "devices", figure: "p50", points: [10, 1_000], quickPoints: [], atMost: 0.1 },
        prepare: async (_scale, x) => ({ sides: [side("only", [x ** power])], warmUp: false, close: async () => undefined }),
      });
    assert.deepEqual([(await growth(0)).exponent, (await growth(0)).verdict], [0, "met"]);
    assert.equal((await growth(1)).verdict, "not met");
  });
});
