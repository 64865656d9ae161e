// Mapping a padded aperture, and touching one for the first time.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { baseline } from "../harness/baselines.js";
import type { BenchCase } from "../harness/case.js";
import { measured, program } from "../harness/processes.js";
import { apart } from "../harness/processors.js";

const time = (side: string) => ({ side, figure: "nanoseconds" });
const REAL_PART = "bare mmap of the real part, C";

export const mappingCases: readonly BenchCase[] = [
  {
    name: "padded mapping",
    rows: [
      {
        ...{ id: "map", measure: "padded mapping, 96 of 128 GiB", against: REAL_PART, unit: "ns" },
        ...{ of: time("ours"), base: time("plain"), target: { atMost: 3 } },
      },
      {
        ...{ id: "map-vmas", measure: "padded mapping, 96 of 128 GiB: VMAs", against: "", unit: "" },
        ...{ of: { side: "ours", figure: "mappings" }, base: null, target: { atMost: 2 } },
      },
      {
        ...{ id: "map-c", measure: "the same by the client in C", against: REAL_PART, unit: "ns" },
        ...{ of: time("client"), base: time("plain"), target: { atMost: 3 } },
      },
      {
        ...{ id: "map-js", measure: "the same from JavaScript, thread and promise included", against: REAL_PART, unit: "ns" },
        ...{ of: time("js"), base: time("plain"), target: null },
      },
    ],
    prepare: async (scale) => {
      const mapping = await baseline("mapping");
      const count = String(scale.pick(2_000, 10));
      return {
        sides: [
          { name: "plain", measure: () => measured([mapping, "map", "plain", count], apart.server) },
          { name: "ours", measure: () => measured([mapping, "map", "ours", count], apart.server) },
          { name: "client", measure: () => measured([mapping, "map", "client", count], apart.server) },
          { name: "js", measure: () => measured([...program("map"), count], apart.server) },
        ],
        close: async () => undefined,
      };
    },
  },
  {
    name: "first touch",
    rows: [
      {
        ...{ id: "touch", measure: "first touch of a mapped 1 GiB aperture on huge-page tmpfs", against: "the same in C, aligned" },
        ...{ unit: "µs", of: { side: "ours", figure: "microseconds" }, base: { side: "plain", figure: "microseconds" } },
        target: { atMost: 1.1 },
      },
    ],
    prepare: async (scale) => {
      const mapping = await baseline("mapping");
      const folder = mkdtempSync(join(tmpdir(), "aperture-bench-"));
      const mib = String(scale.pick(1024, 16));
      return {
        sides: ["plain", "ours"].map((name) => ({ name, measure: () => measured([mapping, "touch", name, mib, folder], apart.server) })),
        close: async () => rmSync(folder, { recursive: true }),
      };
    },
  },
];
