// What the daemon says of itself, to Prometheus and to its log, after clients have done their worst to the names in it.

import assert from "node:assert/strict";
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { after, before, describe, it } from "node:test";
import { REASONS } from "../../src/broker/refusal.js";
import { LogEvent } from "../../src/telemetry/events.js";
import { DaemonProcess } from "../harness/daemon.js";
import { bytesField } from "../harness/http2-bytes.js";
import { LeaseBench } from "../harness/lease-bench.js";
import { RawChannel } from "../harness/raw-channel.js";
import { Rpc } from "../harness/rpc.js";
import { until } from "../harness/until.js";

const NVME = "0000:02:00.0";
const DENIED = "0019:01:00.0";
const HOSTILE = ["\u001b[31mred", "a\nb\r\nc", "\u009b2J", "\u202e", '","level":"debug', "\u2028", "{}", "x".repeat(10_000)];

interface Sample {
  readonly name: string;
  readonly labels: ReadonlyMap<string, string>;
}

function parse(line: string): Sample {
  const match = /^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? [-+0-9.eEInfNa]+$/.exec(line);
  assert.ok(match?.[1], `not the text format: ${line}`);
  const pairs = [...(match[2] ?? "").matchAll(/([a-z_]+)="((?:[^"\\]|\\.)*)"/g)];
  return { name: match[1], labels: new Map(pairs.map((pair) => [pair[1] ?? "", pair[2] ?? ""])) };
}

