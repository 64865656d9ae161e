// Every reason of the closed table, brought about and looked at: what the status says, what the details hold, what aperturectl makes of it, and that it is counted.

import assert from "node:assert/strict";
import { after, afterEach, before, describe, it } from "node:test";
import { EXIT_CODES, REASONS, type Reason, reasonRow } from "../../src/broker/refusal.js";
import { messages } from "../../src/rpc/protos.js";
import { toGrpcError } from "../../src/rpc/status.js";
import { ClientProcess } from "../harness/client-process.js";
import { DaemonProcess } from "../harness/daemon.js";
import { OwnDaemon } from "../harness/own-daemon.js";
import { RawChannel } from "../harness/raw-channel.js";
import { Rpc } from "../harness/rpc.js";
import { COMMON_CONFIG, Daemons, type Provocation, type Target, type Told } from "./provocation.js";
import { PROVOCATIONS } from "./reason-provocations.js";

const RUNGS = {
  daemon: "real processes, simulated host",
  altered: "real sockets, altered host",
  server: "real sockets, gRPC server alone",
  rules: "pure",
} as const;

const TYPE = "type.googleapis.com/google.rpc.";
const READERS: Readonly<Record<string, (bytes: Buffer) => object>> = {
  ErrorInfo: messages.errorInfo.deserialize,
  BadRequest: messages.badRequest.deserialize,
  ResourceInfo: messages.resourceInfo.deserialize,
  PreconditionFailure: messages.preconditionFailure.deserialize,
  RetryInfo: messages.retryInfo.deserialize,
};

/** What grpc-status-details-bin holds, each detail by its name. */
function readDetails(bytes: Buffer): ReadonlyMap<string, object> {
  const { details } = messages.status.deserialize(bytes);
  return new Map(
    (details ?? []).map((detail) => {
      const name = String(detail.type_url).slice(TYPE.length);
      const reader = READERS[name] ?? assert.fail(`a detail of type ${detail.type_url}`);
      return [name, reader(Buffer.from(detail.value ?? []))];
    }),
  );
}

function checkStatus(reason: Reason, code: string, text: string, bytes: Buffer): void {
  const row = reasonRow(reason);
  assert.equal(code, row.status);
  // What and why, then what to do next.
  assert.ok(text.endsWith(`. Next: ${row.next}.`), text);
  const why = text.slice(0, -`. Next: ${row.next}.`.length);
  assert.match(why, /^[\x20-\x7e]{12,}$/, "what was refused, and why");
  const details = readDetails(bytes);
  const info = details.get("ErrorInfo") as { reason: string; domain: string; metadata: Record<string, string> };
  assert.deepEqual([info.reason, info.domain, info.metadata["next"]], [reason, "aperture", row.next]);
  for (const key of Object.keys(info.metadata)) assert.match(key, /^[a-z][A-Za-z0-9]{0,63}$/, "AIP-193: keys in lowerCamel");
  const expected = ["ErrorInfo"];
  if (row.status === "INVALID_ARGUMENT") expected.push("BadRequest");
  if (row.status === "NOT_FOUND") expected.push("ResourceInfo");
  if (row.status === "FAILED_PRECONDITION") expected.push("PreconditionFailure");
  if (row.retryMs !== null) expected.push("RetryInfo");
  assert.deepEqual([...details.keys()], expected);
  const resource = details.get("ResourceInfo") as { resourceName: string } | undefined;
  if (resource !== undefined) assert.notEqual(resource.resourceName, "");
}

function check(reason: Reason, told: Told): void {
  switch (told.by) {
    case "call":
      assert.equal(told.result.reason, reason, told.result.text);
      checkStatus(reason, told.result.code, told.result.text, told.result.details);
      break;
    case "rules": {
      assert.equal(told.refusal.reason, reason);
      const { details, metadata } = toGrpcError(told.refusal);
      checkStatus(reason, reasonRow(reason).status, details, metadata.get("grpc-status-details-bin")[0] as Buffer);
      break;
    }
    case "goodbye":
    case "refused":
      assert.equal(told.reason, reason);
      break;
    case "log":
      assert.equal(told.record.fields["reason"], reason);
      assert.notEqual(told.record.fields["why"], "");
      break;
    case "cli":
      assert.equal(told.status, EXIT_CODES[reasonRow(reason).status], told.stderr);
      assert.ok(told.stderr.includes(reason), told.stderr);
      assert.ok(told.stderr.replace(/\s+/g, " ").includes(reasonRow(reason).next), told.stderr);
  }
}

function counted(page: string, series: string): number {
  const line = page.split("\n").find((each) => each.startsWith(`${series} `));
  return line === undefined ? 0 : Number(line.slice(series.length));
}

describe("reasons", () => {
  let common: DaemonProcess;
  before(async () => {
    common = await DaemonProcess.start({ config: COMMON_CONFIG });
  });
  afterEach(async () => {
    RawChannel.closeAll();
    Rpc.closeAll();
    await ClientProcess.killAll();
    await OwnDaemon.stopAll();
  });
  after(async () => {
    await common.stop();
  });

  for (const reason of Object.keys(REASONS) as Reason[]) {
    const provocation: Provocation = PROVOCATIONS[reason];
    it(`${reason} [${RUNGS[provocation.rung]}]`, { timeout: 120_000 }, async () => {
      const daemons = new Daemons(common);
      const before = await common.metrics();
      const told = await provocation.provoke(daemons);
      assert.ok(told.length > 0);
      for (const one of told) check(reason, one);

      // It is told where its row says.
      const by = new Set(told.map((one) => one.by));
      const row = reasonRow(reason);
      assert.equal(by.has("goodbye"), row.told !== null);
      assert.equal(by.has("call") || by.has("refused") || by.has("rules") || by.has("log"), row.told !== "GOODBYE");

      // And counted under its name, once for each telling.
      if (provocation.rung === "rules") return;
      const calls = told.filter((one) => one.by === "call" || one.by === "refused" || one.by === "log").length;
      const byCli = told.filter((one) => one.by === "cli").length;
      const goodbyes = told.filter((one) => one.by === "goodbye").length;
      const target: Target = daemons.started[0] ?? assert.fail("no daemon was asked");
      const after = await target.metrics();
      const grown = (series: string): number => counted(after, series) - (target === common ? counted(before, series) : 0);
      const refusals = grown(`aperture_refusals_total{reason="${reason}"}`);
      // aperturectl can find out by itself, before it asks.
      assert.ok(refusals >= calls && refusals <= calls + byCli, `${refusals} refusals, ${calls} calls, ${byCli} of aperturectl`);
      assert.equal(grown(`aperture_peer_rejections_total{reason="${reason}"}`), goodbyes);
      for (const started of daemons.started) if (started instanceof DaemonProcess && started !== common) await started.stop();
    });
  }
});
