import assert from "node:assert/strict";
import { test } from "node:test";
import { status } from "@grpc/grpc-js";
import { REASONS } from "../../../src/broker/refusal.js";
import { apiPage } from "../../../src/docs/api-page.js";

test("what the API's comments say of errors names statuses and reasons that there are [pure]", () => {
  const lines = apiPage()
    .split("\n")
    .filter((line) => line.startsWith("Errors: "));
  assert.ok(lines.length >= 6, `${lines.length} calls say which errors they have`);
  for (const line of lines) {
    // limits.* and other names in lower case are no reasons.
    for (const [word] of line.matchAll(/\b[A-Z][A-Z]+(?:_[A-Z]+)+\b/g)) assert.ok(word in status || word in REASONS, `${word} in: ${line}`);
  }
});
