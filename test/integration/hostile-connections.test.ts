// Connections that say nothing, or half of something, or nonsense: they cost an honest client nothing, and are gone in time although the attacker keeps its end open.

import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { after, afterEach, before, describe, it } from "node:test";
import { type ApertureClient, connect } from "../../src/client/index.js";
import { Attacker } from "../harness/attacker.js";
import { DaemonProcess } from "../harness/daemon.js";
import { descriptorsOf } from "../harness/descriptors.js";
import { acquireMessage, callHeaders, callMessage, endlessHeaders, PREFACE, resetStream, SETTINGS } from "../harness/http2-bytes.js";
import { RawChannel } from "../harness/raw-channel.js";
import { until } from "../harness/until.js";

const NVME = "0000:02:00.0";
const ATTACKERS = 60;
const FIRST_CALL_MS = 500;
const ACQUIRE = "/aperture.v1.LeaseService/AcquireLease";

const opened = Buffer.concat([PREFACE, SETTINGS]);
const headers = Buffer.concat([opened, callHeaders(1, ACQUIRE)]);
const whole = Buffer.concat([headers, callMessage(1, acquireMessage(NVME))]);
/** A call of a method that is not there: answered, and no call. */
const unknownMethod = Buffer.concat([opened, callHeaders(1, "/aperture.v1.LeaseService/Nothing"), callMessage(1, Buffer.alloc(0))]);
const resets = Buffer.concat([
  opened,
  ...Array.from({ length: 300 }, (_, i) => [callHeaders(2 * i + 1, ACQUIRE), resetStream(2 * i + 1)]).flat(),
]);

interface Attack {
  readonly name: string;
  readonly start: (path: string) => Promise<Attacker>;
}

const ATTACKS: readonly Attack[] = [
  { name: "silent", start: (path) => Attacker.start(path, Buffer.alloc(0)) },
  { name: "half of the preface", start: (path) => Attacker.start(path, PREFACE.subarray(0, 12)) },
  { name: "the preface only", start: (path) => Attacker.start(path, opened) },
  { name: "HEADERS of a call, and no message", start: (path) => Attacker.start(path, headers) },
  { name: "a call without its last byte", start: (path) => Attacker.start(path, whole.subarray(0, -1)) },
  { name: "calls of unknown methods", start: (path) => Attacker.start(path, unknownMethod) },
  { name: "300 streams opened and reset", start: (path) => Attacker.start(path, resets) },
  { name: "HEADERS that never end", start: (path) => Attacker.start(path, Buffer.concat([opened, endlessHeaders(1, 2_000)])) },
  { name: "garbage", start: (path) => Attacker.start(path, randomBytes(4_096)) },
  { name: "HTTP/1", start: (path) => Attacker.start(path, Buffer.from("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")) },
  { name: "a byte at a time", start: (path) => Attacker.start(path, Buffer.alloc(0), { bytes: whole, everyMs: 20 }) },
];

describe("[real processes, simulated host] hostile connections on the gRPC socket", () => {
  let daemon: DaemonProcess;
  let client: ApertureClient;
  before(async () => {
    // The caps would keep most attackers out by themselves: here it is the deadline's turn.
    const limits = `connections = 512\nconnections_per_uid = 256\nfirst_call_ms = ${FIRST_CALL_MS}\n`;
    daemon = await DaemonProcess.start({ config: `[limits]\n${limits}` });
    client = await connect({ socket: daemon.socket });
    // Attaches its channel, which stays.
    await (await client.acquire({ kind: "device", addresses: [NVME] })).release();
    daemon.rebase();
  });
  afterEach(async () => {
    Attacker.stopAll();
    await daemon.isAsBefore();
  });
  after(async () => {
    await client.close();
    await daemon.stop();
  });

  async function honestWork(): Promise<void> {
    for (let i = 0; i < 30; i += 1) {
      assert.equal((await client.device(NVME)).state, "FREE");
      await (await client.acquire({ kind: "device", addresses: [NVME] })).release();
    }
  }

  for (const { name, start } of ATTACKS) {
    it(`${ATTACKERS} of: ${name}`, async () => {
      const attackers = await Promise.all(Array.from({ length: ATTACKERS }, () => start(daemon.socket)));
      const begin = performance.now();
      await honestWork();
      // From the time when all were connected; they have not closed their ends.
      const rest = Math.max(0, FIRST_CALL_MS + 2_000 - (performance.now() - begin));
      const { length } = daemon.baseline;
      await until(
        "descriptors",
        () => descriptorsOf(daemon.pid).length,
        (now) => now === length,
        rest,
      );
      await until(
        "attackers that were closed",
        () => attackers.filter((attacker) => attacker.closedByDaemon).length,
        (now) => now === ATTACKERS,
      );
    });
  }

  it("has counted each connection that it closed for want of a first call", async () => {
    const rejected = daemon.records().filter((record) => record.event === "peer.rejected");
    const reasons = new Set(rejected.map((record) => record.fields["reason"]));
    assert.deepEqual([...reasons], ["NO_FIRST_CALL"]);
    const text = await daemon.metrics();
    const value = (series: string): number =>
      Number(
        text
          .split("\n")
          .find((line) => line.startsWith(`${series} `))
          ?.slice(series.length),
      );
    const counted = value('aperture_peer_rejections_total{reason="NO_FIRST_CALL"}');
    assert.equal(counted, rejected.length + value("aperture_log_lines_suppressed_total"));
    // Nonsense is closed by HTTP/2 itself, at once.
    assert.ok(counted >= 5 * ATTACKERS, String(counted));
  });

  it("keeps a connection that has made its first call in time", async () => {
    const late = await Attacker.start(daemon.socket, headers);
    // The rest of the message while the deadline runs.
    late.write(callMessage(1, acquireMessage("0000:00:00.0")));
    const silent = await Attacker.start(daemon.socket, opened);
    await until(
      "the silent one",
      () => silent.closedByDaemon,
      (closed) => closed,
    );
    assert.equal(late.closedByDaemon, false);
  });

  it(`${ATTACKERS} channels that never attach are told ATTACH_TIMEOUT, and closed`, async () => {
    const channels = await Promise.all(Array.from({ length: ATTACKERS }, () => RawChannel.connect(daemon.socket)));
    const begin = performance.now();
    await honestWork();
    for (const channel of channels) assert.equal(await channel.goodbye(), "ATTACH_TIMEOUT");
    assert.ok(performance.now() - begin < FIRST_CALL_MS + 2_000);
    // Still open on this side.
    await daemon.isAsBefore();
    RawChannel.closeAll();
  });
});
