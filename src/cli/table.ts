// Aligned columns. Cells are made printable here, so that no caller can forget it.

import { printable } from "./printable.js";
import { type Colour, type Look, paint } from "./terminal.js";

export interface StyledCell {
  readonly text: string;
  readonly colour: Colour;
}

export type Cell = string | StyledCell;

export interface Column {
  readonly title: string;
  readonly align?: "left" | "right";
  /** On a terminal that is too narrow the column is cut to as little as this many characters; 0: or left out. Default: never cut. */
  readonly least?: number;
}

const GAP = "  ";

/** A column that could be left out is, when less than this would be left of it. */
const WORTH_SHOWING = 6;

/** Header and rows, each ended by a newline; an empty cell shows as `-`, so that columns can be cut apart by white space. */
export function renderTable(columns: readonly Column[], rows: readonly (readonly Cell[])[], look: Look): string {
  const cells = rows.map((row) => columns.map((_, index) => shown(row[index] ?? "")));
  const natural = columns.map((column, index) => Math.max(column.title.length, ...cells.map((row) => length(row[index]?.text ?? ""))));
  const widths = look.interactive ? fitted(columns, natural, look.width) : natural;
  const line = (row: readonly StyledCell[]): string => {
    const fields = row.flatMap((cell, index) => {
      const width = widths[index] ?? 0;
      if (width === 0) return [];
      const text = cut(cell.text, width, look.unicode);
      const fill = " ".repeat(Math.max(0, width - length(text)));
      const painted = paint(text, cell.colour, look.colour);
      return [columns[index]?.align === "right" ? fill + painted : painted + fill];
    });
    return `${fields.join(GAP).trimEnd()}\n`;
  };
  return [line(columns.map(({ title }) => ({ text: title, colour: "dim" }))), ...cells.map(line)].join("");
}

/** `name   value` lines, for one thing with many facts. A value of several lines keeps its column. */
export function renderFacts(facts: readonly (readonly [name: string, value: Cell])[], look: Look): string {
  const width = Math.max(0, ...facts.map(([name]) => name.length));
  return facts
    .map(([name, value]) => {
      const cell = shown(value);
      const room = look.width - width - 4;
      const lines = look.interactive ? wrapped(cell.text, room) : [cell.text];
      return lines
        .map(
          (text, at) =>
            `  ${paint((at === 0 ? name : "").padEnd(width), "dim", look.colour)}${GAP}${paint(text, cell.colour, look.colour)}\n`,
        )
        .join("");
    })
    .join("");
}

/** The cell as it may be shown: printable, and never empty. */
export function shown(cell: Cell): StyledCell {
  const { text, colour } = typeof cell === "string" ? { text: cell, colour: "plain" as const } : cell;
  return { text: text === "" ? "-" : printable(text), colour };
}

/** Lines of at most width characters, broken at spaces where there are any. */
export function wrapped(text: string, width: number): readonly string[] {
  const room = Math.max(8, width);
  const lines: string[] = [];
  let rest = [...text];
  while (rest.length > room) {
    const space = rest.lastIndexOf(" ", room);
    const end = space > 0 ? space : room;
    lines.push(rest.slice(0, end).join(""));
    rest = rest.slice(space > 0 ? end + 1 : end);
  }
  return [...lines, rest.join("")];
}

/** Characters as they stand on the screen. */
export function length(text: string): number {
  return [...text].length;
}

/** The text cut to a width, with a sign that it is. */
export function cut(text: string, width: number, unicode: boolean): string {
  if (length(text) <= width) return text;
  const sign = unicode ? "…" : "~";
  return `${[...text].slice(0, Math.max(0, width - 1)).join("")}${sign}`;
}

function fitted(columns: readonly Column[], natural: readonly number[], width: number): readonly number[] {
  const widths = [...natural];
  const excess = (): number => {
    const there = widths.filter((each) => each > 0);
    return there.reduce((sum, each) => sum + each, 0) + GAP.length * (there.length - 1) - width;
  };
  for (const [index, { least }] of columns.entries()) {
    const over = excess();
    if (least === undefined || over <= 0) continue;
    const now = widths[index] ?? 0;
    const smaller = Math.min(now, Math.max(least, now - over));
    widths[index] = least === 0 && smaller < WORTH_SHOWING ? 0 : smaller;
  }
  return widths;
}
