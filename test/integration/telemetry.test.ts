// What the daemon says of itself, to Prometheus and to its log, after clients have done their worst to the names in it.

import assert from "node:assert/strict";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { after, before, describe, it } from "node:test";
import { REASONS } from "../../src/broker/refusal.js";
import { connect as connectClient } from "../../src/client/index.js";
import { EVENTS, type LogEventName } from "../../src/telemetry/events.js";
import { DaemonProcess, type LogRecord } from "../harness/daemon.js";
import { bytesField } from "../harness/http2-bytes.js";
import { LeaseBench } from "../harness/lease-bench.js";
import { RawChannel } from "../harness/raw-channel.js";
import { DeviceService, LeaseService, Rpc } from "../harness/rpc.js";
import { until } from "../harness/until.js";

const NVME = "0000:02:00.0";
const KEPT = "0000:41:01.0";
const DENIED = "0019:01:00.0";
const HOSTILE = ["\u001b[31mred", "a\nb\r\nc", "\u009b2J", "\u202e", '","level":"debug', "\u2028", "{}", "x".repeat(10_000)];

interface Sample {
  readonly name: string;
  readonly labels: ReadonlyMap<string, string>;
  readonly value: number;
}

function parse(line: string): Sample {
  const match = /^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? ([-+0-9.eEInfNa]+)$/.exec(line);
  assert.ok(match?.[1], `not the text format: ${line}`);
  const pairs = [...(match[2] ?? "").matchAll(/([a-z_]+)="((?:[^"\\]|\\.)*)"/g)];
  return { name: match[1], labels: new Map(pairs.map((pair) => [pair[1] ?? "", pair[2] ?? ""])), value: Number(match[3]) };
}

interface Documented {
  readonly type: string;
  readonly unit: string;
  /** null: prom-client's own words. */
  readonly meaning: string | null;
  /** null: the page does not list the values. */
  readonly labels: ReadonlyMap<string, ReadonlySet<string> | null>;
}

