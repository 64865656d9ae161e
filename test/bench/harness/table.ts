// The one table of a run, as text for a terminal and as Markdown for a page.

import type { Target } from "./case.js";
import type { BenchResults, GrowthResult, RowResult } from "./results.js";
import type { Spread } from "./statistics.js";

const HEAD = ["measure", "Aperture", "against", "its figure", "ratio [min–max]", "target", "verdict"] as const;

/** Three digits, or whole with thousands apart. */
export function shown(value: number): string {
  if (!Number.isFinite(value)) return "-";
  if (Math.abs(value) >= 1_000) return Math.round(value).toLocaleString("en-US");
  return Number(value.toPrecision(3)).toString();
}

function withUnit(spread: Spread | null, unit: string): string {
  if (spread === null) return "-";
  return unit === "" ? shown(spread.median) : unit.startsWith("/") ? `${shown(spread.median)}${unit}` : `${shown(spread.median)} ${unit}`;
}

function range({ median, min, max }: Spread): string {
  return min === max ? shown(median) : `${shown(median)} [${shown(min)}–${shown(max)}]`;
}

function targetText(target: Target | null): string {
  if (target === null) return "-";
  return "atMost" in target ? `≤ ${target.atMost}` : `≥ ${target.atLeast}`;
}

function firstLine(text: string): string {
  return text.split("\n")[0] ?? "";
}

function verdictText({ verdict, why }: Pick<RowResult, "verdict" | "why">): string {
  return why === "" ? verdict : `${verdict}: ${firstLine(why)}`;
}

function rowCells(row: RowResult): readonly string[] {
  const { measure, against, unit, value, base, ratio } = row;
  const ratioText = ratio === null ? (value === null ? "-" : range(value)) : range(ratio);
  return [measure, withUnit(value, unit), against || "-", withUnit(base, unit), ratioText, targetText(row.target), verdictText(row)];
}

function growthCells(growth: GrowthResult): readonly string[] {
  const { measure, over, unit, points, exponent, atMost } = growth;
  const values = points.map(({ x, y }) => `${shown(x)}: ${withUnit(y, unit)}`).join(", ");
  const fitted = exponent === null ? "-" : `exponent ${exponent.toFixed(2)}`;
  return [`${measure}, by ${over}`, values || "-", "-", "-", fitted, `exponent ≤ ${atMost}`, verdictText(growth)];
}

function cells(results: BenchResults): readonly (readonly string[])[] {
  return [...results.rows.map(rowCells), ...results.growth.map(growthCells)];
}

export function textTable(results: BenchResults): string {
  const rows = [HEAD, ...cells(results)];
  const widths = HEAD.map((_, column) => Math.max(...rows.map((row) => (row[column] ?? "").length)));
  return rows
    .map((row) =>
      row
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join("  ")
        .trimEnd(),
    )
    .join("\n");
}

export function markdownTable(results: BenchResults): string {
  const line = (row: readonly string[]): string => `| ${row.map((cell) => cell.replaceAll("|", "\\|")).join(" | ")} |`;
  return [line(HEAD), line(HEAD.map(() => "---")), ...cells(results).map(line)].join("\n");
}

export function heading({ machine, rounds, measurements, disturbed, seconds, quick }: BenchResults): string {
  const where = machine.apart ? "server and client on a processor each" : "server and client on one processor";
  const calm = disturbed === 0 ? "" : `, ${disturbed} of ${measurements} begun while something else ran`;
  return [
    `${machine.date} UTC · ${machine.revision} · Linux ${machine.kernel} · Node ${machine.node} · ${machine.compiler}`,
    `${machine.processors} × ${machine.processor}${machine.hypervisor ? ", a virtual machine" : ""} · ${machine.memoryGib} GiB · ${where}`,
    quick
      ? "quick: this shows that every case runs; its figures mean nothing"
      : `${rounds} rounds${calm} · ${Math.round(seconds / 60)} min`,
  ].join("\n");
}
