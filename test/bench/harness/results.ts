// What a run has found, as it stands in the JSON file beside the table. Everything that is printed, plotted or written to docs/BENCHMARKS.md is made from it.

import type { Target } from "./case.js";
import type { Spread } from "./statistics.js";

export interface RowResult {
  readonly id: string;
  readonly measure: string;
  readonly against: string;
  readonly unit: string;
  readonly target: Target | null;
  /** null: not measured, or failed. */
  readonly value: Spread | null;
  readonly base: Spread | null;
  /** value ÷ base of the same round. */
  readonly ratio: Spread | null;
  readonly verdict: "met" | "not met" | "told" | "ran" | "not measured" | "failed";
  /** Of not measured and failed. */
  readonly why: string;
  /** Every round's figures of every side of its case. */
  readonly rounds: readonly Readonly<Record<string, Readonly<Record<string, number>>>>[];
}

export interface GrowthResult {
  readonly id: string;
  readonly measure: string;
  readonly unit: string;
  readonly over: string;
  readonly points: readonly { readonly x: number; readonly y: Spread }[];
  /** null with less than two points. */
  readonly exponent: number | null;
  readonly atMost: number;
  readonly verdict: RowResult["verdict"];
  readonly why: string;
}

export interface MachineFacts {
  readonly date: string;
  readonly kernel: string;
  readonly processor: string;
  readonly processors: number;
  readonly memoryGib: number;
  readonly node: string;
  readonly hypervisor: boolean;
  readonly compiler: string;
  /** Server and client each had a processor of their own. */
  readonly apart: boolean;
  readonly revision: string;
}

export interface BenchResults {
  readonly format: 1;
  readonly quick: boolean;
  readonly rounds: number;
  /** Measurements before which the machine did not become idle in time. */
  readonly disturbed: number;
  readonly measurements: number;
  readonly seconds: number;
  readonly machine: MachineFacts;
  readonly rows: readonly RowResult[];
  readonly growth: readonly GrowthResult[];
}
