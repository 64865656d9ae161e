import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { PAGES } from "../../../src/docs/pages.js";

for (const { path, text } of PAGES) {
  test(`${path} is what the tables say; \`npm run docs\` writes it [pure]`, () => {
    assert.equal(readFileSync(fileURLToPath(new URL(`../../../../${path}`, import.meta.url)), "utf8"), text());
  });
}
