import assert from "node:assert/strict";
import { test } from "node:test";
import { Metadata, type ServiceError, status } from "@grpc/grpc-js";
import { callError } from "../../../src/client/call-error.js";
import { ApertureConnectionError, ApertureError } from "../../../src/client/errors.js";
import { protoFiles } from "../../../src/client/proto-files.js";

function failed(code: status, details: string, statusDetails: Buffer | null = null): ServiceError {
  const metadata = new Metadata();
  if (statusDetails !== null) metadata.set("grpc-status-details-bin", statusDetails);
  return Object.assign(new Error(details), { code, details, metadata });
}

function any(name: string, value: Buffer): { type_url: string; value: Buffer } {
  return { type_url: `type.googleapis.com/google.rpc.${name}`, value };
}

function refusal(domain: string, reason: string, metadata: Record<string, string>): Buffer {
  const { Status, ErrorInfo, BadRequest } = protoFiles().google.rpc;
  const violation = { field: "devices[0].address", description: "no address" };
  return Status.serialize({
    code: status.ABORTED,
    message: "busy",
    details: [
      any("BadRequest", BadRequest.serialize({ fieldViolations: [violation] })),
      any("ErrorInfo", ErrorInfo.serialize({ reason, domain, metadata })),
    ],
  });
}

const PATH = "/nonexistent/aperture.sock";

test("a refusal brings reason, code, next step, facts and fields [pure]", async () => {
  const details = refusal("aperture", "DEVICE_BUSY", { next: "wait", address: "0000:01:00.0" });
  const error = await callError(failed(status.ABORTED, "0000:01:00.0 is leased. Next: wait.", details), "AcquireLease", 1000, PATH);
  assert.equal(error.name, "ApertureError");
  assert.equal(error.reason, "DEVICE_BUSY");
  assert.equal(error.code, "ABORTED");
  assert.equal(error.message, "0000:01:00.0 is leased");
  assert.equal(error.next, "wait");
  assert.deepEqual(error.metadata, { address: "0000:01:00.0" });
  assert.deepEqual(error.violations, [{ field: "devices[0].address", description: "no address" }]);
});

test("a refusal that is UNAVAILABLE is no lost connection [pure]", async () => {
  const error = await callError(failed(status.UNAVAILABLE, "stopping", refusal("aperture", "DRAINING", {})), "AcquireLease", 1000, PATH);
  assert.ok(!(error instanceof ApertureConnectionError));
  assert.equal(error.reason, "DRAINING");
});

test("details of another domain, and details that cannot be read, leave the plain status [pure]", async () => {
  for (const details of [refusal("example.com", "OTHER", {}), Buffer.from([0xff, 0xff, 0xff])]) {
    const error = await callError(failed(status.NOT_FOUND, "nothing", details), "GetDevice", 1000, PATH);
    assert.equal(error.reason, "NOT_FOUND");
    assert.equal(error.message, "GetDevice: nothing");
    assert.equal(error.next, null);
  }
});

test("a deadline names the call and the time [pure]", async () => {
  const error = await callError(failed(status.DEADLINE_EXCEEDED, "Deadline exceeded after 1.5s"), "GetDevice", 1500, PATH);
  assert.equal(error.code, "DEADLINE_EXCEEDED");
  assert.equal(error.message, "the daemon did not answer GetDevice within 1.5 s");
});

test("no daemon: the path that was tried, and what to do [real sockets]", async () => {
  const error = await callError(failed(status.UNAVAILABLE, "connect ENOENT"), "GetDevice", 1000, PATH);
  assert.ok(error instanceof ApertureConnectionError && error instanceof ApertureError);
  assert.equal(error.errnoName, "ENOENT");
  assert.equal(error.path, PATH);
  assert.match(error.message, /\/nonexistent\/aperture\.sock.*ENOENT/);
  assert.match(error.next ?? "", /apertured/);
});