describe("[real processes, simulated host] telemetry", () => {
  let daemon: DaemonProcess;
  let bench: LeaseBench;
  before(async () => {
    // A rule's name stands in what is logged of those it denies.
    const name = `${JSON.stringify(HOSTILE[0]).slice(1, -1)}\\u009b2J\\u202e${"x".repeat(1_000)}`;
    const rules = `[[policy]]\nname = "${name}"\ndevice = "${DENIED}"\nkind = []\n[[policy]]\nname = "all"\ndevice = "*"\n`;
    daemon = await DaemonProcess.start({ config: rules });
    bench = await LeaseBench.at(daemon);
    const { channel } = await RawChannel.attached(daemon.socket);
    const { frame } = await bench.held(channel, NVME);
    channel.drop();
    await bench.release(frame.leaseId);
    for (const text of HOSTILE) {
      await bench.acquire(text);
      await bench.acquire(NVME, { requestId: text });
      await bench.rpc.bytes("/aperture.v1.DeviceService/GetDevice", bytesField(1, text), (bytes) => bytes);
      await bench.rpc.bytes(`/aperture.v1.${Buffer.from(text).toString("hex").slice(0, 50)}/M`, Buffer.alloc(0), (bytes) => bytes);
    }
    for (let i = 0; i < 50; i += 1) await bench.acquire(`0000:${i.toString(16).padStart(2, "0")}:1f.0`);
    assert.equal((await bench.acquire(DENIED)).reason, "POLICY_DENIED");
    channel.send(Buffer.from("nonsense"));
    await channel.goodbye();
    channel.close();
  });
  after(async () => {
    Rpc.closeAll();
    await daemon.stop();
  });

  it("has HELP and TYPE for every metric, each once, and nothing else in its text", async () => {
    const lines = (await daemon.metrics()).trim().split("\n");
    const helped = lines.flatMap((line) => /^# HELP (\S+) \S+/.exec(line)?.[1] ?? []);
    const typed = lines.flatMap((line) => /^# TYPE (\S+) (?:counter|gauge|histogram|summary)$/.exec(line)?.[1] ?? []);
    assert.deepEqual(helped, typed);
    assert.equal(new Set(helped).size, helped.length);
    const known = new Set(helped);
    for (const { name } of lines.filter((line) => line !== "" && !line.startsWith("#")).map(parse))
      assert.ok(known.has(name) || known.has(name.replace(/_(?:bucket|sum|count)$/, "")), name);
    for (const name of helped.filter((each) => each.startsWith("aperture_")))
      assert.ok(
        lines.some((line) => line.startsWith(name)),
        `${name} is empty`,
      );
  });

  it("has label values of the daemon's own making only", async () => {
    const methods = ["ListDevices", "GetDevice", "WatchDevices", "AcquireLease", "ReleaseLease", "GetLease", "ListLeases", "GetHostInfo"];
    const allowed: Readonly<Record<string, RegExp>> = {
      backend: /^simulated$/,
      state: /^(?:free|opening|offered|held|releasing|resetting|quarantined|removed)$/,
      kind: /^(?:device|region)$/,
      cause: /^[a-z_]+$/,
      operation: /^(?:scan|probe|open|prove|reset|close)$/,
      grpc_service: /^(?:aperture\.v1\.(?:Device|Lease|Host)Service|grpc\.health\.v1\.Health)$/,
      grpc_method: new RegExp(`^(?:${methods.join("|")}|Check|Watch)$`),
      grpc_code: /^[A-Z_]+$/,
    };
    const reasons = new Set([...Object.keys(REASONS), ...Object.keys(REASONS).map((reason) => reason.toLowerCase())]);
    const lines = (await daemon.metrics()).split("\n").filter((line) => /^(?:aperture|grpc)_/.test(line));
    let checked = 0;
    for (const { name, labels } of lines.map(parse)) {
      for (const [label, value] of labels) {
        const expected = allowed[label];
        if (expected) assert.match(value, expected, `${name}{${label}}`);
        if (label === "reason") assert.ok(reasons.has(value), `${name}{reason="${value}"}`);
        if (expected || label === "reason") checked += 1;
        else assert.ok(["le", "version", "result", "quantile"].includes(label), `${name} has the label ${label}`);
      }
    }
    assert.ok(checked > 20);
    assert.ok(lines.length < 400, `${lines.length} series`);
  });

  it("writes one JSON object a line, of printable ASCII, with constant events and nothing beside its own keys", () => {
    const names = new Set<string>(Object.values(LogEvent));
    assert.ok(daemon.log.all.length > 20);
    for (const line of daemon.log.all) {
      assert.match(line, /^[\x20-\x7e]+$/);
      const record = JSON.parse(line) as Readonly<Record<string, unknown>>;
      assert.deepEqual(Object.keys(record), ["level", "time", "event", "fields", "message"], line);
      assert.ok(names.has(String(record["event"])), line);
      assert.match(String(record["level"]), /^(?:debug|info|warn)$/);
      assert.match(String(record["time"]), /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
      assert.equal(line.match(/"level":/g)?.length, 1, line);
      assert.ok(line.length < 1_000, `${line.length} characters`);
    }
    const refused = daemon.records().filter((record) => record.event === "lease.refused");
    assert.equal(refused.length, 51, "a request that is none is not logged as a refused lease");
  });

  async function status(path: string, method = "GET"): Promise<number> {
    const response = await fetch(daemon.metricsAddress + path, { method, headers: { connection: "close" } });
    await response.text();
    return response.status;
  }

  it("answers /metrics, /healthz and /readyz to GET, and nothing else", async () => {
    const answers = [
      await status("/metrics"),
      await status("/healthz"),
      await status("/readyz"),
      await status("/nope"),
      await status("/metrics/../etc/passwd"),
      await status("/metrics", "POST"),
      await status("/readyz", "HEAD"),
    ];
    assert.deepEqual(answers, [200, 200, 200, 404, 404, 405, 405]);
  });

  it("can be scraped again in 5 s although silent connections have taken every place", async () => {
    const { hostname, port } = new URL(daemon.metricsAddress);
    const silent: Socket[] = [];
    for (let i = 0; i < 32; i += 1) {
      const socket = connect({ host: hostname, port: Number(port), allowHalfOpen: true });
      socket.on("error", () => undefined).resume();
      await once(socket, "connect");
      silent.push(socket);
    }
    const begin = performance.now();
    await until(
      "a scrape",
      () => status("/metrics").catch(() => 0),
      (code) => code === 200,
    );
    const took = performance.now() - begin;
    for (const socket of silent) socket.destroy();
    assert.ok(took < 5_000, `${Math.round(took)} ms`);
  });

  it("is not ready any more as soon as it stops", async () => {
    const stopping = await DaemonProcess.start();
    const rpc = new Rpc(stopping.socket);
    const watch = rpc.stream("/aperture.v1.DeviceService/WatchDevices", Buffer.alloc(0), (bytes) => bytes);
    await once(watch, "data");
    stopping.signal("SIGTERM");
    await stopping.event("daemon.stopping");
    const ready = await fetch(`${stopping.metricsAddress}/readyz`);
    const alive = await fetch(`${stopping.metricsAddress}/healthz`);
    assert.deepEqual([ready.status, alive.status], [503, 200]);
    watch.cancel();
    const { status: end } = await stopping.ended();
    assert.equal(end, 0);
  });
});
