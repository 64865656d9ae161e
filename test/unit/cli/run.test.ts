import assert from "node:assert/strict";
import { test } from "node:test";
import { COMMAND_NAMES, COMMANDS, GLOBAL_OPTIONS } from "../../../src/cli/command-table.js";
import { EXIT } from "../../../src/cli/exit-code.js";
import { run } from "../../../src/cli/run.js";
import { CapturedTerminal } from "./captured-terminal.js";

async function call(...argv: string[]): Promise<{ code: number; out: string; err: string }> {
  const io = new CapturedTerminal();
  const code = await run(argv, io.terminal);
  return { code, out: io.out, err: io.errors };
}

test("help tells every command, option and exit code, on stdout [pure]", async () => {
  const { code, out, err } = await call("help");
  assert.equal(code, 0);
  assert.equal(err, "");
  for (const name of COMMAND_NAMES) assert.match(out, new RegExp(`^  ${name} `, "m"));
  for (const { name } of GLOBAL_OPTIONS) assert.ok(out.includes(`--${name}`), name);
  for (const exit of Object.values(EXIT)) assert.ok(out.includes(`${exit.code}`.padEnd(5) + exit.when), exit.when);
});

test("every command has help of its own, by both ways of asking [pure]", async () => {
  for (const { name, options, examples } of COMMANDS) {
    const { code, out } = await call("help", name);
    assert.equal(code, 0);
    assert.equal((await call(name, "--help")).out, out);
    assert.ok(out.includes(`usage: aperturectl ${name}`));
    for (const option of options) assert.ok(out.includes(`--${option.name}`));
    for (const { line } of examples) assert.ok(out.includes(line));
    for (const line of out.split("\n").filter((text) => !text.startsWith("  "))) assert.ok(line.length <= 100, line);
  }
});

test("no command, or a wrong one: words on stderr, exit 2, nothing on stdout [pure]", async () => {
  assert.deepEqual(Object.values(await call()).slice(0, 2), [2, ""]);
  const wrong = await call("devcies");
  assert.equal(wrong.code, 2);
  assert.equal(wrong.out, "");
  assert.match(wrong.err, /did you mean `devices`/);
  const help = await call("help", "devcies");
  assert.equal(help.code, 2);
  assert.match(help.err, /did you mean `devices`/);
});

test("the version is the package's [pure]", async () => {
  assert.match((await call("--version")).out, /^aperturectl \d+\.\d+\.\d+\n$/);
  assert.equal((await call("version")).out, (await call("--version")).out);
});

test("no daemon: exit 5, the path and what to do [real sockets]", async () => {
  for (const argv of [["devices"], ["leases"], ["host"], ["watch"], ["acquire", "0000:01:00.0"], ["exec", "0000:01:00.0", "--", "true"]]) {
    const { code, out, err } = await call("--socket", "/nonexistent/aperture.sock", ...argv);
    assert.equal(code, 5, err);
    assert.equal(out, "");
    assert.match(err, /cannot reach the Aperture daemon at \/nonexistent\/aperture\.sock.*ENOENT/);
    assert.match(err, /next: .*apertured/);
  }
});

test("a path that is no socket, or too long for one [real sockets]", async () => {
  const file = await call("--socket", new URL(import.meta.url).pathname, "devices");
  assert.equal(file.code, 5);
  assert.match(file.err, /ECONNREFUSED|ENOTSOCK/);
  const long = await call("--socket", `/tmp/${"x".repeat(120)}`, "devices");
  assert.equal(long.code, 5);
  assert.match(long.err, /too long for a UNIX socket/);
});

test("a region list is checked before anything is called [pure]", async () => {
  for (const bad of ["2,,4", "a", "-1", "2;4"]) {
    assert.equal((await call("acquire", "0000:01:00.0", `--regions=${bad}`, "--socket", "/nonexistent")).code, 2, bad);
  }
  assert.equal((await call("acquire", "0000:01:00.0", "0000:02:00.0", "--regions", "2", "--socket", "/nonexistent")).code, 2);
  assert.equal((await call("devices", "--id", "xyz", "--socket", "/nonexistent")).code, 2);
});
