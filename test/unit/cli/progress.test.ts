import assert from "node:assert/strict";
import { beforeEach, mock, test } from "node:test";
import { withProgress } from "../../../src/cli/progress.js";
import { CapturedTerminal } from "./captured-terminal.js";

beforeEach(() => mock.timers.reset());

/** Runs a step of that many milliseconds on clocks of the test's own. */
async function step(io: CapturedTerminal, milliseconds: number): Promise<void> {
  mock.timers.enable({ apis: ["setTimeout", "setInterval"] });
  let resolve: (answer: string) => void = () => undefined;
  const work = new Promise<string>((settle) => {
    resolve = settle;
  });
  const done = withProgress(io.terminal, "resetting \u001b[2J", work);
  // An interval that a timer starts counts from the end of the tick.
  mock.timers.tick(Math.min(1000, milliseconds));
  mock.timers.tick(Math.max(0, milliseconds - 1000));
  io.terminal.message("a word in between");
  resolve("answer");
  assert.equal(await done, "answer");
  mock.timers.tick(60_000);
}

test("a step of less than a second says nothing [pure]", async () => {
  for (const io of [new CapturedTerminal(), new CapturedTerminal({}, true)]) {
    await step(io, 999);
    assert.equal(io.errors, "a word in between\n");
    mock.timers.reset();
  }
});

test("a longer one is one plain line where no terminal is, and nothing on stdout [pure]", async () => {
  const io = new CapturedTerminal();
  await step(io, 90_000);
  assert.equal(io.errors, "aperturectl: resetting \\x1b[2J ...\na word in between\n");
  assert.equal(io.out, "");
});

test("on a terminal a line moves, makes way for messages, and is gone afterwards [pure]", async () => {
  const io = new CapturedTerminal({}, true, 30);
  await step(io, 1250);
  const wipe = "\r\u001b[K";
  const frames = ["|", "/", "-"].map((frame) => `${frame} resetting \\x1b[2J, 1 s`);
  assert.equal(io.errors, [frames[0], wipe, frames[1], wipe, frames[2], wipe, "a word in between\n", frames[2], wipe].join(""));
  assert.equal(io.out, "");
});

test("the line is cut before it would wrap; a failed step wipes it too; a dumb terminal gets the plain line [pure]", async () => {
  mock.timers.enable({ apis: ["setTimeout", "setInterval"] });
  const io = new CapturedTerminal({ LANG: "C.UTF-8" }, true, 10);
  const failed = withProgress(io.terminal, "x".repeat(50), Promise.reject(new Error("no")));
  mock.timers.tick(1000);
  await assert.rejects(failed, /no/);
  assert.equal(io.errors, "⠋ xxxxxxx\r\u001b[K");
  mock.timers.reset();
  const dumb = new CapturedTerminal({ TERM: "dumb" }, true);
  await step(dumb, 5000);
  assert.match(dumb.errors, /^aperturectl: resetting .*\n/);
});
