// The hand-over of a lease when the client is slow, short, gone or has two channels: docs/PROTOCOL.md, "What ends what".

import assert from "node:assert/strict";
import { after, afterEach, before, describe, it } from "node:test";
import { DaemonProcess } from "../harness/daemon.js";
import { HolderProcess } from "../harness/holder.js";
import { LeaseBench } from "../harness/lease-bench.js";
import { RawChannel } from "../harness/raw-channel.js";

const NVME = "0000:02:00.0";
const VF = "0000:41:01.0";
const VF2 = "0000:41:01.1";
const ACK_MS = 500;

describe("[real processes, simulated host] the hand-over of a lease", () => {
  let daemon: DaemonProcess;
  let bench: LeaseBench;
  before(async () => {
    const limits = `ack_ms = ${ACK_MS}\nfirst_call_ms = 60000\nretry_min_ms = 50\nretry_max_ms = 50\n`;
    daemon = await DaemonProcess.start({ config: `[limits]\n${limits}[[policy]]\ndevice = "*"\n` });
    bench = await LeaseBench.at(daemon);
  });
  afterEach(async () => {
    RawChannel.closeAll();
    await HolderProcess.killAll();
    await bench.allFree([NVME, VF, VF2]);
    await daemon.isAsBefore();
  });
  after(async () => {
    bench.close();
    await daemon.stop();
  });

  it("is undone when the offer is not acknowledged within limits.ack_ms", async () => {
    const { channel } = await RawChannel.attached(daemon.socket);
    const begin = performance.now();
    const { frame } = await bench.offered(channel, NVME);
    channel.drop();
    assert.equal(await bench.stateOf(NVME), "OFFERED");
    assert.equal(await channel.goodbye(), "HANDOVER_FAILED");
    const took = performance.now() - begin;
    assert.ok(took >= ACK_MS - 5 && took < ACK_MS + 1_000, `${Math.round(took)} ms`);
    assert.equal(await bench.endOf(frame.leaseId), "NOT_ACKNOWLEDGED");
    await bench.becomes(NVME, "FREE");
    // This side is still open.
    await daemon.isAsBefore();
  });

  it("keeps the device in quarantine while the offer lies unread at the client, although its channel is closed", async () => {
    const { channel } = await RawChannel.attached(daemon.socket);
    const { answer } = await bench.acquire(NVME);
    const id = answer?.lease?.id ?? "";
    assert.equal(await bench.endOf(id), "NOT_ACKNOWLEDGED");
    assert.equal(await bench.stateOf(NVME), "QUARANTINED");
    // The kernel keeps what was queued for the client: it can still receive it.
    const late = await channel.offer();
    assert.equal(late.frame.leaseId, id);
    const second = await RawChannel.attached(daemon.socket);
    assert.equal((await bench.acquire(NVME)).reason, "DEVICE_QUARANTINED");
    second.channel.close();
    channel.drop();
    await bench.becomes(NVME, "FREE");
  });

  it("is undone by a short ACK; the channel stays, is told ENDED, and can have the next offer", async () => {
    for (const count of [2, 0]) {
      const { channel } = await RawChannel.attached(daemon.socket);
      const { frame, descriptors } = await bench.offered(channel, VF);
      assert.equal(descriptors.length, 3);
      channel.drop();
      channel.acknowledge(frame.leaseId, count);
      const ended = await channel.next();
      assert.deepEqual(ended?.frame, { type: "ENDED", leaseId: frame.leaseId, cause: "SHORT_HANDOVER" });
      assert.equal(await bench.endOf(frame.leaseId), "SHORT_HANDOVER");
      await bench.becomes(VF, "FREE");
      const next = await bench.held(channel, VF);
      channel.drop();
      assert.equal((await bench.release(next.frame.leaseId)).code, "OK");
      channel.close();
    }
  });

  it("is undone when the channel closes between OFFER and ACK", async () => {
    const { channel } = await RawChannel.attached(daemon.socket);
    const { frame } = await bench.offered(channel, NVME);
    channel.close();
    assert.equal(await bench.endOf(frame.leaseId), "NOT_ACKNOWLEDGED");
    await bench.becomes(NVME, "FREE");
  });

  it("is undone when the channel closes while the offer lies in it", async () => {
    for (let round = 0; round < 20; round += 1) {
      const { channel } = await RawChannel.attached(daemon.socket);
      const answer = bench.acquire(NVME);
      // Sometimes before the daemon has opened the device, sometimes after it has sent the offer.
      if (round % 2 === 0) await answer;
      channel.close();
      const { code, reason } = await answer;
      assert.ok(code === "OK" || reason === "HANDOVER_FAILED" || reason === "NO_DESCRIPTOR_CHANNEL", `${code} ${reason}`);
      await bench.becomes(NVME, "FREE");
    }
  });

  it("once done, survives the close of its channel, and is released without one", async () => {
    const { channel } = await RawChannel.attached(daemon.socket);
    const { frame } = await bench.held(channel, NVME);
    channel.close();
    // The next channel of the process is a new one; when it is there, the daemon has seen the close of the first.
    const { channel: next } = await RawChannel.attached(daemon.socket);
    next.close();
    assert.equal(await bench.stateOf(NVME), "HELD");
    const released = await bench.release(frame.leaseId);
    assert.equal(released.code, "OK");
    assert.equal(await bench.endOf(frame.leaseId), "RELEASED");
  });

  it("goes to the channel that the request names, else to the one attached last", async () => {
    const first = await RawChannel.attached(daemon.socket);
    const second = await RawChannel.attached(daemon.socket);
    assert.notEqual(first.id, second.id);
    const named = await bench.held(first.channel, NVME, { channel: first.id.toString() });
    const latest = await bench.held(second.channel, VF);
    const again = await bench.held(second.channel, VF2, { channel: second.id.toString() });
    for (const { channel } of [first, second]) channel.drop();
    for (const { frame } of [named, latest, again]) assert.equal((await bench.release(frame.leaseId)).code, "OK");
  });

  it("is refused without a channel, with one that is not attached, with one of another process, and with one that is closed", async () => {
    assert.equal((await bench.acquire(NVME)).reason, "NO_DESCRIPTOR_CHANNEL");
    await RawChannel.connect(daemon.socket);
    assert.equal((await bench.acquire(NVME)).reason, "NO_DESCRIPTOR_CHANNEL");
    const { channel, id } = await RawChannel.attached(daemon.socket);
    const holder = await HolderProcess.start(daemon.socket);
    await holder.must(`acquire ${VF}`);
    // Channels are numbered one after the other: the holder's is the next one.
    const foreign = await bench.acquire(NVME, { channel: (id + 1n).toString() });
    assert.deepEqual([foreign.code, foreign.reason], ["FAILED_PRECONDITION", "NO_DESCRIPTOR_CHANNEL"]);
    channel.close();
    const { channel: next } = await RawChannel.attached(daemon.socket);
    assert.equal((await bench.acquire(NVME, { channel: id.toString() })).reason, "NO_DESCRIPTOR_CHANNEL");
    next.close();
    await holder.must("release");
  });

  it("has one offer at a time on a channel: HANDOVER_PENDING until it is acknowledged", async () => {
    const { channel } = await RawChannel.attached(daemon.socket);
    const { frame, descriptors } = await bench.offered(channel, NVME);
    const refused = await bench.acquire(VF);
    assert.deepEqual([refused.code, refused.reason], ["RESOURCE_EXHAUSTED", "HANDOVER_PENDING"]);
    assert.equal(await bench.stateOf(VF), "FREE");
    channel.acknowledge(frame.leaseId, descriptors.length);
    await bench.becomes(NVME, "HELD");
    const second = await bench.held(channel, VF);
    channel.drop();
    for (const leaseId of [frame.leaseId, second.frame.leaseId]) assert.equal((await bench.release(leaseId)).code, "OK");
  });

  it("may be released before it is acknowledged, and the late ACK is no violation", async () => {
    const { channel } = await RawChannel.attached(daemon.socket);
    const { frame, descriptors } = await bench.offered(channel, NVME);
    channel.drop();
    assert.equal((await bench.release(frame.leaseId)).code, "OK");
    assert.equal(await bench.stateOf(NVME), "FREE");
    channel.acknowledge(frame.leaseId, descriptors.length);
    const next = await bench.held(channel, NVME);
    channel.drop();
    assert.equal((await bench.release(next.frame.leaseId)).code, "OK");
  });

  it("of others goes on while some never read theirs", async () => {
    const honest = [await HolderProcess.start(daemon.socket), await HolderProcess.start(daemon.socket)];
    await RawChannel.attached(daemon.socket);
    assert.equal((await bench.acquire(VF)).code, "OK");
    for (let i = 0; i < 10; i += 1) {
      for (const holder of honest) {
        await holder.must(`acquire ${NVME}`);
        await holder.must("release");
      }
    }
    assert.notEqual(await bench.stateOf(VF), "FREE");
  });
});
