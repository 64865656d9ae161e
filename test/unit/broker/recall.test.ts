// Asking for leases back: by time, by request of the daemon.

import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { ANYBODY, client, type FakeBroker, fakeBroker, GRACE_MS, hold, settle, wish } from "../../fakes/broker.js";
import type { FakeChannel, FakePeer } from "../../fakes/handover.js";
import { fakeAddress } from "../../fakes/host.js";

const A = fakeAddress(1);

function channelOf(broker: FakeBroker, peer: FakePeer): FakeChannel {
  const channel = broker.handover.channels.get(peer.processId);
  if (!channel) throw new Error("no channel");
  return channel;
}

function sound(broker: FakeBroker): void {
  assert.deepEqual(broker.observer.faults, []);
  assert.deepEqual(broker.host.violations, []);
}

describe("[pure] recalls", () => {
  it("come at expire_time; the end comes after the grace", async () => {
    const broker = await fakeBroker([[1]]);
    const peer = client(broker, 1, 1000);
    const begin = broker.clock.now();
    const lease = await hold(broker, peer, A, { maxDurationMs: 5000 });
    const id = lease.value?.id ?? "";
    assert.equal(lease.value?.expireTime, begin + 5000);
    broker.clock.advance(4999);
    assert.deepEqual(channelOf(broker, peer).recalls, []);
    broker.clock.advance(1);
    assert.deepEqual(channelOf(broker, peer).recalls, [[id, "EXPIRED", GRACE_MS]]);
    assert.deepEqual(broker.leases.get(peer, id).value?.recall, { cause: "EXPIRED", deadline: begin + 5000 + GRACE_MS });
    assert.deepEqual(broker.observer.recalls, [[id, "EXPIRED", GRACE_MS]]);
    broker.clock.advance(GRACE_MS - 1);
    assert.equal(broker.inventory.get(A)?.state, "HELD");
    broker.clock.advance(1);
    await settle();
    assert.deepEqual(channelOf(broker, peer).ends, [[id, "EXPIRED"]]);
    assert.deepEqual([broker.leases.get(peer, id).value?.endCause, broker.inventory.get(A)?.state], ["EXPIRED", "FREE"]);
    assert.deepEqual([broker.clock.pending, broker.host.resets], [0, 1]);
    sound(broker);
  });

  it("leave the devices in quarantine when the holder has kept them", async () => {
    const broker = await fakeBroker([[1]]);
    const peer = client(broker, 1, 1000);
    const lease = await hold(broker, peer, A, { maxDurationMs: 1000 });
    broker.host.device(A).held = true;
    broker.clock.advance(1000);
    broker.clock.advance(GRACE_MS);
    await settle();
    assert.deepEqual(broker.leases.get(peer, lease.value?.id ?? "").value?.quarantined, [A]);
    assert.equal(broker.inventory.get(A)?.state, "QUARANTINED");
    sound(broker);
  });

  it("are over when the holder gives the lease back in time", async () => {
    const broker = await fakeBroker([[1]]);
    const peer = client(broker, 1, 1000);
    const lease = await hold(broker, peer, A, { maxDurationMs: 1000 });
    broker.clock.advance(1000);
    const released = await broker.leases.release(peer, lease.value?.id ?? "");
    assert.deepEqual([released.value?.endCause, broker.clock.pending], ["RELEASED", 0]);
    assert.deepEqual(channelOf(broker, peer).ends, []);
    sound(broker);
  });

  it("take the shorter of what was asked for and what the rules allow", async () => {
    const rules = [{ ...ANYBODY, maxDurationMs: 3000 }];
    for (const [asked, expected] of [
      [null, 3000],
      [2000, 2000],
      [4000, 3000],
    ] as const) {
      const broker = await fakeBroker([[1]], rules);
      const lease = await hold(broker, client(broker, 1, 1000), A, { maxDurationMs: asked });
      assert.equal(lease.value?.expireTime, broker.clock.now() + expected);
    }
    const endless = await fakeBroker([[1]]);
    assert.equal((await hold(endless, client(endless, 1, 1000), A)).value?.expireTime, null);
    assert.equal(endless.clock.pending, 0);
  });

  it("of two the one that ends sooner holds, with its cause", async () => {
    const broker = await fakeBroker([[1]]);
    const peer = client(broker, 1, 1000);
    const lease = await hold(broker, peer, A);
    const id = lease.value?.id ?? "";
    assert.equal(broker.leases.recall(id, "EXPIRED", 10_000), true);
    broker.leases.recall(id, "DEVICE_REMOVED", 20_000);
    assert.equal(broker.leases.get(peer, id).value?.recall?.cause, "EXPIRED");
    broker.leases.recall(id, "DEVICE_REMOVED", 5_000);
    assert.deepEqual(channelOf(broker, peer).recalls, [
      [id, "EXPIRED", 10_000],
      [id, "DEVICE_REMOVED", 5_000],
    ]);
    broker.clock.advance(5_000);
    await settle();
    assert.deepEqual([broker.leases.get(peer, id).value?.endCause, broker.clock.pending], ["DEVICE_REMOVED", 0]);
    assert.equal(broker.leases.recall(id, "EXPIRED"), false);
    sound(broker);
  });

  it("end what is only reserved at once: nobody has it", async () => {
    const broker = await fakeBroker([[1]]);
    const peer = client(broker, 1, 1000);
    const ticket = { uid: null, lifetimeMs: 60_000 };
    const reserved = await broker.leases.acquire(peer, wish(A, { ticket, maxDurationMs: 1000 }));
    broker.clock.advance(1000);
    const ended = broker.leases.get(peer, reserved.value?.lease.id ?? "").value;
    assert.deepEqual([ended?.endCause, ended?.recall, broker.inventory.get(A)?.state], ["EXPIRED", null, "FREE"]);
    assert.equal(broker.clock.pending, 0);
    sound(broker);
  });

  it("that come while the devices are being opened are told right after the offer", async () => {
    const broker = await fakeBroker([[1]]);
    const peer = client(broker, 1, 1000);
    broker.host.between = (step) => {
      if (step === "open") broker.clock.advance(1000);
    };
    const lease = await broker.leases.acquire(peer, wish(A, { maxDurationMs: 1000 }));
    assert.equal(lease.value?.lease.phase, "OFFERED");
    assert.deepEqual(channelOf(broker, peer).recalls, [[lease.value?.lease.id, "EXPIRED", GRACE_MS]]);
    // Opening that takes longer than all the time that there is ends in a refusal.
    const slow = await fakeBroker([[1]]);
    slow.host.between = (step) => {
      if (step === "open") for (const ms of [1000, GRACE_MS]) slow.clock.advance(ms);
    };
    const late = await slow.leases.acquire(client(slow, 1, 1000), wish(A, { maxDurationMs: 1000 }));
    assert.equal(late.refusal?.reason, "HOST_OPERATION_FAILED");
    assert.deepEqual([slow.inventory.get(A)?.state, slow.clock.pending, slow.host.openLeases], ["FREE", 0, 0]);
    sound(slow);
  });

  it("come when a device is leaving: held, it is asked for; reserved, it is over at once", async () => {
    const broker = await fakeBroker([[1], [2]]);
    const peer = client(broker, 1, 1000);
    const lease = await hold(broker, peer, A);
    const id = lease.value?.id ?? "";
    const ticket = { uid: null, lifetimeMs: 60_000 };
    const reserved = await broker.leases.acquire(peer, wish(fakeAddress(2), { ticket }));
    for (const n of [1, 2]) broker.host.device(fakeAddress(n)).leaving = true;
    await broker.inventory.refresh();
    assert.deepEqual(channelOf(broker, peer).recalls, [[id, "DEVICE_REMOVED", GRACE_MS]]);
    await broker.inventory.refresh();
    assert.equal(channelOf(broker, peer).recalls.length, 1, "asked once");
    assert.equal(broker.leases.get(peer, reserved.value?.lease.id ?? "").value?.endCause, "DEVICE_REMOVED");
    broker.clock.advance(GRACE_MS);
    await settle();
    assert.equal(broker.leases.get(peer, id).value?.endCause, "DEVICE_REMOVED");
    sound(broker);
  });

  it("are told to a successor too", async () => {
    const broker = await fakeBroker([[1]]);
    const holder = client(broker, 1, 1000);
    const next = client(broker, 2, 1000);
    const lease = await hold(broker, holder, A, { mode: "RETAIN", maxDurationMs: 1000 });
    const id = lease.value?.id ?? "";
    broker.clock.advance(1000);
    const named = broker.leases.nameSuccessor(holder, id, { uid: null, lifetimeMs: 60_000 });
    broker.clock.advance(100);
    await broker.leases.show(next, channelOf(broker, next), named.value?.ticket ?? new Uint8Array(16));
    channelOf(broker, next).answer({ result: "ACKNOWLEDGED" });
    await settle();
    assert.deepEqual(channelOf(broker, next).recalls, [[id, "EXPIRED", GRACE_MS - 100]]);
    broker.clock.advance(GRACE_MS - 100);
    await settle();
    assert.deepEqual(channelOf(broker, next).ends, [[id, "EXPIRED"]]);
    sound(broker);
  });
});
