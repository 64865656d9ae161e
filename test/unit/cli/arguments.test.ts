import assert from "node:assert/strict";
import { test } from "node:test";
import { parseArguments } from "../../../src/cli/arguments.js";
import { CliError } from "../../../src/cli/exit-code.js";

function refused(line: string, message: RegExp, next?: RegExp): void {
  assert.throws(
    () => parseArguments(line.split(" ").filter((word) => word !== "")),
    (error: unknown) => {
      assert.ok(error instanceof CliError && error.exit === "usage", String(error));
      assert.match(error.message, message);
      if (next !== undefined) assert.match(error.next ?? "", next);
      return true;
    },
    line,
  );
}

test("global options stand before or after the command [pure]", () => {
  for (const line of [
    "--socket /s -o json --timeout 1.5 device A",
    "device A --socket=/s -ojson --timeout=1.5",
    "device --output json --timeout 1.5 A --socket /s",
  ]) {
    const parsed = parseArguments(line.split(" "));
    assert.equal(parsed.command?.name, "device");
    assert.deepEqual(parsed.operands, ["A"]);
    assert.equal(parsed.values.get("socket"), "/s");
    assert.equal(parsed.format, "json");
    assert.equal(parsed.timeoutMs, 1500);
  }
});

test("what follows `--` is the command's own, options included [pure]", () => {
  const parsed = parseArguments(["exec", "A", "B", "--", "qemu", "-device", "--", "--timeout", "9"]);
  assert.deepEqual(parsed.operands, ["A", "B"]);
  assert.deepEqual(parsed.childCommand, ["qemu", "-device", "--", "--timeout", "9"]);
  assert.equal(parsed.timeoutMs, undefined);
});

test("an unknown command or option suggests the nearest [pure]", () => {
  refused("devcies", /no command `devcies`/, /did you mean `devices`/);
  refused("frobnicate", /no command/, /aperturectl help/);
  refused("devices --leaseable", /`devices` has no option --leaseable/, /--leasable/);
  refused("device A --leasable", /`device` has no option --leasable/);
  refused("devices -x", /no option -x/, /devices --help/);
  refused("devices -o yml", /no output format `yml`/);
  refused("devices -o jsno", /no output format/, /did you mean `json`/);
});

test("values that are missing, doubled or of the wrong form are refused [pure]", () => {
  refused("devices --socket", /--socket needs a value/);
  refused("devices --socket --leasable", /--socket needs a value/);
  refused("devices --socket /a --socket /b", /given twice/);
  refused("devices --leasable=yes", /--leasable takes no value/);
  for (const bad of ["0", "-1", "1e3", "x", "", "0x10", "9999999"]) refused(`devices --timeout=${bad}`, /--timeout/);
});

test("operands are counted, and told with the usage [pure]", () => {
  refused("device", /`device` needs ADDRESS/, /usage: aperturectl device ADDRESS/);
  refused("device A B", /at most 1/);
  refused("leases A", /takes no operands/);
  refused("exec A", /needs a command after `--`/);
  refused("exec A --", /needs a command after `--`/);
  refused("device A -- ls", /takes nothing after `--`/);
  refused("exec A -o json -- ls", /prints no data/);
});

test("help needs no operands [pure]", () => {
  assert.ok(parseArguments(["exec", "--help"]).flags.has("help"));
  assert.equal(parseArguments([]).command, null);
});
