// Aligned columns. Cells are made printable here, so that no caller can forget it.

import { printable } from "./printable.js";
import { type Colour, paint } from "./terminal.js";

export interface StyledCell {
  readonly text: string;
  readonly colour: Colour;
}

export type Cell = string | StyledCell;

export interface Column {
  readonly title: string;
  readonly align?: "left" | "right";
}

const GAP = "  ";

/** Header and rows, each ended by a newline; an empty cell shows as `-`, so that columns can be cut apart by white space. */
export function renderTable(columns: readonly Column[], rows: readonly (readonly Cell[])[], colour: boolean): string {
  const cells = rows.map((row) => columns.map((_, index) => shown(row[index] ?? "")));
  const widths = columns.map((column, index) => Math.max(column.title.length, ...cells.map((row) => [...(row[index]?.text ?? "")].length)));
  const line = (row: readonly StyledCell[]): string => {
    const fields = row.map((cell, index) => {
      const fill = " ".repeat(Math.max(0, (widths[index] ?? 0) - [...cell.text].length));
      const text = paint(cell.text, cell.colour, colour);
      return columns[index]?.align === "right" ? fill + text : text + fill;
    });
    return `${fields.join(GAP).trimEnd()}\n`;
  };
  return [line(columns.map(({ title }) => ({ text: title, colour: "dim" }))), ...cells.map(line)].join("");
}

/** `name   value` lines, for one thing with many facts. */
export function renderFacts(facts: readonly (readonly [name: string, value: Cell])[], colour: boolean): string {
  const width = Math.max(...facts.map(([name]) => name.length));
  return facts
    .map(([name, value]) => {
      const cell = shown(value);
      return `  ${paint(name.padEnd(width), "dim", colour)}${GAP}${paint(cell.text, cell.colour, colour)}\n`;
    })
    .join("");
}

function shown(cell: Cell): StyledCell {
  const { text, colour } = typeof cell === "string" ? { text: cell, colour: "plain" as const } : cell;
  return { text: text === "" ? "-" : printable(text), colour };
}
