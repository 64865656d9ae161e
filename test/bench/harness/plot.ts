// Plots of growth, as SVG written by hand: both axes logarithmic, a line for each series, every point with its range and its value, and beside each series the exponent that fits it.

import type { GrowthResult } from "./results.js";
import { shown } from "./table.js";

const SIZE = { width: 760, height: 440, left: 92, right: 34, top: 62, bottom: 56 } as const;
/** Distinct also without colour vision (Okabe and Ito). */
const COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7"] as const;
const DASHES = ["", "7 4", "2 3", "9 3 2 3"] as const;

interface Axis {
  /** Pixel of a value. */
  at(value: number): number;
  readonly ticks: readonly number[];
}

/** Reaches from the least to the greatest value, widened by `room`; marked at every decade, and at 2 and 5 as well where there are few. */
function axis(values: readonly number[], from: number, to: number, room: number): Axis {
  const [low, high] = [Math.min(...values) / room, Math.max(...values) * room];
  const first = Math.floor(Math.log10(low));
  const decades = Array.from({ length: Math.ceil(Math.log10(high)) - first + 1 }, (_, i) => 10 ** (first + i));
  const steps = decades.length > 4 ? [1] : [1, 2, 5];
  const ticks = decades.flatMap((decade) => steps.map((step) => decade * step)).filter((tick) => tick >= low && tick <= high);
  const at = (value: number): number => from + (Math.log(value / low) / Math.log(high / low)) * (to - from);
  return { at, ticks };
}

function escaped(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}

function text(x: number, y: number, content: string, more = ""): string {
  return `<text x="${x.toFixed(1)}" y="${y.toFixed(1)}" ${more}>${escaped(content)}</text>`;
}

function line(x1: number, y1: number, x2: number, y2: number, stroke: string, more = ""): string {
  const at = { x1, y1, x2, y2 };
  const coordinates = Object.entries(at).map(([name, value]) => `${name}="${value.toFixed(1)}"`);
  return `<line ${coordinates.join(" ")} stroke="${stroke}" ${more}/>`;
}

function grid(x: Axis, y: Axis, over: string, unit: string): string[] {
  const { width, height, left, right, top, bottom } = SIZE;
  const floor = height - bottom;
  return [
    ...x.ticks.flatMap((tick) => [
      line(x.at(tick), top, x.at(tick), floor, "#e3e3e3"),
      text(x.at(tick), floor + 18, shown(tick), 'text-anchor="middle"'),
    ]),
    ...y.ticks.flatMap((tick) => [
      line(left, y.at(tick), width - right, y.at(tick), "#e3e3e3"),
      text(left - 8, y.at(tick) + 4, shown(tick), 'text-anchor="end"'),
    ]),
    line(left, floor, width - right, floor, "#555"),
    line(left, top, left, floor, "#555"),
    text((left + width - right) / 2, height - 14, `${over} (logarithmic)`, 'text-anchor="middle"'),
    text(0, 0, `${unit} (logarithmic)`, `text-anchor="middle" transform="translate(20 ${(top + floor) / 2}) rotate(-90)"`),
  ];
}

/** Where a point's value stands: above the uppermost series at that place, below the others, and to the side from which the line does not come. */
function label(growth: GrowthResult, all: readonly GrowthResult[], i: number, x: Axis, y: Axis): { x: number; y: number; anchor: string } {
  const point = growth.points[i];
  if (point === undefined) throw new RangeError("no such point");
  const others = all.filter((other) => other !== growth).flatMap(({ points }) => points.filter((other) => other.x === point.x));
  const above = others.every((other) => other.y.median <= point.y.median) && (i > 0 || others.length > 0);
  const next = growth.points[i + 1];
  const rises = next !== undefined && y.at(point.y.median) - y.at(next.y.median) > 25;
  const anchor = i === 0 ? "start" : above === rises || next === undefined ? "end" : "middle";
  return { x: x.at(point.x) + (i === 0 ? 8 : 0), y: above ? y.at(point.y.max) - 9 : y.at(point.y.min) + 19, anchor };
}

function series(growth: GrowthResult, all: readonly GrowthResult[], x: Axis, y: Axis): string[] {
  const index = all.indexOf(growth);
  const colour = COLOURS[index % COLOURS.length] ?? "#000";
  const dash = DASHES[index % DASHES.length] ?? "";
  const points = growth.points.map((point) => ({ ...point, px: x.at(point.x), py: y.at(point.y.median) }));
  const path = points.map(({ px, py }) => `${px.toFixed(1)},${py.toFixed(1)}`).join(" ");
  const legend = SIZE.top - 22 - 18 * index;
  const exponent = growth.exponent === null ? "" : `: grows with the power ${growth.exponent.toFixed(2)}`;
  const stroke = `stroke-width="2"${dash === "" ? "" : ` stroke-dasharray="${dash}"`}`;
  // White around the digits, so that a line behind them does not hide them.
  const halo = `fill="${colour}" stroke="#fff" stroke-width="4" paint-order="stroke"`;
  return [
    `<polyline points="${path}" fill="none" stroke="${colour}" ${stroke}/>`,
    ...points.flatMap(({ px, py, y: spread }, i) => {
      const at = label(growth, all, i, x, y);
      return [
        line(px, y.at(spread.min), px, y.at(spread.max), colour, 'stroke-width="6" stroke-opacity="0.35"'),
        `<circle cx="${px.toFixed(1)}" cy="${py.toFixed(1)}" r="4" fill="${colour}"/>`,
        text(at.x, at.y, `${shown(spread.median)} ${growth.unit}`, `text-anchor="${at.anchor}" ${halo}`),
      ];
    }),
    line(SIZE.left, legend - 4, SIZE.left + 34, legend - 4, colour, stroke),
    text(SIZE.left + 42, legend, `${growth.measure}${exponent}`, 'font-weight="bold"'),
  ];
}

/** One picture of all series over the same thing; null when none has a point. */
export function plot(all: readonly GrowthResult[]): string | null {
  const drawn = all.filter(({ points }) => points.length > 0).sort((a, b) => last(b) - last(a));
  const [first] = drawn;
  if (first === undefined) return null;
  const { width, height, left, right, top, bottom } = SIZE;
  const points = drawn.flatMap((growth) => growth.points);
  const x = axis(
    points.map((point) => point.x),
    left,
    width - right,
    1.3,
  );
  const y = axis(
    points.flatMap(({ y: { min, max } }) => [min, max]),
    height - bottom,
    top,
    2,
  );
  const style = 'font-family="Helvetica, Arial, sans-serif" font-size="13" fill="#222"';
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" ${style}>`,
    `<title>${escaped(`${drawn.map(({ measure }) => measure).join("; ")}, by ${first.over}`)}</title>`,
    `<rect width="${width}" height="${height}" fill="#fff"/>`,
    ...grid(x, y, first.over, first.unit),
    ...drawn.flatMap((growth) => series(growth, drawn, x, y)),
    "</svg>",
    "",
  ].join("\n");
}

function last({ points }: GrowthResult): number {
  return points.at(-1)?.y.median ?? 0;
}
