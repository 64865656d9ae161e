import assert from "node:assert/strict";
import { test } from "node:test";
import { drawApertures } from "../../../src/cli/aperture-drawing.js";
import type { Region } from "../../../src/client/index.js";
import { PAINTED, screen } from "./captured-terminal.js";
import { REGION } from "./sample-device.js";

const WIDTHS = [40, 80, 120, 200] as const;

/** The bar's cells. */
function bar(regions: readonly Region[], width: number): string {
  const [, line = ""] = drawApertures(regions, screen(width, false)).split("\n");
  return /^ {2}\[(.*)\]$/.exec(line)?.[1] ?? assert.fail(line);
}

function count(cells: string, sign: string): number {
  return cells.split(sign).length - 1;
}

test("backed part and tail are to scale at every width, and no line is wider than the terminal [pure]", () => {
  const region = { ...REGION, size: 128n << 30n, backedSize: 95n << 30n, areas: [{ offset: 0n, size: 95n << 30n }] };
  for (const width of WIDTHS) {
    const cells = bar([region], width);
    assert.equal(cells.length, Math.min(width, 120) - 6, `${width}`);
    assert.ok(Math.abs(count(cells, "#") - (cells.length * 95) / 128) <= 1, cells);
    assert.match(cells, /^#+\.+$/);
    for (const line of drawApertures([region], screen(width)).trimEnd().split("\n").slice(0, 3)) assert.ok([...line].length <= width, line);
  }
  assert.match(drawApertures([region], screen(80, false)), /^ +0 +95 GiB +128 GiB$/m);
});

test("a part that is too small for the scale has one cell, a hole its own sign [pure]", () => {
  const page = 4096n;
  const size = 16n << 20n;
  const areas = [
    { offset: 0n, size: page },
    { offset: 2n * page, size: size - 3n * page },
  ];
  const cells = bar([{ ...REGION, size, backedSize: size - page, areas, memoryType: "DEVICE" }], 80);
  assert.match(cells, /^:x:+\.$/);
});

test("every memory type has its sign and its line in the legend, and only those that occur [pure]", () => {
  const types = { WRITE_BACK: "#", WRITE_COMBINE: "=", DEVICE: ":", UNSPECIFIED: "?" } as const;
  const whole = { ...REGION, backedSize: REGION.size, areas: [{ offset: 0n, size: REGION.size }] };
  for (const [memoryType, sign] of Object.entries(types)) {
    const text = drawApertures([{ ...whole, memoryType: memoryType as Region["memoryType"] }], screen(80, false));
    assert.equal(bar([{ ...whole, memoryType: memoryType as Region["memoryType"] }], 80), sign.repeat(74));
    assert.equal(text.split("\n").filter((line) => /^ {2}. /.test(line)).length, 1, text);
    assert.ok(text.includes(`\n  ${sign} `));
  }
});

test("without a UTF-8 locale the drawing is ASCII; with one it is drawn in blocks; colour changes no cell [pure]", () => {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: ASCII is the range that is meant.
  assert.match(drawApertures([REGION], screen(80, false)), /^[\x00-\x7f]*$/);
  assert.match(drawApertures([REGION], screen(80)), /▕█+░+▏/);
  // biome-ignore lint/suspicious/noControlCharactersInRegex: colour is taken off.
  const bare = drawApertures([REGION], { ...PAINTED, width: 80 }).replaceAll(/\u001b\[\d+m/g, "");
  assert.equal(bare, drawApertures([REGION], screen(80, false)));
});

test("what cannot be mapped is not drawn; nothing to draw is nothing [pure]", () => {
  assert.equal(drawApertures([{ ...REGION, mappable: false }], screen(80)), "");
  assert.equal(drawApertures([{ ...REGION, size: 0n }], screen(80)), "");
  assert.equal(drawApertures([], screen(80)), "");
});

test("areas that a daemon should never send end no drawing: beyond the end, out of order, overlapping, by the thousand [pure]", () => {
  const size = 1n << 20n;
  const wild: readonly (readonly { offset: bigint; size: bigint }[])[] = [
    [{ offset: 0n, size: 1n << 63n }],
    [{ offset: 1n << 62n, size: 4096n }],
    [
      { offset: 8192n, size: 4096n },
      { offset: 0n, size: 16384n },
    ],
    Array.from({ length: 10_000 }, (_, index) => ({ offset: BigInt(index) * 2n, size: 1n })),
    [],
  ];
  for (const areas of wild) {
    for (const width of WIDTHS) {
      const cells = bar([{ ...REGION, size, backedSize: size / 2n, areas }], width);
      assert.equal(cells.length, Math.min(width, 120) - 6);
    }
  }
  assert.equal(bar([{ ...REGION, size: 3n, backedSize: 1n << 63n, areas: [] }], 40).length, 34);
});
