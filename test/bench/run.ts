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
import type { BenchResults } from "./harness/results.js";
import { Runner } from "./harness/runner.js";
import { heading, textTable } from "./harness/table.js";

const USAGE = `Usage: npm run bench -- [options]

  --quick          every case once, as small as it goes: whether it runs, no figures
  --only PATTERN   cases and growths whose name or rows match this regular expression
  --rounds N       rounds of each case (5)
  --json FILE      where the results go (.aperture/bench/results.json)
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

async function measure(): Promise<BenchResults> {
  const rounds = Number(options.rounds ?? (options.quick ? 1 : 5));
  if (!Number.isInteger(rounds) || rounds < 1) throw new Error(`--rounds ${options.rounds}: a whole number from 1 on`);
  const scale: Scale = { quick: options.quick, pick: (full, quick) => (options.quick ? quick : full) };
  const runner = new Runner(scale, rounds);
  const machine = machineFacts();
  const wanted = chosen();
  const begin = performance.now();
  const rows: BenchResults["rows"][number][] = [];
  for (const each of wanted.cases) {
    const since = performance.now();
    rows.push(...(await runner.rows(each)));
    say(`${each.name}: ${((performance.now() - since) / 1000).toFixed(1)} s`);
  }
  const growth: BenchResults["growth"][number][] = [];
  for (const each of wanted.growths) {
    const since = performance.now();
    growth.push(await runner.growth(each));
    say(`${each.measure}, by ${each.over}: ${((performance.now() - since) / 1000).toFixed(1)} s`);
  }
  const { disturbed, measurements } = runner;
  const seconds = (performance.now() - begin) / 1000;
  return { format: 1, quick: options.quick, rounds, disturbed, measurements, seconds, machine, rows, growth };
}

function keep(results: BenchResults): void {
  const file = resolve(options.json ?? join(cacheFolder("."), "results.json"));
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, `${JSON.stringify(results, null, 1)}\n`);
  say(`results in ${file}`);
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
  const results = options.from === undefined ? await measure() : (JSON.parse(readFileSync(resolve(options.from), "utf8")) as BenchResults);
  if (options.from === undefined) keep(results);
  process.stdout.write(`${heading(results)}\n\n${textTable(results)}\n`);
  if (options.publish) for (const name of writePage(results, join(repository, "docs"))) say(`wrote docs/${name}`);
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
