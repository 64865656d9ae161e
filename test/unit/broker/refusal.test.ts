import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { status } from "@grpc/grpc-js";
import { EXIT_CODES, REASONS, type Reason, refuse } from "../../../src/broker/refusal.js";
import { exitCodeOf } from "../../../src/cli/exit-code.js";
import { ApertureError } from "../../../src/client/errors.js";
import { messages } from "../../../src/rpc/protos.js";
import { toGrpcError } from "../../../src/rpc/status.js";

describe("[pure] the table of reasons", () => {
  it("has for each status the exit code that aperturectl gives it", () => {
    for (const reason of Object.keys(REASONS) as Reason[]) {
      const { status: code } = REASONS[reason];
      assert.equal(exitCodeOf(new ApertureError({ reason, code, message: "" })), EXIT_CODES[code], reason);
    }
  });

  it("carries the details that AIP-193 asks for, and only those that fit", () => {
    const said = (reason: Reason, metadata: Readonly<Record<string, string>> = {}): Readonly<Record<string, unknown>> => {
      const [bytes] = toGrpcError(refuse(reason, "why", metadata).refusal).metadata.get("grpc-status-details-bin");
      const details = messages.status.deserialize(bytes as Buffer).details ?? [];
      const readers: Readonly<Record<string, (value: Buffer) => unknown>> = {
        BadRequest: messages.badRequest.deserialize,
        ResourceInfo: messages.resourceInfo.deserialize,
        PreconditionFailure: messages.preconditionFailure.deserialize,
        RetryInfo: messages.retryInfo.deserialize,
      };
      return Object.fromEntries(
        details.slice(1).map((detail) => {
          const name = String(detail.type_url).replace("type.googleapis.com/google.rpc.", "");
          return [name, readers[name]?.(Buffer.from(detail.value ?? []))];
        }),
      );
    };
    const address = "0000:01:00.0";
    const resource = (kind: string, resourceName: string): object => ({
      ResourceInfo: { resourceType: `aperture.v1.${kind}`, resourceName, owner: "", description: "why" },
    });
    const retry = (seconds: string, nanos: number): object => ({ RetryInfo: { retryDelay: { seconds, nanos } } });
    const unmet = (type: Reason, subject: string): object => ({
      PreconditionFailure: { violations: [{ type, subject, description: "why" }] },
    });
    assert.deepEqual(said("INVALID_FIELD", { field: "kind" }), {
      BadRequest: { fieldViolations: [{ field: "kind", description: "why" }] },
    });
    assert.deepEqual(said("DEVICE_NOT_FOUND", { address }), resource("Device", address));
    assert.deepEqual(said("REGION_NOT_FOUND", { address, region: "4" }), resource("Region", `${address}/4`));
    assert.deepEqual(said("LEASE_NOT_FOUND", { leaseId: "id" }), resource("Lease", "id"));
    assert.deepEqual(said("NO_VFIO_DRIVER", { address }), unmet("NO_VFIO_DRIVER", address));
    assert.deepEqual(said("DEVICE_QUARANTINED", { address }), { ...unmet("DEVICE_QUARANTINED", address), ...retry("1", 0) });
    assert.deepEqual(said("HANDOVER_PENDING"), retry("0", 100_000_000));
    assert.deepEqual(said("POLICY_DENIED"), {});
  });

  it("reaches the client as google.rpc.Status with ErrorInfo", () => {
    for (const reason of Object.keys(REASONS) as (keyof typeof REASONS)[]) {
      const { refusal } = refuse(reason, "what and why", { address: "0000:01:00.0" });
      const error = toGrpcError(refusal);
      assert.equal(error.code, status[REASONS[reason].status]);
      assert.equal(error.details, `what and why. Next: ${REASONS[reason].next}.`);
      const [bytes] = error.metadata.get("grpc-status-details-bin");
      const decoded = messages.status.deserialize(bytes as Buffer);
      assert.equal(decoded.code, error.code);
      const [detail] = decoded.details ?? [];
      assert.equal(detail?.type_url, "type.googleapis.com/google.rpc.ErrorInfo");
      const info = messages.errorInfo.deserialize(Buffer.from(detail?.value ?? []));
      assert.deepEqual([info.reason, info.domain, info.metadata?.["address"]], [reason, "aperture", "0000:01:00.0"]);
      assert.match(reason, /^[A-Z][A-Z_]{1,62}$/);
    }
  });
});
