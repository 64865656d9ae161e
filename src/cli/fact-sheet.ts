// Groups of facts with where each comes from: name, value, source, as wide as the terminal.

import { type Cell, length, shown, wrapped } from "./table.js";
import { type Look, paint } from "./terminal.js";

export interface Fact {
  readonly name: string;
  readonly value: Cell;
  /** A file of sysfs, a call of VFIO, ...: who says so. Empty: nobody but aperturectl. */
  readonly source: string;
}

export interface FactGroup {
  readonly title: string;
  readonly facts: readonly Fact[];
}

const INDENT = "  ";
const GAP = "  ";
/** Values get no less; where that leaves no room for a column of sources, each source stands behind its value. */
const LEAST_VALUE = 30;

export function renderFactGroups(groups: readonly FactGroup[], look: Look): string {
  const all = groups.flatMap(({ facts }) => facts);
  const names = Math.max(0, ...all.map(({ name }) => name.length));
  const sources = Math.max(0, ...all.map(({ source }) => length(shown(source).text)));
  const room = look.width - INDENT.length - names - GAP.length;
  const beside = room - sources - GAP.length >= LEAST_VALUE;
  const longest = Math.max(LEAST_VALUE, ...all.map(({ value }) => length(shown(value).text)));
  const value = beside ? Math.min(longest, room - sources - GAP.length) : room;
  return groups
    .filter(({ facts }) => facts.length > 0)
    .map(({ title, facts }) => {
      const lines = facts.flatMap((fact) => factLines(fact, { names, value, beside }, look));
      return `\n${paint(title, "bold", look.colour)}\n${lines.join("")}`;
    })
    .join("");
}

interface Columns {
  readonly names: number;
  readonly value: number;
  readonly beside: boolean;
}

function factLines(fact: Fact, { names, value, beside }: Columns, look: Look): readonly string[] {
  const { text, colour } = shown(fact.value);
  const source = fact.source === "" ? "" : shown(fact.source).text;
  const lines = wrapped(text, value);
  const behind = !beside && source !== "" ? wrapped(`(${source})`, value).map((line) => paint(line, "dim", look.colour)) : [];
  return [...lines.map((line) => paint(line, colour, look.colour)), ...behind].map((line, at) => {
    const name = paint((at === 0 ? fact.name : "").padEnd(names), "dim", look.colour);
    const plain = length(lines[at] ?? "");
    const right =
      beside && at === 0 && source !== "" ? `${" ".repeat(Math.max(0, value - plain))}${GAP}${paint(source, "dim", look.colour)}` : "";
    return `${INDENT}${name}${GAP}${line}${right}`.trimEnd().concat("\n");
  });
}
