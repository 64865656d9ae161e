import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { describe, it } from "node:test";
import { status } from "@grpc/grpc-js";
import { REASONS, refuse } from "../../../src/broker/refusal.js";
import { messages } from "../../../src/rpc/protos.js";
import { toGrpcError } from "../../../src/rpc/status.js";

const root = new URL("../../../../", import.meta.url);

describe("[pure] the table of reasons", () => {
  it("has a row in docs/REASONS.md for each reason, with its status and what to do next, and no other", () => {
    const rows = [...readFileSync(new URL("docs/REASONS.md", root), "utf8").matchAll(/^\| `([A-Z_]+)` \| ([A-Z_]+) \| (.+?) \|$/gm)];
    const documented = rows.map(([, reason, code, next]) => [reason, { status: code, next: next?.replaceAll("\\|", "|") }]);
    assert.deepEqual(Object.fromEntries(documented), REASONS);
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
