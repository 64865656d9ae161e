// Where a key stands in a TOML text. The parser gives values without places, so the line is found in the text: a key in its table, in order. A key inside an inline
// table is told with the line of that table.

export class TomlLines {
  readonly #lines: readonly string[];

  constructor(source: string) {
    this.#lines = source.split("\n");
  }

  /** Line of a setting, `name` or `table.name`; of its table when the key itself is not found; else 1. */
  of(name: string): number {
    const dot = name.lastIndexOf(".");
    const table = dot < 0 ? "" : name.slice(0, dot);
    const key = name.slice(dot + 1);
    let current = "";
    let ofTable = 1;
    for (const [i, line] of this.#lines.entries()) {
      const header = /^\s*\[\[?\s*([^\]]+?)\s*\]\]?/.exec(line);
      if (header?.[1]) {
        current = header[1];
        if (current === name) return i + 1;
        if (current === table) ofTable = i + 1;
        continue;
      }
      const found = keyOf(line);
      if ((current === table && found === key) || (current === "" && found === name)) return i + 1;
      if (current === "" && found === table) ofTable = i + 1;
    }
    return ofTable;
  }

  /** Line of a key in the index-th [[name]] table; of its header when key is null or not there. */
  inTable(name: string, index: number, key: string | null): number {
    let table = -1;
    let header = this.of(name);
    for (const [i, line] of this.#lines.entries()) {
      const begun = /^\s*\[\[\s*([^\]]+?)\s*\]\]/.exec(line);
      if (begun !== null) {
        if (begun[1] === name) table += 1;
        if (begun[1] === name && table === index) header = i + 1;
        // A table of another name ends this one.
        else if (table === index) return header;
      } else if (table === index && key !== null && keyOf(line) === key) return i + 1;
    }
    return header;
  }
}

function keyOf(line: string): string | null {
  const match = /^\s*(?:"([^"]+)"|([A-Za-z0-9_.-]+))\s*=/.exec(line);
  return match?.[1] ?? match?.[2] ?? null;
}
