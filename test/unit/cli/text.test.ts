// The small renderers: sizes, tables, safe text, suggestions.

import assert from "node:assert/strict";
import { test } from "node:test";
import { writeList, writeOne, writeStep } from "../../../src/cli/output.js";
import { printable } from "../../../src/cli/printable.js";
import { hex, hexAndHuman, humanSize } from "../../../src/cli/size.js";
import { renderFacts, renderTable } from "../../../src/cli/table.js";
import { nearest } from "../../../src/nearest.js";
import { CapturedTerminal } from "./captured-terminal.js";

const ESCAPE = "\u001b";

test("sizes in hexadecimal and in the largest binary unit [pure]", () => {
  assert.equal(hexAndHuman(0x40000000n), "0x40000000 1 GiB");
  assert.equal(hex(0x302, 6), "0x000302");
  assert.equal(humanSize(0n), "0 B");
  assert.equal(humanSize(1023n), "1023 B");
  assert.equal(humanSize(4096n), "4 KiB");
  assert.equal(humanSize(0x50000000n), "1.25 GiB");
  assert.equal(humanSize(0x2f00f00000n), "188.01 GiB");
  assert.equal(humanSize(1536n), "1.5 KiB");
  assert.equal(humanSize(2n ** 64n - 1n), "16 EiB");
});

test("a table aligns, fills empty cells and paints without moving columns [pure]", () => {
  const columns = [{ title: "NAME" }, { title: "N", align: "right" as const }, { title: "STATE" }];
  const rows = [
    ["a", "100", { text: "FREE", colour: "green" as const }],
    ["longer", "", "HELD"],
  ];
  assert.equal(renderTable(columns, rows, false), "NAME      N  STATE\na       100  FREE\nlonger    -  HELD\n");
  const painted = renderTable(columns, rows, true);
  assert.ok(painted.includes(`${ESCAPE}[32mFREE${ESCAPE}[0m`));
  const plain = painted.split(ESCAPE).map((part, index) => (index === 0 ? part : part.replace(/^\[\d+m/, "")));
  assert.equal(plain.join(""), renderTable(columns, rows, false));
});

test("facts stand in two columns [pure]", () => {
  assert.equal(
    renderFacts(
      [
        ["a", "1"],
        ["long", ""],
      ],
      false,
    ),
    "  a     1\n  long  -\n",
  );
});

test("nothing that a peer wrote reaches the terminal as control or invisible text [pure]", () => {
  assert.equal(printable("plain ü 漢"), "plain ü 漢");
  assert.equal(printable("\u001b[2Jx\n\t\u0000\u009b"), "\\x1b[2Jx\\x0a\\x09\\x00\\x9b");
  assert.equal(printable("a\u202eb\u200bc\ufeff"), "a\\u{202e}b\\u{200b}c\\u{feff}");
  assert.equal(printable("x".repeat(300)).length, 257);
  assert.ok(!renderTable([{ title: "T" }], [["\u001b]0;evil\u0007"]], true).includes("\u001b]"));
});

test("suggestions are near or none [pure]", () => {
  const known = ["devices", "device", "release", "leases", "exec"];
  assert.equal(nearest("devcies", known), "devices");
  assert.equal(nearest("relase", known), "release");
  assert.equal(nearest("LEASES", known), "leases");
  assert.equal(nearest("exce", known), "exec");
  assert.equal(nearest("zzzz", known), null);
  assert.equal(nearest("x", known), null);
});

test("data goes to stdout in the form asked for; 64-bit numbers are strings [pure]", () => {
  const items = [
    { value: { size: 2n ** 53n + 1n, at: new Date(0) }, name: "a" },
    { value: { size: 1n, text: "\u009b\u202e\u001b" }, name: "b\u001b" },
  ];
  const shown = (format: "table" | "json" | "jsonl" | "name"): string => {
    const io = new CapturedTerminal();
    writeList(io.terminal, format, items, () => "TABLE\n");
    assert.equal(io.errors, "");
    return io.out;
  };
  assert.equal(shown("table"), "TABLE\n");
  assert.equal(shown("name"), "a\nb\\x1b\n");
  assert.equal(
    shown("jsonl"),
    '{"size":"9007199254740993","at":"1970-01-01T00:00:00.000Z"}\n{"size":"1","text":"\\u009b\\u202e\\u001b"}\n',
  );
  assert.deepEqual(JSON.parse(shown("json")), JSON.parse(`[${shown("jsonl").trim().split("\n").join(",")}]`));
  const one = new CapturedTerminal();
  writeOne(one.terminal, "json", { value: { a: 1 }, name: "x" }, () => "");
  assert.deepEqual(JSON.parse(one.out), { a: 1 });
  const step = new CapturedTerminal();
  writeStep(step.terminal, "json", { value: { a: 1 }, name: "x" }, () => "");
  assert.equal(step.out, '{"a":1}\n');
});

test("colour is for people: only on a terminal, never with NO_COLOR or a dumb terminal [pure]", () => {
  const painted = (env: Record<string, string>, isTTY: boolean): boolean => {
    const io = new CapturedTerminal(env, isTTY);
    io.terminal.message("x", "red");
    assert.equal(io.terminal.colour, io.errors.includes("\u001b"));
    return io.terminal.colour;
  };
  assert.equal(painted({}, true), true);
  assert.equal(painted({}, false), false);
  assert.equal(painted({ NO_COLOR: "1" }, true), false);
  assert.equal(painted({ NO_COLOR: "" }, true), true);
  assert.equal(painted({ TERM: "dumb" }, true), false);
});
