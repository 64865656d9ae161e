import assert from "node:assert/strict";
import { test } from "node:test";
import { COMMAND_NAMES, COMMANDS, GLOBAL_OPTIONS } from "../../../src/cli/command-table.js";
import { type Completion, complete } from "../../../src/cli/completion.js";
import { COMPLETION_SCRIPTS, SHELLS } from "../../../src/cli/completion-scripts.js";
import { run } from "../../../src/cli/run.js";
import { CapturedTerminal } from "./captured-terminal.js";

/** The words offered at the end of this line; the last word is the one at the cursor. */
function offered(line: string): readonly string[] {
  return complete(line.split(" ")).candidates.map(({ word }) => word);
}

function asked(line: string): Completion["ask"] {
  return complete(line.split(" ")).ask;
}

test("every command is offered with its summary, every option of it behind a dash [pure]", () => {
  assert.deepEqual(new Set(offered("")), new Set(COMMAND_NAMES.map((name) => name.split(" ")[0])));
  assert.deepEqual(
    offered("-"),
    GLOBAL_OPTIONS.map(({ name }) => `--${name}`),
  );
  for (const { name, options, printsData } of COMMANDS) {
    const words = offered(`${name} --`);
    for (const option of options) assert.ok(words.includes(`--${option.name}`), name);
    assert.equal(words.includes("--output"), printsData, name);
  }
});

test("an option that was given is not offered again; its value is what the table says [pure]", () => {
  assert.ok(!offered("devices --leasable -").includes("--leasable"));
  assert.ok(!offered("devices -o json -").includes("--output"));
  assert.deepEqual(offered("devices -o "), ["table", "json", "jsonl", "yaml", "name"]);
  assert.deepEqual(offered("--output "), ["table", "json", "jsonl", "yaml", "name"]);
  assert.deepEqual(offered("devices --output=j")[1], "--output=json");
  assert.equal(asked("--socket "), "file");
  assert.deepEqual(offered("devices --id "), []);
  assert.deepEqual(offered("devices --leasable="), []);
  assert.deepEqual(offered("devices --nonsense="), []);
});

test("operands: addresses and leases are for the daemon, as many as the command takes [pure]", () => {
  assert.equal(asked("device "), "address");
  assert.equal(asked("--socket /s device "), "address");
  assert.equal(complete(["--socket", "/s", "device", ""]).socket, "/s");
  assert.equal(complete(["--socket=/s", "device", ""]).socket, "/s");
  assert.equal(asked("device A "), null);
  assert.equal(asked("release "), "lease");
  assert.equal(asked("exec A "), "leasable address");
  assert.deepEqual(complete(["exec", "A", ""]).given, ["A"]);
  assert.deepEqual(offered("exec A "), ["--"]);
  // A ticket names the devices as well.
  assert.deepEqual(offered("exec "), ["--"]);
  assert.deepEqual(offered("leases "), []);
  assert.deepEqual(offered("completion "), [...SHELLS]);
  assert.ok(offered("help ").includes("exec"));
  assert.deepEqual(offered("nonsense ").includes("devices"), false);
});

test("behind `--` it is the other command's line [pure]", () => {
  assert.equal(asked("exec A -- "), "command line");
  assert.equal(asked("exec A -- ls --output "), "command line");
  assert.equal(asked("devices -- "), null);
});

test("a daemon that is not there, or anything that makes no sense, is silence and status 0 [real sockets]", async () => {
  for (const words of [["--socket", "/nonexistent", "device", ""], ["release", ""], [], ["-o"], ["\u001b[2J", ""]]) {
    const io = new CapturedTerminal();
    assert.equal(await run(["__complete", "--socket", "/nonexistent", ...words], io.terminal), 0);
    assert.equal(io.errors, "");
    assert.match(io.out, /^(words|file|command)\n/);
    assert.ok(!io.out.includes("\u001b"));
  }
});

test("a script for each shell, and words for a shell that there is none for [pure]", async () => {
  for (const shell of SHELLS) {
    const io = new CapturedTerminal();
    assert.equal(await run(["completion", shell], io.terminal), 0);
    assert.equal(io.out, COMPLETION_SCRIPTS[shell]);
  }
  const io = new CapturedTerminal();
  assert.equal(await run(["completion", "bahs"], io.terminal), 2);
  assert.match(io.errors, /did you mean `bash`/);
});
