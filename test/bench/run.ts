// npm run bench: measures, prints the table, and leaves the results as JSON beside it.
// Exit status: 0 when every case ran, whatever its figures; 1 when one failed; 2 wrong usage.

import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { repository } from "../lab/repository.js";
import { cases, growths } from "./cases/all.js";
import { cacheFolder } from "./harness/cache.js";
import type { Scale } from "./harness/case.js";
import { machineFacts } from "./harness/machine.js";
import { writePage } from "./harness/page.js";
import { Server } from "./harness/processes.js";
import type { BenchResults, GrowthResult, RowResult } from "./harness/results.js";
import { Runner, withoutFigures } from "./harness/runner.js";
import { heading, textTable } from "./harness/table.js";

const USAGE = `Usage: npm run bench -- [options]

  --quick          every case once, as small as it goes: whether it runs, no figures
  --only PATTERN   cases and growths whose name or rows match this regular expression
  --rounds N       rounds of each case (5)
  --json FILE      where the results go, after each case (.aperture/bench/results.json)
  --resume         goes on with that file: what it has of this revision is not measured again
  --minutes N      begins no further case after so many minutes
  --publish        writes docs/BENCHMARKS.md, its pictures and docs/benchmarks.json
  --from FILE      does not measure: takes the results of an earlier run
  --list           names the cases
  --help           this text
`;

const { values: options } = parseArgs({
  options: {
    quick: { type: "boolean", default: false },
    only: { type: "string" },
    rounds: { type: "string" },
    json: { type: "string" },
    resume: { type: "boolean", default: false },
    minutes: { type: "string" },
    publish: { type: "boolean", default: false },
    from: { type: "string" },
    list: { type: "boolean", default: false },
    help: { type: "boolean", default: false },
  },
});

function chosen() {
  const pattern = new RegExp(options.only ?? "", "i");
  return {
    cases: cases.filter(({ name, rows }) => [name, ...rows.flatMap(({ id, measure }) => [id, measure])].some((text) => pattern.test(text))),
    growths: growths.filter(({ id, measure, over }) => [id, `growth ${measure}, by ${over}`].some((text) => pattern.test(text))),
  };
}

function say(line: string): void {
  process.stderr.write(`bench: ${line}\n`);
}

function resultsFile(): string {
  return resolve(options.json ?? join(cacheFolder("."), "results.json"));
}

function read(file: string): BenchResults {
  return JSON.parse(readFileSync(file, "utf8")) as BenchResults;
}

/** What was measured before of this very revision. */
function earlierResults(revision: string): BenchResults | null {
  if (!options.resume) return null;
  const earlier = read(resultsFile());
  if (earlier.machine.revision !== revision || earlier.quick)
    throw new Error(`${resultsFile()} is of ${earlier.machine.revision}, quick: ${earlier.quick}`);
  return earlier;
}

function isMeasured({ verdict }: { readonly verdict: RowResult["verdict"] }): boolean {
  return verdict !== "failed" && verdict !== "not measured";
}

async function measure(): Promise<BenchResults> {
  const rounds = Number(options.rounds ?? (options.quick ? 1 : 5));
  if (!Number.isInteger(rounds) || rounds < 1) throw new Error(`--rounds ${options.rounds}: a whole number from 1 on`);
  const most = Number(options.minutes ?? Number.POSITIVE_INFINITY) * 60;
  const scale: Scale = { quick: options.quick, pick: (full, quick) => (options.quick ? quick : full) };
  const runner = new Runner(scale, rounds);
  const machine = machineFacts();
  const earlier = earlierResults(machine.revision);
  const wanted = chosen();
  const begin = performance.now();
  const passed = (): number => (performance.now() - begin) / 1000;
  const rows: RowResult[] = [];
  const growth: GrowthResult[] = [];
  const results = (): BenchResults => ({
    format: 1,
    quick: options.quick,
    rounds,
    disturbed: runner.disturbed + (earlier?.disturbed ?? 0),
    measurements: runner.measurements + (earlier?.measurements ?? 0),
    seconds: passed() + (earlier?.seconds ?? 0),
    machine,
    rows,
    growth,
  });
  for (const each of cases) {
    const before = earlier?.rows.filter(({ id }) => each.rows.some((row) => row.id === id)) ?? [];
    if (before.length === each.rows.length && before.every(isMeasured)) rows.push(...before);
    else if (wanted.cases.includes(each) && passed() < most) {
      const since = performance.now();
      rows.push(...(await runner.rows(each)));
      say(`${each.name}: ${((performance.now() - since) / 1000).toFixed(1)} s`);
      keep(results());
    }
  }
  for (const each of growths) {
    const before = earlier?.growth.find(({ id }) => id === each.id);
    if (before && isMeasured(before)) growth.push(before);
    else if (wanted.growths.includes(each) && passed() < most) {
      const since = performance.now();
      growth.push(await runner.growth(each));
      say(`${each.measure}, by ${each.over}: ${((performance.now() - since) / 1000).toFixed(1)} s`);
      keep(results());
    }
  }
  return results();
}

/** With the rows that were not measured, so that a page shows what it lacks. */
function complete(results: BenchResults): BenchResults {
  const why = "not yet";
  return {
    ...results,
    rows: cases.flatMap((each) =>
      each.rows.map((row) => results.rows.find(({ id }) => id === row.id) ?? { ...withoutFigures(row), verdict: "not measured", why }),
    ),
    growth: growths.map(
      ({ id, measure: what, unit, over, atMost }) =>
        results.growth.find((growth) => growth.id === id) ?? {
          ...{ id, measure: what, unit, over, atMost, points: [], exponent: null, verdict: "not measured", why },
        },
    ),
  };
}

function keep(results: BenchResults): void {
  const file = resultsFile();
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, `${JSON.stringify(results, null, 1)}\n`);
}

async function main(): Promise<number> {
  if (options.help) {
    process.stdout.write(USAGE);
    return 0;
  }
  if (options.list) {
    const wanted = chosen();
    for (const { name, rows } of wanted.cases) process.stdout.write(`${name}\n${rows.map(({ id }) => `  ${id}\n`).join("")}`);
    for (const { id } of wanted.growths) process.stdout.write(`growth\n  ${id}\n`);
    return 0;
  }
  const results = options.from === undefined ? await measure() : read(resolve(options.from));
  if (options.from === undefined) say(`results in ${resultsFile()}`);
  process.stdout.write(`${heading(results)}\n\n${textTable(results)}\n`);
  if (options.publish) for (const name of writePage(complete(results), join(repository, "docs"))) say(`wrote docs/${name}`);
  const failed = [...results.rows, ...results.growth].filter(({ verdict }) => verdict === "failed");
  for (const reason of new Set(failed.map(({ why }) => why))) {
    const ids = failed.filter(({ why }) => why === reason).map(({ id }) => id);
    process.stderr.write(`\n${ids.join(", ")} failed: ${reason}\n`);
  }
  if (results.rows.length + results.growth.length === 0) {
    say("no case has such a name; --list names them");
    return 2;
  }
  return failed.length > 0 ? 1 : 0;
}

process.once("exit", () => Server.killAll());
process.exit(await main());
