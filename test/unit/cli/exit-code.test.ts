import assert from "node:assert/strict";
import { test } from "node:test";
import { CliError, EXIT, exitCodeOf } from "../../../src/cli/exit-code.js";
import { ApertureConnectionError, ApertureError, HandoverError, type StatusName, SystemCallError } from "../../../src/client/errors.js";

test("the table is what scripts rely on [pure]", () => {
  const codes = Object.fromEntries(Object.entries(EXIT).map(([name, { code }]) => [name, code]));
  assert.deepEqual(codes, {
    ok: 0,
    failed: 1,
    usage: 2,
    notFound: 3,
    denied: 4,
    unavailable: 5,
    conflict: 6,
    exhausted: 7,
    timeout: 124,
    notExecutable: 126,
    commandNotFound: 127,
  });
});

test("every gRPC status has its exit code [pure]", () => {
  const expected: Record<StatusName, number> = {
    OK: 0,
    CANCELLED: 1,
    UNKNOWN: 1,
    INVALID_ARGUMENT: 2,
    DEADLINE_EXCEEDED: 124,
    NOT_FOUND: 3,
    ALREADY_EXISTS: 6,
    PERMISSION_DENIED: 4,
    RESOURCE_EXHAUSTED: 7,
    FAILED_PRECONDITION: 6,
    ABORTED: 6,
    OUT_OF_RANGE: 2,
    UNIMPLEMENTED: 1,
    INTERNAL: 1,
    UNAVAILABLE: 5,
    DATA_LOSS: 1,
    UNAUTHENTICATED: 4,
  };
  for (const [code, exit] of Object.entries(expected)) {
    assert.equal(exitCodeOf(new ApertureError({ reason: "X", code: code as StatusName, message: "" })), exit, code);
  }
});

test("failures of this side have theirs [pure]", () => {
  assert.equal(exitCodeOf(new ApertureConnectionError("/s", "ENOENT", "", "")), 5);
  assert.equal(exitCodeOf(new ApertureConnectionError("/s", "ECONNREFUSED", "", "")), 5);
  assert.equal(exitCodeOf(new ApertureConnectionError("/s", "EACCES", "", "")), 4);
  assert.equal(exitCodeOf(new HandoverError("HANDOVER_TRUNCATED", "RESOURCE_EXHAUSTED", "")), 7);
  assert.equal(exitCodeOf(new SystemCallError({ operation: "mmap", errno: 22, code: "EINVAL", subject: "x" })), 1);
  assert.equal(exitCodeOf(new CliError("commandNotFound", "")), 127);
  assert.equal(exitCodeOf(new RangeError("not in this lease")), 2);
  assert.equal(exitCodeOf(new Error("bug")), 1);
  assert.equal(exitCodeOf("thrown text"), 1);
});
