import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

const REPOSITORY = fileURLToPath(new URL("../../../../", import.meta.url));
const PAGE = "docs/VMM-AUTHORS.md";
const QUOTED = /<!-- (docs\/examples\/\S+) -->\n```\w+\n([\s\S]*?)\n```\n/g;

test(`${PAGE} quotes every program of docs/examples to the letter [pure]`, () => {
  const quotes = [...readFileSync(`${REPOSITORY}${PAGE}`, "utf8").matchAll(QUOTED)];
  for (const [, path = "", text = ""] of quotes) assert.equal(`${text}\n`, readFileSync(`${REPOSITORY}${path}`, "utf8"), path);
  assert.deepEqual(
    quotes.map(([, path]) => path).sort(),
    readdirSync(`${REPOSITORY}docs/examples`)
      .map((name) => `docs/examples/${name}`)
      .sort(),
  );
});