function readLabels(cell: string): Documented["labels"] {
  const parts = cell.trim() === "" ? [] : cell.trim().split("; ");
  return new Map(
    parts.map((part) => {
      const [, label = "", values = ""] = /^`([a-z_]+)`: (.*)$/.exec(part) ?? assert.fail(`no label: ${part}`);
      const listed = [...values.matchAll(/`([^`]+)`/g)].map((match) => match[1] ?? "");
      return [label, listed.length > 0 ? new Set(listed) : null];
    }),
  );
}

/** The page as a reader has it, and the scrape as Prometheus has it. */
async function pageAndScrape(daemon: DaemonProcess): Promise<{
  readonly documented: ReadonlyMap<string, Documented>;
  readonly exposed: ReadonlyMap<string, { readonly type: string; readonly help: string }>;
  readonly samples: readonly Sample[];
}> {
  const documented = new Map<string, Documented>();
  for (const line of readFileSync(new URL("../../../docs/METRICS.md", import.meta.url), "utf8").split("\n")) {
    const [, name, type = "", unit = "", ...rest] = /^\| `([a-z0-9_]+)` \|/.test(line)
      ? line.split(/ ?\| ?/).map((cell) => cell.replace(/^`|`$/g, ""))
      : [];
    if (name === undefined) continue;
    const cells = line.split(" | ");
    const labels = readLabels((cells.at(-1) ?? "").replace(/ \|$/, ""));
    documented.set(name, { type, unit, meaning: cells.length === 5 ? (rest[0] ?? null) : null, labels });
  }
  const exposed = new Map<string, { readonly type: string; readonly help: string }>();
  const samples: Sample[] = [];
  let help: readonly string[] = [];
  for (const line of (await daemon.metrics()).split("\n")) {
    if (line === "") continue;
    const type = /^# TYPE (\S+) (counter|gauge|histogram|summary)$/.exec(line);
    if (line.startsWith("# HELP ")) help = /^# HELP (\S+) (\S.*)$/.exec(line) ?? assert.fail(line);
    else if (type) {
      assert.equal(type[1], help[1], "HELP stands before TYPE");
      assert.ok(!exposed.has(type[1] ?? ""), `${type[1]} twice`);
      exposed.set(type[1] ?? "", { type: type[2] ?? "", help: help[2] ?? "" });
    } else samples.push(parse(line));
  }
  return { documented, exposed, samples };
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
    // One that stays in quarantine: its descriptors are not closed.
    const kept = await bench.held(channel, KEPT);
    await bench.release(kept.frame.leaseId);
    await bench.becomes(KEPT, "QUARANTINED");
    const watch = bench.rpc.stream("/aperture.v1.DeviceService/WatchDevices", Buffer.alloc(0), (bytes) => bytes);
    await once(watch, "data");
    watch.cancel();
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

  it("exposes exactly the metrics of docs/METRICS.md, with their types, units, labels and label values", async () => {
    const { documented, exposed, samples } = await pageAndScrape(daemon);
    assert.deepEqual([...exposed.keys()].sort(), [...documented.keys()].sort());
    for (const [name, { type, help }] of exposed) {
      const page = documented.get(name);
      assert.equal(type, page?.type, name);
      if (page?.meaning !== null) assert.equal(help, `${page?.meaning} (${page?.unit})`);
    }
    for (const { name, labels } of samples) {
      const base = exposed.has(name) ? name : name.replace(/_(?:bucket|sum|count)$/, "");
      const page = documented.get(base);
      const own = [...labels.keys()].filter((label) => label !== "le");
      assert.deepEqual(own.sort(), [...(page?.labels.keys() ?? [])].sort(), name);
      if (name === "aperture_refusals_total") assert.ok((labels.get("reason") ?? "") in REASONS, labels.get("reason"));
      for (const [label, values] of page?.labels ?? [])
        if (values !== null) assert.ok(values.has(labels.get(label) ?? ""), `${name}{${label}="${labels.get(label)}"}`);
    }
    const used = new Set(samples.map(({ name }) => name.replace(/_(?:bucket|sum|count)$/, "")));
    for (const name of [...documented.keys()].filter((each) => /^(?:aperture|grpc)_/.test(each))) {
      assert.ok(used.has(name), `${name} has no series`);
    }
  });

  it("holds no word of a client in any label, and one series for each device and state", async () => {
    const { samples } = await pageAndScrape(daemon);
    const devices = new Set(
      samples.flatMap(({ name, labels }) => (name === "aperture_device_info" ? (labels.get("pci_address") ?? "") : [])),
    );
    assert.equal(devices.size, samples.filter(({ name }) => name === "aperture_device_state").length);
    for (const { name, labels } of samples) {
      for (const [label, value] of labels) assert.match(value, /^[\x20-\x7e]{0,64}$/, `${name}{${label}}`);
      const address = labels.get("pci_address");
      if (address !== undefined) assert.ok(devices.has(address), `${name}{pci_address="${address}"}`);
      const service = labels.get("grpc_service");
      if (service !== undefined) assert.match(service, /^(?:aperture\.v1\.(?:Device|Lease|Host)Service|grpc\.health\.v1\.Health)$/);
    }
    assert.ok(samples.length < 1_000, `${samples.length} series`);
  });

  it("counts calls by the names of go-grpc-middleware: started, handled, messages, time, and streams as they are", async () => {
    const own = await DaemonProcess.start();
    const rpc = new Rpc(own.socket);
    try {
      await rpc.call(DeviceService, "GetDevice", { address: NVME });
      await rpc.call(DeviceService, "GetDevice", { address: "0000:00:00.0" });
      await rpc.call(DeviceService, "GetDevice", { address: "x".repeat(100_000) });
      const watch = rpc.stream("/aperture.v1.DeviceService/WatchDevices", Buffer.alloc(0), (bytes) => bytes);
      await once(watch, "data");
      const get = 'grpc_type="unary",grpc_service="aperture.v1.DeviceService",grpc_method="GetDevice"';
      const watching = 'grpc_type="server_stream",grpc_service="aperture.v1.DeviceService",grpc_method="WatchDevices"';
      const text = await own.metrics();
      const lines = new Set(text.split("\n"));
      for (const line of [
        `grpc_server_started_total{${get}} 3`,
        `grpc_server_handled_total{${get},grpc_code="OK"} 1`,
        `grpc_server_handled_total{${get},grpc_code="NOT_FOUND"} 1`,
        // Ended by the library, behind every interceptor.
        `grpc_server_handled_total{${get},grpc_code="RESOURCE_EXHAUSTED"} 1`,
        `grpc_server_msg_received_total{${get}} 2`,
        `grpc_server_msg_sent_total{${get}} 1`,
        `grpc_server_handling_seconds_count{${get}} 3`,
        `grpc_server_started_total{${watching}} 1`,
        `grpc_server_msg_received_total{${watching}} 1`,
        `grpc_server_msg_sent_total{${watching}} 1`,
        'aperture_watchers{grpc_method="WatchDevices"} 1',
        'aperture_refusals_total{reason="DEVICE_NOT_FOUND"} 1',
      ])
        assert.ok(lines.has(line), `${line}\n${text}`);
      watch.cancel();
      const end = `grpc_server_handled_total{${watching},grpc_code="CANCELLED"} 1`;
      const after = await until(
        "the end of the watch",
        () => own.metrics(),
        (page) => page.includes(end),
      );
      assert.ok(after.includes('aperture_watchers{grpc_method="WatchDevices"} 0'));
    } finally {
      rpc.close();
      await own.stop();
    }
  });

  it("writes one JSON object a line, of printable ASCII, with the events, levels and fields of the table and nothing beside its own keys", async () => {
    assert.ok(daemon.log.all.length > 20);
    for (const line of daemon.log.all) {
      assert.match(line, /^[\x20-\x7e]+$/);
      const record = JSON.parse(line) as Readonly<Record<string, unknown>>;
      assert.deepEqual(Object.keys(record), ["level", "time", "event", "fields", "message"], line);
      const event = EVENTS[record["event"] as LogEventName];
      assert.ok(event, line);
      assert.equal(record["level"], event.level, line);
      assert.deepEqual(Object.keys(record["fields"] as object).sort(), [...event.fields].sort(), line);
      assert.match(String(record["time"]), /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
      assert.equal(line.match(/"level":/g)?.length, 1, line);
      assert.ok(line.length < 1_000, `${line.length} characters`);
    }
    const count = (name: string): number => daemon.records().filter((record) => record.event === name).length;
    // A request that is none is not logged as a refused lease. What is over the limit of lines is counted.
    const { samples } = await pageAndScrape(daemon);
    const suppressed = samples.find(({ name }) => name === "aperture_log_lines_suppressed_total")?.value ?? Number.NaN;
    assert.equal(count("lease.refused") + count("peer.rejected") + suppressed, 51 + 1);
    assert.ok(suppressed > 0);
  });

  it("carries a traceparent into the log of the call and of what it causes, and ignores one that is not valid", async () => {
    const [first, second] = ["4bf92f3577b34da6a3ce929d0e0e4736", "0af7651916cd43dd8448eb211c80319c"];
    const { channel } = await RawChannel.attached(daemon.socket);
    const acquire = (traceparent: string): ReturnType<Rpc["call"]> =>
      bench.rpc.call(LeaseService, "AcquireLease", { kind: "LEASE_KIND_DEVICE", devices: [{ address: NVME }] }, 20_000, { traceparent });
    const answer = await acquire(`00-${first}-00f067aa0ba902b7-01`);
    assert.equal(answer.code, "OK", answer.text);
    const leaseId = (answer.answer as { readonly lease: { readonly id: string } }).lease.id;
    const { frame, descriptors } = await channel.offer();
    channel.acknowledge(frame.leaseId, descriptors.length);
    await bench.becomes(NVME, "HELD");
    assert.equal((await acquire("00-nonsense\u009b")).reason, "DEVICE_BUSY");
    channel.drop();
    await bench.rpc.call(LeaseService, "ReleaseLease", { leaseId }, 20_000, { traceparent: `00-${second}-b7ad6b7169203331-00` });
    channel.close();
    // Its lines are written when the daemon has time for it.
    const ended = (): boolean => daemon.records().some(({ event, fields }) => event === "lease.ended" && fields["lease"] === leaseId);
    await until("the end of the lease in the log", ended, (seen) => seen);
    const traced = daemon.log.all
      .map((line) => JSON.parse(line) as LogRecord & { readonly trace_id?: string; readonly span_id?: string })
      .filter(({ fields }) => fields["lease"] === leaseId);
    const seen = traced.map(({ event, fields, trace_id, span_id }) => `${event} ${String(fields["to"] ?? "")} ${trace_id} ${span_id}`);
    assert.deepEqual(seen, [
      `lease.state OPENING ${first} 00f067aa0ba902b7`,
      `lease.state OFFERED ${first} 00f067aa0ba902b7`,
      `lease.granted  ${first} 00f067aa0ba902b7`,
      `lease.state HELD ${first} 00f067aa0ba902b7`,
      `lease.state RELEASING ${second} b7ad6b7169203331`,
      `lease.state RESETTING ${second} b7ad6b7169203331`,
      `lease.state FREE ${second} b7ad6b7169203331`,
      `lease.ended  ${second} b7ad6b7169203331`,
    ]);
    const untraced = daemon.log.all.filter((line) => line.includes('"trace_id"')).length;
    assert.equal(untraced, seen.length, "nothing else carries a trace");
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

  it("serves on while nobody reads its log, counts the lines that are lost, and writes whole lines again", {
    timeout: 120_000,
  }, async () => {
    const unread = await DaemonProcess.start();
    const client = await connectClient({ socket: unread.socket, timeoutMs: 10_000 });
    unread.log.pause();
    const lost = async (): Promise<boolean> => !/^aperture_log_lines_suppressed_total 0$/m.test(await unread.metrics());
    /** About a kilobyte of log. */
    const leased = async (): Promise<string> => {
      const { lease } = await client.reserve({ kind: "device", addresses: [NVME] });
      return (await client.release(lease.id)).id;
    };
    for (let i = 0; i < 5_000 && !(i % 100 === 99 && (await lost())); i += 1) await leased();
    assert.ok(await lost());
    unread.log.resume();
    await until("lines again", leased, (id) => unread.log.all.some((line) => line.includes(id)));
    await client.close();
    await unread.stop();
    for (const line of unread.log.all) assert.doesNotThrow(() => JSON.parse(line), line);
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
