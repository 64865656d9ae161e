// LeaseService.Session: many calls over one stream, in order and out of it, and what becomes of its leases when it ends.

import assert from "node:assert/strict";
import { after, afterEach, before, describe, it } from "node:test";
import type { ClientDuplexStream } from "@grpc/grpc-js";
import type { SessionRequest } from "../../src/generated/aperture/v1/SessionRequest.js";
import type { SessionResponse__Output } from "../../src/generated/aperture/v1/SessionResponse.js";
import { DaemonProcess } from "../harness/daemon.js";
import { LeaseBench } from "../harness/lease-bench.js";
import { RawChannel } from "../harness/raw-channel.js";
import { failed, Rpc, readRefusal } from "../harness/rpc.js";
import { until } from "../harness/until.js";

const NVME = "0000:02:00.0";
const VF = "0000:41:01.0";
const NO_LEASE = "00000000-0000-4000-8000-000000000000";

type Stream = ClientDuplexStream<SessionRequest, SessionResponse__Output>;

describe("[real processes, simulated host] sessions", () => {
  let daemon: DaemonProcess;
  let bench: LeaseBench;
  before(async () => {
    const limits = "[limits]\nack_ms = 60000\nfirst_call_ms = 60000\nretry_min_ms = 50\nretry_max_ms = 50\n";
    daemon = await DaemonProcess.start({ config: `${limits}[[policy]]\ndevice = "*"\nmode = ["hand_off", "retain"]\ndelegate = true\n` });
    bench = await LeaseBench.at(daemon);
  });
  afterEach(async () => {
    Rpc.closeAllBut(bench.rpc);
    RawChannel.closeAll();
    await bench.allFree([NVME, VF]);
    await daemon.isAsBefore();
  });
  after(async () => {
    bench.close();
    await daemon.stop();
  });

  /** What has arrived on a stream; its end. */
  class Talk {
    readonly stream: Stream;
    readonly answers: SessionResponse__Output[] = [];
    readonly end: Promise<{ readonly code: string; readonly fields: readonly string[] }>;

    constructor() {
      this.stream = new Rpc(daemon.socket).session();
      this.stream.on("data", (answer: SessionResponse__Output) => this.answers.push(answer));
      this.end = new Promise((resolve) => {
        this.stream.on("error", (error) => resolve(failed(error as never)));
        // Follows the error, if there is one.
        this.stream.on("status", () => resolve({ code: "OK", fields: [] }));
      });
    }

    say(request: SessionRequest): void {
      this.stream.write(request);
    }

    /** The answer to this sequence. */
    async answer(sequence: number): Promise<SessionResponse__Output> {
      const found = await until(
        `the answer to ${sequence}`,
        () => this.answers.find((answer) => answer.sequence === String(sequence)),
        (answer) => answer !== undefined,
      );
      if (found === undefined) throw new Error("unreachable");
      return found;
    }

    async acquire(sequence: number, channel: RawChannel, address = NVME): Promise<string> {
      this.say({ sequence, acquire: { kind: "LEASE_KIND_DEVICE", devices: [{ address }] } });
      const [{ acquire }, offer] = await Promise.all([this.answer(sequence), channel.offer()]);
      assert.equal(acquire?.lease?.id, offer.frame.leaseId);
      channel.acknowledge(offer.frame.leaseId, offer.descriptors.length);
      await bench.becomes(address, "HELD");
      channel.drop();
      return offer.frame.leaseId;
    }
  }

  it("answer acquire, get and release under their sequences", async () => {
    const { channel } = await RawChannel.attached(daemon.socket);
    const talk = new Talk();
    const leaseId = await talk.acquire(7, channel);
    talk.say({ sequence: 0, get: { leaseId } });
    assert.equal((await talk.answer(0)).get?.lease?.state, "LEASE_STATE_HELD");
    talk.say({ sequence: "18446744073709551615", release: { leaseId } });
    const last = await until(
      "the release",
      () => talk.answers.find(({ sequence }) => sequence === "18446744073709551615"),
      (answer) => answer !== undefined,
    );
    assert.equal(last?.release?.lease?.endCause, "END_CAUSE_RELEASED");
    talk.stream.end();
    assert.equal((await talk.end).code, "OK");
  });

  it("refuse as google.rpc.Status, with what a unary call's details hold, and go on", async () => {
    const talk = new Talk();
    talk.say({ sequence: 1, acquire: { kind: "LEASE_KIND_DEVICE", devices: [{ address: "0000:ff:1f.7" }] } });
    talk.say({ sequence: 2, get: { leaseId: "x" } });
    talk.say({ sequence: 3, release: { leaseId: NO_LEASE } });
    const refusals = [];
    for (const sequence of [1, 2, 3]) refusals.push(readRefusal((await talk.answer(sequence)).error));
    const unary = await bench.acquire("0000:ff:1f.7");
    assert.deepEqual(refusals[0], { code: "NOT_FOUND", reason: "DEVICE_NOT_FOUND", fields: [], text: unary.text });
    assert.deepEqual([refusals[1]?.reason, refusals[1]?.fields], ["INVALID_FIELD", ["lease_id"]]);
    assert.equal(refusals[2]?.reason, "LEASE_NOT_FOUND");
    talk.stream.cancel();
    assert.equal((await talk.end).code, "CANCELLED");
  });

  it("end with INVALID_ARGUMENT for a message that asks nothing and for options that are late", async () => {
    const get = { sequence: 1, get: { leaseId: NO_LEASE } };
    const cases: readonly (readonly [string, readonly SessionRequest[]])[] = [
      ["request", [{ sequence: 1 }]],
      ["options", [get, { options: {} }]],
      ["options", [{ options: {} }, { options: {} }]],
    ];
    for (const [field, messages] of cases) {
      const talk = new Talk();
      for (const message of messages) talk.say(message);
      assert.deepEqual(await talk.end.then(({ code, fields }) => [code, fields]), ["INVALID_ARGUMENT", [field]]);
    }
  });

  it("end their leases when they asked for it, however they end, and only theirs", async () => {
    const { channel } = await RawChannel.attached(daemon.socket);
    for (const how of ["half-close", "cancel", "violation", "cut"] as const) {
      const other = await bench.held(channel, VF);
      channel.drop();
      const talk = new Talk();
      talk.say({ options: { endLeases: true } });
      const leaseId = await talk.acquire(1, channel);
      if (how === "half-close") talk.stream.end();
      if (how === "cancel") talk.stream.cancel();
      if (how === "violation") talk.say({ sequence: 9 });
      if (how === "cut") Rpc.closeAllBut(bench.rpc);
      assert.deepEqual((await channel.next())?.frame, { type: "ENDED", leaseId, cause: "SESSION_ENDED" }, how);
      assert.equal(await bench.endOf(leaseId), "SESSION_ENDED");
      assert.equal(await bench.stateOf(VF), "HELD");
      assert.equal((await bench.release(other.frame.leaseId)).code, "OK");
    }
  });

  it("leave their leases when they did not", async () => {
    const { channel } = await RawChannel.attached(daemon.socket);
    const talk = new Talk();
    talk.say({ options: { endLeases: false } });
    const leaseId = await talk.acquire(1, channel);
    talk.stream.end();
    assert.equal((await talk.end).code, "OK");
    assert.equal((await bench.lease(leaseId)).state, "LEASE_STATE_HELD");
    assert.equal((await bench.release(leaseId)).code, "OK");
  });

  it("answer what is running after a half-close, then end", async () => {
    const talk = new Talk();
    for (let sequence = 0; sequence < 200; sequence += 1) talk.say({ sequence, get: { leaseId: NO_LEASE } });
    talk.stream.end();
    assert.equal((await talk.end).code, "OK");
    assert.equal(new Set(talk.answers.map(({ sequence }) => sequence)).size, 200);
  });

  it("end a reserved lease too, and its ticket", async () => {
    const { channel } = await RawChannel.attached(daemon.socket);
    const talk = new Talk();
    talk.say({ options: { endLeases: true } });
    talk.say({ sequence: 1, acquire: { kind: "LEASE_KIND_DEVICE", devices: [{ address: VF }], ticket: {} } });
    const { acquire } = await talk.answer(1);
    assert.equal(acquire?.ticket.byteLength, 16);
    talk.stream.end();
    await talk.end;
    assert.equal(await bench.endOf(acquire?.lease?.id ?? ""), "SESSION_ENDED");
    channel.show(acquire?.ticket ?? Buffer.alloc(16));
    assert.deepEqual((await channel.next())?.frame, { type: "REFUSED", reason: "TICKET_EXPIRED" });
  });

  it("leave the leases with their holders when the daemon stops", async () => {
    const own = await DaemonProcess.start({ config: '[[policy]]\ndevice = "*"\n' });
    const rpc = new Rpc(own.socket);
    const { channel } = await RawChannel.attached(own.socket);
    const stream = rpc.session();
    const ended = new Promise((resolve) => stream.once("status", resolve));
    stream.on("error", () => undefined).resume();
    stream.write({ options: { endLeases: true } });
    stream.write({ sequence: 1, acquire: { kind: "LEASE_KIND_DEVICE", devices: [{ address: NVME }] } });
    const { frame, descriptors } = await channel.offer();
    channel.acknowledge(frame.leaseId, descriptors.length);
    await own.event("lease.state", 10_000, (record) => record.fields["to"] === "HELD");
    await own.stop();
    await ended;
    const last = (await channel.next())?.frame;
    assert.deepEqual(last, { type: "GOODBYE", reason: "DRAINING" });
  });
});
