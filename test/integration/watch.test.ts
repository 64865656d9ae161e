// WatchDevices: what a watcher sees, and what one that does not read, goes away, or comes in numbers costs.

import assert from "node:assert/strict";
import { once } from "node:events";
import http2 from "node:http2";
import { connect } from "node:net";
import { after, afterEach, before, describe, it } from "node:test";
import type { ClientReadableStream } from "@grpc/grpc-js";
import type { WatchDevicesResponse__Output } from "../../src/generated/aperture/v1/WatchDevicesResponse.js";
import { SIMULATED_DEVICES } from "../../src/host/simulated-devices.js";
import { Attacker } from "../harness/attacker.js";
import { DaemonProcess } from "../harness/daemon.js";
import { callHeaders, callMessage, PREFACE, SETTINGS } from "../harness/http2-bytes.js";
import { LeaseBench } from "../harness/lease-bench.js";
import { RawChannel } from "../harness/raw-channel.js";
import { DeviceService, failed, Rpc } from "../harness/rpc.js";
import { until } from "../harness/until.js";

const NVME = "0000:02:00.0";
const WATCHERS = 4;
const PATH = "/aperture.v1.DeviceService/WatchDevices";

type Watch = ClientReadableStream<WatchDevicesResponse__Output>;

describe("[real processes, simulated host] watching the inventory", () => {
  let daemon: DaemonProcess;
  let bench: LeaseBench;
  let channel: RawChannel;
  before(async () => {
    daemon = await DaemonProcess.start({ config: `[limits]\nwatchers = ${WATCHERS}\nconnections_per_uid = 100\n` });
    bench = await LeaseBench.at(daemon);
    ({ channel } = await RawChannel.attached(daemon.socket));
    await round();
    daemon.rebase();
  });
  afterEach(async () => {
    Attacker.stopAll();
    await daemon.isAsBefore();
  });
  after(async () => {
    Rpc.closeAll();
    RawChannel.closeAll();
    await daemon.stop();
  });

  /** One lease and its end: OPENING, OFFERED, HELD, RELEASING, RESETTING, FREE. */
  async function round(): Promise<void> {
    const { frame } = await bench.held(channel, NVME);
    channel.drop();
    assert.equal((await bench.release(frame.leaseId)).code, "OK");
  }

  function watch(rpc: Rpc, request: object = {}): Watch {
    const { responseDeserialize, requestSerialize } = DeviceService.service.WatchDevices;
    const stream = rpc.stream(PATH, requestSerialize(request as never), responseDeserialize) as Watch;
    return stream;
  }

  /** What has arrived so far. */
  function collect(stream: Watch): WatchDevicesResponse__Output[] {
    const messages: WatchDevicesResponse__Output[] = [];
    stream.on("data", (message: WatchDevicesResponse__Output) => messages.push(message));
    return messages;
  }

  const eventsOf = (messages: readonly WatchDevicesResponse__Output[]): readonly (readonly [string, string, string])[] =>
    messages.flatMap(({ events }) =>
      events.map(({ kind, device }) => {
        const state = device?.state.replace("DEVICE_STATE_", "") ?? "";
        return [kind.replace("DEVICE_EVENT_KIND_", ""), device?.address ?? "", state] as const;
      }),
    );

  async function synced(messages: readonly WatchDevicesResponse__Output[]): Promise<void> {
    await until(
      "SYNCED",
      () => eventsOf(messages).map(([kind]) => kind),
      (kinds) => kinds.includes("SYNCED"),
    );
  }

  it("tells a snapshot of every device, SYNCED once, then each change in order", async () => {
    const rpc = new Rpc(daemon.socket);
    const messages = collect(watch(rpc));
    await synced(messages);
    const snapshot = eventsOf(messages);
    assert.equal(snapshot.length, SIMULATED_DEVICES.length + 1);
    assert.deepEqual(snapshot.at(-1), ["SYNCED", "", ""]);
    const addresses = snapshot.slice(0, -1).map(([, address]) => address);
    assert.deepEqual(addresses, [...addresses].sort());
    assert.ok(snapshot.slice(0, -1).every(([kind]) => kind === "SNAPSHOT"));
    await round();
    await until(
      "the end of the round",
      () => eventsOf(messages).at(-1),
      (last) => last?.[2] === "FREE",
    );
    const changes = eventsOf(messages).slice(snapshot.length);
    assert.ok(changes.every(([kind, address]) => kind === "CHANGED" && address === NVME));
    // Changes of one turn of the event loop go out as the last of them: none of these is shorter than that, but any other may be missing.
    const order = ["OPENING", "OFFERED", "HELD", "RELEASING", "RESETTING", "FREE"];
    const places = changes.map(([, , state]) => order.indexOf(state));
    assert.deepEqual(places, [...new Set(places)].sort(), changes.join(" "));
    for (const state of ["OFFERED", "HELD", "FREE"]) assert.ok(places.includes(order.indexOf(state)), `${state} was not told`);
    const revisions = messages.map(({ revision }) => BigInt(revision));
    assert.deepEqual(
      revisions,
      [...revisions].sort((a, b) => Number(a - b)),
    );
    rpc.close();
  });

  it("tells what the filter lets through, and SYNCED also when that is nothing", async () => {
    const rpc = new Rpc(daemon.socket);
    const others = collect(watch(rpc, { filter: { vendorId: 0x8086 } }));
    const none = collect(watch(rpc, { filter: { addresses: ["0000:7f:00.0"] } }));
    await Promise.all([synced(others), synced(none)]);
    await round();
    assert.deepEqual(eventsOf(none), [["SYNCED", "", ""]]);
    assert.deepEqual(
      new Set(eventsOf(others).map(([, address]) => address)),
      new Set(["0000:00:02.0", "0000:41:00.0", "0000:41:01.0", "0000:41:01.1", ""]),
    );
    rpc.close();
  });

  it("keeps for a watcher that does not read the last state of each device, not every change", async () => {
    const rpc = new Rpc(daemon.socket);
    const attentive = collect(watch(rpc));
    await synced(attentive);
    // Not grpc-js: its client goes on reading when its stream is paused.
    const session = http2.connect("http://localhost", {
      createConnection: () => connect(daemon.socket),
      settings: { initialWindowSize: 1_000 },
    });
    const deaf = session.request({ ":method": "POST", ":path": PATH, "content-type": "application/grpc", te: "trailers" });
    deaf.end(Buffer.alloc(5));
    deaf.pause();
    await once(deaf, "response");
    const changes = (): number => eventsOf(attentive).length;
    for (let i = 0; i < 100; i += 1) await round();
    await until("the changes of all rounds", changes, (count) => count >= 300);
    const chunks: Buffer[] = [];
    deaf.on("data", (chunk: Buffer) => chunks.push(chunk));
    deaf.resume();
    // To the newest state, which is the same for both.
    const newest = (): string | undefined => messagesIn(Buffer.concat(chunks)).at(-1)?.revision;
    await until("the newest revision", newest, (revision) => revision !== undefined && revision === attentive.at(-1)?.revision);
    const kept = eventsOf(messagesIn(Buffer.concat(chunks)));
    assert.deepEqual(kept.at(-1), ["CHANGED", NVME, "FREE"]);
    // The snapshot, what flow control and buffers had taken before it stopped, and nothing that grows with the number of changes.
    assert.ok(kept.length < 60, `${kept.length} of ${changes()} events were kept`);
    session.destroy();
    rpc.close();
  });

  /** The whole messages of a gRPC stream. */
  function messagesIn(bytes: Buffer): readonly WatchDevicesResponse__Output[] {
    const messages: WatchDevicesResponse__Output[] = [];
    for (let at = 0; at + 5 <= bytes.byteLength; ) {
      const end = at + 5 + bytes.readUInt32BE(at + 1);
      if (end > bytes.byteLength) break;
      messages.push(DeviceService.service.WatchDevices.responseDeserialize(bytes.subarray(at + 5, end)));
      at = end;
    }
    return messages;
  }

  async function refusalOf(stream: Watch): Promise<ReturnType<typeof failed>> {
    return await new Promise((resolve) => stream.once("error", (error) => resolve(failed(error as never))));
  }

  /** As many watchers as there may be, each served. The daemon hears of the end of those before in its own time: asked until there is a place for each. */
  async function allPlaces(rpc: Rpc): Promise<readonly Watch[]> {
    const attempt = async (): Promise<readonly Watch[] | null> => {
      const streams = Array.from({ length: WATCHERS }, () => watch(rpc));
      const served = await Promise.all(
        streams.map(
          (stream) =>
            new Promise<boolean>((resolve) => {
              stream.once("data", () => resolve(true));
              stream.once("error", () => resolve(false));
            }),
        ),
      );
      if (!served.includes(false)) return streams;
      for (const stream of streams) stream.cancel();
      return null;
    };
    const all = await until("places of all watchers", attempt, (streams) => streams !== null);
    return all ?? [];
  }

  it("serves exactly limits.watchers, and a place that is given back is a place again", { timeout: 30_000 }, async () => {
    const rpc = new Rpc(daemon.socket);
    for (let again = 0; again < 20; again += 1) {
      const streams = await allPlaces(rpc);
      const { code, reason, text } = await refusalOf(watch(rpc));
      assert.deepEqual([code, reason], ["RESOURCE_EXHAUSTED", "CONNECTION_QUOTA"]);
      assert.match(text, /4 watchers are the most/);
      for (const stream of streams) stream.cancel();
    }
    rpc.close();
  });

  it("has its place back from watchers whose connection was cut, 40 times", async () => {
    const rpc = new Rpc(daemon.socket);
    for (const stream of await allPlaces(rpc)) stream.cancel();
    const bytes = Buffer.concat([PREFACE, SETTINGS, callHeaders(1, PATH), callMessage(1, Buffer.alloc(0))]);
    for (let i = 0; i < 40; i += 1) {
      const attacker = await Attacker.start(daemon.socket, bytes);
      attacker.stop();
    }
    await allPlaces(rpc);
    rpc.close();
  });
});
