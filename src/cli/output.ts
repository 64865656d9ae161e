// One result in the format that was asked for. In JSON and YAML 64-bit numbers are decimal strings, times are RFC 3339 and bytes are base64, as in protobuf's own JSON.

import { isUnsafe, printable, printableJson } from "./printable.js";
import type { Terminal } from "./terminal.js";

/** Each format with what it is for. */
export const FORMATS = {
  table: "for people; its columns may change",
  json: "one JSON value: an array for a list, an object for one thing; a line each for a stream",
  jsonl: "one JSON object a line",
  yaml: "one YAML document; one each for a stream",
  name: "addresses or ids alone, one a line",
} as const;

export type OutputFormat = keyof typeof FORMATS;

export const OUTPUT_FORMATS = Object.keys(FORMATS) as readonly OutputFormat[];

/** One thing to show: its whole value for programs, its name for scripts. */
export interface Item {
  readonly value: unknown;
  readonly name: string;
}

/** Many things: json is one array. */
export async function writeList(terminal: Terminal, format: OutputFormat, items: readonly Item[], table: () => string): Promise<void> {
  const values = items.map(({ value }) => value);
  if (format === "table") terminal.out(table());
  else if (format === "json") terminal.out(`${toJson(values, 2)}\n`);
  else if (format === "yaml") terminal.out(await toYaml(values));
  else for (const item of items) writeLine(terminal, format, item);
}

/** One thing: json is one object. */
export async function writeOne(terminal: Terminal, format: OutputFormat, item: Item, table: () => string): Promise<void> {
  if (format === "table") terminal.out(table());
  else if (format === "json") terminal.out(`${toJson(item.value, 2)}\n`);
  else if (format === "yaml") terminal.out(await toYaml(item.value));
  else writeLine(terminal, format, item);
}

/** One step of a stream, which has no closing bracket to wait for: json is a line each, as jsonl, and yaml a document each. */
export async function writeStep(terminal: Terminal, format: OutputFormat, item: Item, line: () => string): Promise<void> {
  if (format === "table") terminal.out(line());
  else if (format === "yaml") terminal.out(`---\n${await toYaml(item.value)}`);
  else writeLine(terminal, format === "name" ? "name" : "jsonl", item);
}

function writeLine(terminal: Terminal, format: "jsonl" | "name", item: Item): void {
  terminal.out(format === "name" ? `${printable(item.name)}\n` : `${toJson(item.value, 0)}\n`);
}

function toJson(value: unknown, indent: number): string {
  return printableJson(JSON.stringify(value, plainPart, indent));
}

/** Loaded when it is asked for. */
async function toYaml(value: unknown): Promise<string> {
  const { Document, visit } = await import("yaml");
  const document = new Document(JSON.parse(JSON.stringify(value, plainPart)));
  visit(document, {
    Scalar: (_key, scalar) => {
      // In double quotes the escapes of printableJson are YAML's own too.
      if (typeof scalar.value === "string" && isUnsafe(scalar.value)) scalar.type = "QUOTE_DOUBLE";
    },
  });
  return printableJson(document.toString({ lineWidth: 0 }));
}

function plainPart(_key: string, part: unknown): unknown {
  if (typeof part === "bigint") return part.toString();
  return part instanceof Uint8Array ? Buffer.from(part).toString("base64") : part;
}
