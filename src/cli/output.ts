// One result in the format that was asked for. In JSON 64-bit numbers are decimal strings and times are RFC 3339, as in protobuf's own JSON.

import { printable, printableJson } from "./printable.js";
import type { Terminal } from "./terminal.js";

export const OUTPUT_FORMATS = ["table", "json", "jsonl", "name"] as const;

export type OutputFormat = (typeof OUTPUT_FORMATS)[number];

/** One thing to show: its whole value for programs, its name for scripts. */
export interface Item {
  readonly value: unknown;
  readonly name: string;
}

/** Many things: json is one array. */
export function writeList(terminal: Terminal, format: OutputFormat, items: readonly Item[], table: () => string): void {
  if (format === "json")
    terminal.out(
      `${toJson(
        items.map(({ value }) => value),
        2,
      )}\n`,
    );
  else if (format === "table") terminal.out(table());
  else for (const item of items) writeLine(terminal, format, item);
}

/** One thing: json is one object. */
export function writeOne(terminal: Terminal, format: OutputFormat, item: Item, table: () => string): void {
  if (format === "json") terminal.out(`${toJson(item.value, 2)}\n`);
  else if (format === "table") terminal.out(table());
  else writeLine(terminal, format, item);
}

/** One step of a stream, which has no closing bracket to wait for: json is a line each, as jsonl. */
export function writeStep(terminal: Terminal, format: OutputFormat, item: Item, line: () => string): void {
  if (format === "table") terminal.out(line());
  else writeLine(terminal, format === "name" ? "name" : "jsonl", item);
}

function writeLine(terminal: Terminal, format: "jsonl" | "name", item: Item): void {
  terminal.out(format === "name" ? `${printable(item.name)}\n` : `${toJson(item.value, 0)}\n`);
}

function toJson(value: unknown, indent: number): string {
  return printableJson(JSON.stringify(value, (_key, part: unknown) => (typeof part === "bigint" ? part.toString() : part), indent));
}
