// docs/BENCHMARKS.md and its pictures, from the results of a full run.

import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { NOTES } from "./notes.js";
import { plot } from "./plot.js";
import type { BenchResults, RowResult } from "./results.js";
import { heading, markdownTable, shown } from "./table.js";

const INTRODUCTION = `# Benchmarks

Written by \`npm run bench -- --publish\`; [benchmarks.json](benchmarks.json) has every round of it. Each figure of Aperture stands beside the limit, or beside what one would write instead, measured in the same
run on the same machine. **Read the ratios**: they are formed within a round, and a ratio is the median of its rounds with the least and the greatest behind it.`;

const METHOD = `## How it is measured

* Server and client are processes of their own, each kept on one processor: throughput is that of one core. The sides of a case take turns in every round, each round beginning with another one, after one
  turn that does not count. Before each measurement both processors have to be idle for 100 ms; how often that could not be had is said above.
* The daemon is apertured's own parts over a made-up device list on the simulated host (\`test/bench/programs/daemon.ts\`): each device has six regions, of which two give a descriptor. Connection, lease and
  descriptor limits are raised as far as the cases need; the log is at its usual level, into a file. Start and idle memory are those of apertured as it is shipped.
* A daemon that nobody has called yet has loaded no message types: its idle memory is without them. What the first call of its life takes more than the second, and the memory after it, are rows of their own.
* One load client in C++ (epoll, libnghttp2; \`test/bench/baselines/lease_client.cc\`) speaks to every server: only the server differs. It checks every descriptor count, that answer and offer name one lease,
  the regions, and at the end that leases are HELD; the daemon must have no quarantine, no fault and no warning in its log, or the
  case has failed.
* Scrapes are read by a client in C (\`http_get.c\`), because one in JavaScript takes longer for 2 MB than a server that keeps its page.
* A lease's time runs from the request to the moment when answer and descriptors have come and the acknowledgement is sent. Releases are not part of it. Rates are of leases that are kept.
* The scan's baseline reads each file that the scan reads, once, with Node's synchronous fs, and makes nothing of what it reads. Every device is bound to vfio-pci and alone in its IOMMU group, eight are below a port.
* The baselines are in \`test/bench/baselines\`: the C epoll server does one recv and one sendmsg a request; the C++ gRPC peer locks, opens and hands over by token, and has no policy, liveness, acknowledgement, proof,
  reset, metrics or log.`;

const LIMITS = `## What the figures do not show

* **Hardware.** Devices are memory. Real opens, BIND, resets and last closes take 0.1 ms to minutes and are not Aperture's; the lab's row has real ones, but on an emulated processor, on which JavaScript is slower than
  system calls by far more than on a real one.
* **Sleeping processors.** On a virtual machine most of a round trip between two processors is waking the other one (tens of microseconds). It is in both figures of a ratio and makes them more alike; the rows
  on one processor and those at 64 clients do not have it.
* **A resetting device that blocks.** In the row of ListDevices the simulated resets wait by a timer. That a blocking ioctl does not reach the event loop is shown by the tests of the queues, not here.
* **sysfs itself.** The scan reads files on tmpfs; a real attribute costs two to three times as much to read, for both sides, which brings them nearer to each other.
* **A daemon that has just started.** V8 compiles while it runs: the first 1,200 leases after a start come at a third to a fifth of the rate of those after some ten thousand (seen at 64 clients). The rows are of a daemon that has
  run a round before.
* **Other machines, and other loads on this one.** Absolute figures of the same case moved by up to 1.7 between hours here.`;

const GROWTH = `## How cost grows

Both axes are logarithmic: a straight line is a power, and its exponent stands beside it: 0 is flat, 1 linear.`;

function conclusion({ rows, growth }: BenchResults): string {
  const named = (verdict: RowResult["verdict"]): string[] => [
    ...rows
      .filter((row) => row.verdict === verdict)
      .map(({ measure, ratio, value }) => `${measure} (${shown((ratio ?? value)?.median ?? Number.NaN)})`),
    ...growth
      .filter((each) => each.verdict === verdict)
      .map(({ measure, over, exponent }) => `${measure}, by ${over} (exponent ${exponent?.toFixed(2)})`),
  ];
  const [met, missed] = [named("met"), named("not met")];
  if (met.length + missed.length === 0) return "Nothing has been measured yet.";
  return missed.length === 0 ? "Every target that was measured is met." : `Not met: ${missed.join("; ")}.`;
}

/** What is known of each miss. */
function explanations({ rows, growth }: BenchResults): readonly string[] {
  const missed = [...rows, ...growth].filter(({ verdict }) => verdict === "not met");
  const known = missed.flatMap(({ id, measure }) => (NOTES[id] === undefined ? [] : [`* **${measure}.** ${NOTES[id]}.`]));
  return known.length === 0 ? [] : [`## Why, and what would meet it\n\n${known.join("\n")}`];
}

export function writePage(results: BenchResults, docs: string): readonly string[] {
  if (results.quick) throw new Error("a quick run has no figures worth a page: run it without --quick");
  const failed = [...results.rows, ...results.growth].filter(({ verdict }) => verdict === "failed");
  if (failed.length > 0) throw new Error(`a run in which something failed is no page: ${failed.map(({ id }) => id).join(", ")}`);
  mkdirSync(docs, { recursive: true });
  const written: string[] = [];
  const write = (name: string, content: string): void => {
    writeFileSync(join(docs, name), content);
    written.push(name);
  };
  const pictures: string[] = [];
  for (const over of new Set(results.growth.map((growth) => growth.over))) {
    const svg = plot(results.growth.filter((growth) => growth.over === over));
    const name = `bench-${over.replaceAll(" ", "-")}.svg`;
    if (svg === null) continue;
    write(name, svg);
    pictures.push(`![Cost by ${over}](${name})`);
  }
  const growth = pictures.length === 0 ? [] : [`${GROWTH}\n\n${pictures.join("\n\n")}`];
  const facts = heading(results)
    .split("\n")
    .map((line) => `* ${line}`)
    .join("\n");
  write(
    "BENCHMARKS.md",
    `${[INTRODUCTION, facts, markdownTable(results), conclusion(results), ...explanations(results), ...growth, METHOD, LIMITS].join("\n\n")}\n`,
  );
  write("benchmarks.json", `${JSON.stringify(results, null, 1)}\n`);
  return written;
}
