// The small renderers: sizes, tables, safe text, suggestions.

import assert from "node:assert/strict";
import { test } from "node:test";
import { parse } from "yaml";
import { type OutputFormat, writeList, writeOne, writeStep } from "../../../src/cli/output.js";
import { printable } from "../../../src/cli/printable.js";
import { hex, hexAndHuman, humanSize } from "../../../src/cli/size.js";
import { renderFacts, renderTable } from "../../../src/cli/table.js";
import { nearest } from "../../../src/nearest.js";
import { CapturedTerminal, PAINTED, PLAIN, screen } from "./captured-terminal.js";

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
  assert.equal(renderTable(columns, rows, PLAIN), "NAME      N  STATE\na       100  FREE\nlonger    -  HELD\n");
  const painted = renderTable(columns, rows, PAINTED);
  assert.ok(painted.includes(`${ESCAPE}[32mFREE${ESCAPE}[0m`));
  const plain = painted.split(ESCAPE).map((part, index) => (index === 0 ? part : part.replace(/^\[\d+m/, "")));
  assert.equal(plain.join(""), renderTable(columns, rows, PLAIN));
});

test("on a terminal a table gives way where it may, and nowhere else [pure]", () => {
  const columns = [{ title: "ADDRESS" }, { title: "NAME", least: 0 }, { title: "DRIVER", least: 4 }, { title: "WHY" }];
  const rows = [["0000:01:00.0", "a long name of it", "nvgrace_gpu", "because"]];
  const lines = (width: number, unicode = true): readonly string[] => renderTable(columns, rows, screen(width, unicode)).trim().split("\n");
  assert.deepEqual(lines(53), [
    "ADDRESS       NAME               DRIVER       WHY",
    "0000:01:00.0  a long name of it  nvgrace_gpu  because",
  ]);
  assert.equal(lines(45)[1], "0000:01:00.0  a long n…  nvgrace_gpu  because");
  assert.equal(lines(45, false)[1], "0000:01:00.0  a long n~  nvgrace_gpu  because");
  assert.equal(lines(36)[1], "0000:01:00.0  nvgrace_gpu  because");
  assert.equal(lines(30)[1], "0000:01:00.0  nvgrac…  because");
  assert.equal(lines(10)[1], "0000:01:00.0  nvg…  because", "an address is never cut");
  assert.equal(renderTable(columns, rows, { ...screen(10), interactive: false }), renderTable(columns, rows, screen(200)));
});

test("facts stand in two columns [pure]", () => {
  assert.equal(
    renderFacts(
      [
        ["a", "1"],
        ["long", ""],
      ],
      PLAIN,
    ),
    "  a     1\n  long  -\n",
  );
});

test("nothing that a peer wrote reaches the terminal as control or invisible text [pure]", () => {
  assert.equal(printable("plain ü 漢"), "plain ü 漢");
  assert.equal(printable("\u001b[2Jx\n\t\u0000\u009b"), "\\x1b[2Jx\\x0a\\x09\\x00\\x9b");
  assert.equal(printable("a\u202eb\u200bc\ufeff"), "a\\u{202e}b\\u{200b}c\\u{feff}");
  assert.equal(printable("x".repeat(300)).length, 257);
  assert.ok(!renderTable([{ title: "T" }], [["\u001b]0;evil\u0007"]], PAINTED).includes("\u001b]"));
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

const ITEMS = [
  { value: { size: 2n ** 53n + 1n, at: new Date(0), raw: Uint8Array.of(1, 2, 255) }, name: "a" },
  { value: { size: 1n, text: "\u009b\u202e\u001b\n- x: ", bidi: "a\u202eb", plain: "yes", long: "y".repeat(200) }, name: "b\u001b" },
];

async function written(format: OutputFormat): Promise<string> {
  const io = new CapturedTerminal();
  await writeList(io.terminal, format, ITEMS, () => "TABLE\n");
  assert.equal(io.errors, "");
  return io.out;
}

test("data goes to stdout in the form asked for; 64-bit numbers are strings, bytes base64 [pure]", async () => {
  assert.equal(await written("table"), "TABLE\n");
  assert.equal(await written("name"), "a\nb\\x1b\n");
  const lines = (await written("jsonl")).trim().split("\n");
  assert.equal(lines[0], '{"size":"9007199254740993","at":"1970-01-01T00:00:00.000Z","raw":"AQL/"}');
  assert.ok(lines[1]?.includes('"text":"\\u009b\\u202e\\u001b\\n- x: "'), lines[1]);
  assert.deepEqual(JSON.parse(await written("json")), JSON.parse(`[${lines.join(",")}]`));
});

test("YAML says what JSON says, also of hostile strings, and holds no control character itself [pure]", async () => {
  const yaml = await written("yaml");
  assert.deepEqual(parse(yaml), JSON.parse(await written("json")));
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for.
  assert.doesNotMatch(yaml.replaceAll("\n", ""), /[\u0000-\u001f\u007f-\u009f\u202e]/);
  assert.match(yaml, /^- size: "9007199254740993"$/m);
});

test("one thing is one document; a stream is a line or a document each [pure]", async () => {
  const shown = async (write: typeof writeOne | typeof writeStep, format: OutputFormat): Promise<string> => {
    const io = new CapturedTerminal();
    await write(io.terminal, format, { value: { a: 1 }, name: "x" }, () => "T\n");
    return io.out;
  };
  const formats = ["table", "json", "jsonl", "yaml", "name"] as const;
  assert.deepEqual(await Promise.all(formats.map((format) => shown(writeOne, format))), [
    "T\n",
    '{\n  "a": 1\n}\n',
    '{"a":1}\n',
    "a: 1\n",
    "x\n",
  ]);
  assert.deepEqual(await Promise.all(formats.map((format) => shown(writeStep, format))), [
    "T\n",
    '{"a":1}\n',
    '{"a":1}\n',
    "---\na: 1\n",
    "x\n",
  ]);
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
