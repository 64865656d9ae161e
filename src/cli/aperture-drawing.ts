// Apertures drawn to scale: what of the padded size is memory, what is hole, what is tail, and what a mapping of it is. Each aperture has its own scale, because a
// register BAR beside 128 GiB would not be seen; a part that is too small for the scale still has one cell.

import type { Region } from "../client/index.js";
import { humanSize } from "./size.js";
import { type Colour, type Look, paint } from "./terminal.js";

type Part = Region["memoryType"] | "HOLE" | "TAIL";

interface Glyph {
  readonly unicode: string;
  readonly ascii: string;
  readonly colour: Colour;
  readonly means: string;
}

const GLYPHS: Readonly<Record<Part, Glyph>> = {
  WRITE_BACK: { unicode: "█", ascii: "#", colour: "green", means: "write-back: cacheable, as ordinary memory" },
  WRITE_COMBINE: { unicode: "▓", ascii: "=", colour: "cyan", means: "write-combine: not cached, writes are combined" },
  DEVICE: { unicode: "▒", ascii: ":", colour: "yellow", means: "device: not cached, every access reaches the device" },
  UNSPECIFIED: { unicode: "▚", ascii: "?", colour: "plain", means: "can be mapped; the table has no memory type for its driver" },
  HOLE: { unicode: "╳", ascii: "x", colour: "red", means: "hole: cannot be mapped, read and write it by pread and pwrite" },
  TAIL: { unicode: "░", ascii: ".", colour: "dim", means: "tail: no memory behind it, reads 0xFF, cannot be mapped" },
};

const MARGIN = "  ";
const NARROWEST = 16;
const WIDEST = 120;

interface Segment {
  readonly part: Part;
  readonly start: bigint;
  readonly end: bigint;
}

/** The mappable regions, each a bar with its boundaries, and a legend of what occurs. Empty when nothing can be mapped. */
export function drawApertures(regions: readonly Region[], look: Look): string {
  const drawn = regions.filter(({ mappable, size }) => mappable && size > 0n).map((region) => ({ region, segments: segmentsOf(region) }));
  if (drawn.length === 0) return "";
  const cells = Math.max(NARROWEST, Math.min(look.width, WIDEST) - 2 * MARGIN.length - 2);
  const bars = drawn.map(({ region, segments }) => drawOne(region, segments, cells, look));
  const parts = (Object.keys(GLYPHS) as Part[]).filter((part) =>
    drawn.some(({ segments }) => segments.some((segment) => segment.part === part)),
  );
  const legend = parts.map((part) => `${MARGIN}${glyph(part, look)} ${GLYPHS[part].means}\n`);
  return [...bars, ...legend].join("");
}

function drawOne(region: Region, segments: readonly Segment[], cells: number, look: Look): string {
  const widths = cellsOf(segments, region.size, cells);
  const bar = segments
    .map(({ part }, index) => paint(sign(part, look).repeat(widths[index] ?? 0), GLYPHS[part].colour, look.colour))
    .join("");
  const [left, right] = look.unicode ? ["▕", "▏"] : ["[", "]"];
  const title = `region ${region.index}${region.bar === null ? "" : ` (BAR ${region.bar})`}, ${humanSize(region.size)}`;
  return `${MARGIN}${paint(title, "bold", look.colour)}\n${MARGIN}${left}${bar}${right}\n${MARGIN} ${ticks(segments, widths, region.size, cells)}\n`;
}

/** From 0 to the padded size, without a gap. Areas come in order and do not overlap; what a daemon says against that is cut. */
function segmentsOf(region: Region): readonly Segment[] {
  const segments: Segment[] = [];
  let at = 0n;
  const add = (part: Part, upTo: bigint): void => {
    const end = upTo < region.size ? upTo : region.size;
    if (end <= at) return;
    segments.push({ part, start: at, end });
    at = end;
  };
  for (const { offset, size } of region.areas) {
    add("HOLE", offset);
    add(region.memoryType, offset + size);
  }
  add("HOLE", region.backedSize);
  add("TAIL", region.size);
  return segments;
}

/** Cells of each segment: in proportion, at least one, together all. More segments than cells: those that lie under the middle of a cell. */
function cellsOf(segments: readonly Segment[], size: bigint, cells: number): readonly number[] {
  if (segments.length > cells) return sampled(segments, size, cells);
  const widths = segments.map(({ start, end }) => Math.max(1, Number(((end - start) * BigInt(cells) + size / 2n) / size)));
  let rest = cells - widths.reduce((sum, width) => sum + width, 0);
  while (rest !== 0) {
    const largest = widths.indexOf(Math.max(...widths));
    const step = Math.sign(rest);
    widths[largest] = (widths[largest] ?? 0) + step;
    rest -= step;
  }
  return widths;
}

function sampled(segments: readonly Segment[], size: bigint, cells: number): readonly number[] {
  const widths = segments.map(() => 0);
  for (let cell = 0; cell < cells; cell++) {
    const middle = (size * BigInt(2 * cell + 1)) / BigInt(2 * cells);
    const index = segments.findIndex(({ end }) => middle < end);
    widths[index] = (widths[index] ?? 0) + 1;
  }
  return widths;
}

/** Where parts begin, as far as there is room: the ends first, then from the left. */
function ticks(segments: readonly Segment[], widths: readonly number[], size: bigint, cells: number): string {
  const line = Array.from({ length: cells }, () => " ");
  const put = (text: string, at: number): void => {
    const room = line.slice(Math.max(0, at - 1), at + text.length + 1);
    if (at < 0 || at + text.length > cells || room.some((character) => character !== " ")) return;
    line.splice(at, text.length, ...text);
  };
  const last = humanSize(size);
  put("0", 0);
  put(last, cells - last.length);
  let column = 0;
  for (const [index, { start }] of segments.entries()) {
    if (index > 0) put(humanSize(start), column);
    column += widths[index] ?? 0;
  }
  return line.join("").trimEnd();
}

function sign(part: Part, look: Look): string {
  return look.unicode ? GLYPHS[part].unicode : GLYPHS[part].ascii;
}

function glyph(part: Part, look: Look): string {
  return paint(sign(part, look), GLYPHS[part].colour, look.colour);
}
