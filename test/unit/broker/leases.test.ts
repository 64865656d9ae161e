import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { ANYBODY, CALL_MS, client, type FakeBroker, fakeBroker, hold, leaseOf, settle, wish } from "../../fakes/broker.js";
import { fakeAddress } from "../../fakes/host.js";

const A = fakeAddress(1);
const B = fakeAddress(2);
const C = fakeAddress(3);

function stateOf(broker: FakeBroker, address = A): string | undefined {
  return broker.inventory.get(address)?.state;
}

function sound(broker: FakeBroker): void {
  assert.deepEqual(broker.observer.faults, []);
  assert.deepEqual(broker.host.violations, []);
  assert.equal(broker.host.openProofs, 0);
}

describe("[pure] leases", () => {
  it("goes from FREE to HELD and, released, through proof and reset back to FREE", async () => {
    const broker = await fakeBroker([[1]]);
    const peer = client(broker, 1, 1000);
    const lease = await hold(broker, peer, A);
    assert.equal(stateOf(broker), "HELD");
    assert.equal(peer.watches, 1);
    const released = await broker.leases.release(peer, lease.value?.id ?? "");
    assert.equal(released.value?.phase, "ENDED");
    assert.deepEqual(released.value?.quarantined, []);
    assert.deepEqual(
      broker.observer.steps.map((step) => step.split(" ").slice(1).join(" ")),
      [
        "FREE ACQUIRE OPENING",
        "OPENING OPENED OFFERED",
        "OFFERED ACKED HELD",
        "HELD END RELEASING",
        "RELEASING PROVEN RESETTING",
        "RESETTING RESET_OK FREE",
      ],
    );
    assert.deepEqual([broker.host.resets, broker.host.openLeases, peer.watches, broker.leases.activeCount()], [1, 0, 0, 0]);
    sound(broker);
  });

  it("locks before it waits: of two at once exactly one wins", async () => {
    const broker = await fakeBroker([[1]]);
    const peers = [client(broker, 1, 1000), client(broker, 2, 1001)];
    const outcomes = await Promise.all(peers.map((peer) => broker.leases.acquire(peer, wish(A))));
    assert.deepEqual(
      outcomes.map((outcome) => outcome.refusal?.reason ?? "granted"),
      ["granted", "DEVICE_BUSY"],
    );
    sound(broker);
  });

  it("locks the whole IOMMU group, and says through which member", async () => {
    const broker = await fakeBroker([[1, 2], [3]]);
    await hold(broker, client(broker, 1, 1000), A);
    assert.equal(stateOf(broker, B), "HELD");
    const outcome = await broker.leases.acquire(client(broker, 2, 1000), wish(B));
    assert.equal(outcome.refusal?.reason, "DEVICE_BUSY");
    sound(broker);
  });

  it("takes several devices or none", async () => {
    const broker = await fakeBroker([[1], [2], [3]]);
    await hold(broker, client(broker, 1, 1000), B);
    const both = { devices: [A, B].map((address) => ({ address, regions: [] })) };
    const outcome = await broker.leases.acquire(client(broker, 2, 1000), wish(A, both));
    assert.equal(outcome.refusal?.reason, "DEVICE_BUSY");
    assert.equal(stateOf(broker), "FREE");
    sound(broker);
  });

  it("ends a lease when its process dies, whatever the state", async () => {
    for (const when of ["OPENING", "OFFERED", "HELD"] as const) {
      const broker = await fakeBroker([[1]]);
      const peer = client(broker, 1, 1000);
      const die = (): void => {
        peer.alive = false;
        broker.leases.processExited(1);
      };
      if (when === "OPENING") {
        broker.host.between = (step) => {
          if (step === "open") die();
        };
      }
      const outcome = await broker.leases.acquire(peer, wish(A));
      if (when === "OPENING") assert.equal(outcome.refusal?.reason, "PEER_GONE");
      if (when === "HELD") broker.handover.channels.get(1)?.answer({ result: "ACKNOWLEDGED" });
      await settle();
      if (when !== "OPENING") die();
      await settle();
      assert.equal(stateOf(broker), "FREE", when);
      assert.equal(broker.host.openLeases, 0, when);
      assert.equal(peer.watches, 0, when);
      sound(broker);
    }
  });

  it("asks for liveness after opening: a peer found dead gets nothing", async () => {
    const broker = await fakeBroker([[1]]);
    const peer = client(broker, 1, 1000);
    broker.host.between = (step) => {
      if (step === "open") peer.alive = false;
    };
    const outcome = await broker.leases.acquire(peer, wish(A));
    assert.equal(outcome.refusal?.reason, "PEER_GONE");
    assert.equal(broker.handover.channels.get(1)?.waiting, false);
    assert.equal(broker.handover.channels.get(1)?.reserved, false);
    assert.equal(stateOf(broker), "FREE");
    sound(broker);
  });

  it("undoes an offer that is short or never acknowledged, with proof and reset", async () => {
    for (const result of [{ result: "SHORT", count: 0 } as const, { result: "NOT_ACKNOWLEDGED", detail: "2 s" } as const]) {
      const broker = await fakeBroker([[1]]);
      const peer = client(broker, 1, 1000);
      const lease = leaseOf(await broker.leases.acquire(peer, wish(A)));
      broker.handover.channels.get(1)?.answer(result);
      await settle();
      assert.equal(stateOf(broker), "FREE");
      assert.equal(broker.host.resets, 1);
      const ended = broker.leases.get(peer, lease.value?.id ?? "");
      assert.equal(ended.value?.endCause, result.result === "SHORT" ? "SHORT_HANDOVER" : "NOT_ACKNOWLEDGED");
      assert.equal(broker.handover.channels.get(1)?.ends.length, 1);
      sound(broker);
    }
  });

  it("leaves nothing behind when opening or sending fails", async () => {
    for (const fault of ["open", "send"] as const) {
      const broker = await fakeBroker([[1]]);
      const peer = client(broker, 1, 1000);
      if (fault === "open") broker.host.device(A).failOpen = true;
      const channel = broker.handover.channels.get(1);
      if (fault === "send" && channel) channel.failSend = true;
      const outcome = await broker.leases.acquire(peer, wish(A));
      assert.equal(outcome.refusal?.reason, fault === "open" ? "HOST_OPERATION_FAILED" : "HANDOVER_FAILED");
      assert.equal(stateOf(broker), "FREE");
      assert.deepEqual([broker.host.openLeases, broker.leases.activeCount(), channel?.reserved, peer.watches], [0, 0, false, 0]);
      // Nobody touched the device: no reset is due.
      assert.equal(broker.host.resets, 0);
      sound(broker);
    }
  });

  it("quarantines what is still held, and frees it by itself when the process that holds it exits", async () => {
    const broker = await fakeBroker([[1]]);
    const peer = client(broker, 1, 1000);
    const lease = await hold(broker, peer, A);
    broker.host.device(A).held = true;
    const released = await broker.leases.release(peer, lease.value?.id ?? "");
    assert.deepEqual(released.value?.quarantined, [A]);
    assert.equal(stateOf(broker), "QUARANTINED");
    assert.equal(broker.inventory.get(A)?.ineligibleReasons[0]?.reason, "DEVICE_QUARANTINED");
    const refused = await broker.leases.acquire(client(broker, 2, 1000), wish(A));
    assert.equal(refused.refusal?.reason, "DEVICE_QUARANTINED");
    assert.equal(peer.watches, 1);
    broker.host.device(A).held = false;
    broker.leases.processExited(1);
    await settle();
    assert.equal(stateOf(broker), "FREE");
    assert.deepEqual([peer.watches, broker.clock.pending], [0, 0]);
    sound(broker);
  });

  it("tries a quarantined device again after 1, 2, 4 ... 30 s when no exit is seen", async () => {
    const broker = await fakeBroker([[1]]);
    const peer = client(broker, 1, 1000);
    const lease = await hold(broker, peer, A);
    broker.host.device(A).held = true;
    await broker.leases.release(peer, lease.value?.id ?? "");
    let proofs = 0;
    broker.host.between = (step) => {
      if (step === "prove") proofs += 1;
    };
    for (const wait of [1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]) {
      broker.clock.advance(wait - 1);
      await settle();
      const before = proofs;
      broker.clock.advance(1);
      await settle();
      assert.equal(proofs, before + 1, `after ${wait} ms`);
    }
    broker.host.device(A).held = false;
    broker.clock.advance(30_000);
    await settle();
    assert.equal(stateOf(broker), "FREE");
    sound(broker);
  });

  it("quarantines a device whose reset fails", async () => {
    const broker = await fakeBroker([[1]]);
    const peer = client(broker, 1, 1000);
    const lease = await hold(broker, peer, A);
    broker.host.device(A).reset = "FAILED";
    const released = await broker.leases.release(peer, lease.value?.id ?? "");
    assert.deepEqual(released.value?.quarantined, [A]);
    assert.match(broker.inventory.get(A)?.stateDetail ?? "", /reset failed/);
    broker.host.device(A).reset = "DONE";
    broker.clock.advance(1000);
    await settle();
    assert.equal(stateOf(broker), "FREE");
    sound(broker);
  });

  it("gives a device without reset to the same user only, unless a rule allows more", async () => {
    const rules = [{ ...ANYBODY, name: "careless", uids: [1002], allowUnreset: true }, ANYBODY];
    const broker = await fakeBroker([[1]], rules);
    broker.host.device(A).reset = "UNSUPPORTED";
    const first = client(broker, 1, 1000);
    const lease = await hold(broker, first, A);
    await broker.leases.release(first, lease.value?.id ?? "");
    const refused = await broker.leases.acquire(client(broker, 2, 1001), wish(A));
    assert.equal(refused.refusal?.reason, "RESET_UNAVAILABLE");
    const allowed = await hold(broker, client(broker, 3, 1002), A);
    assert.equal(allowed.refusal, null);
    sound(broker);
  });

  it("tells the holder when somebody else releases its lease, and not when it does so itself", async () => {
    const broker = await fakeBroker([[1]]);
    const peer = client(broker, 1, 1000);
    const first = await hold(broker, peer, A);
    await broker.leases.release(client(broker, 2, 0), first.value?.id ?? "");
    assert.deepEqual(broker.handover.channels.get(1)?.ends, [[first.value?.id, "RELEASED"]]);
    const second = await hold(broker, peer, A);
    await broker.leases.release(peer, second.value?.id ?? "");
    assert.equal(broker.handover.channels.get(1)?.ends.length, 1);
    sound(broker);
  });

  it("answers for a foreign lease exactly as for one that never was", async () => {
    const broker = await fakeBroker([[1]]);
    const lease = await hold(broker, client(broker, 1, 1000), A);
    const id = lease.value?.id ?? "";
    const stranger = client(broker, 2, 1001);
    const missing = "00000000-0000-4000-8000-ffffffffffff";
    for (const call of ["get", "release"] as const) {
      const foreign = await broker.leases[call](stranger, id);
      const none = await broker.leases[call](stranger, missing);
      assert.deepEqual(JSON.parse(JSON.stringify(foreign).replaceAll(id, missing)), JSON.parse(JSON.stringify(none)));
    }
    assert.deepEqual(broker.leases.list(stranger), []);
    assert.equal(broker.leases.list(client(broker, 3, 0)).length, 1, "the operator sees it");
    assert.equal(stateOf(broker), "HELD");
    sound(broker);
  });

  it("gives the same lease for the same request_id and body, refuses another body, forgets a refusal", async () => {
    const broker = await fakeBroker([[1], [2]]);
    const peer = client(broker, 1, 1000);
    const requestId = "11111111-1111-4111-8111-111111111111";
    broker.host.device(A).failOpen = true;
    assert.equal((await broker.leases.acquire(peer, wish(A, { requestId }))).refusal?.reason, "HOST_OPERATION_FAILED");
    const [first, second] = await Promise.all([
      broker.leases.acquire(peer, wish(A, { requestId })),
      broker.leases.acquire(peer, wish(A, { requestId })),
    ]);
    assert.equal(first.refusal, null);
    assert.equal(first.value?.lease.id, second.value?.lease.id);
    const other = await broker.leases.acquire(peer, wish(B, { requestId }));
    assert.equal(other.refusal?.reason, "REQUEST_ID_REUSED");
    assert.equal(broker.leases.activeCount(), 1);
    sound(broker);
  });

  it("holds to the quota: n leases yes, n + 1 no", async () => {
    const broker = await fakeBroker([[1], [2], [3]], [ANYBODY], 2);
    for (const n of [1, 2]) assert.equal((await hold(broker, client(broker, n, 1000), fakeAddress(n))).refusal, null);
    const third = await broker.leases.acquire(client(broker, 3, 1000), wish(fakeAddress(3)));
    assert.equal(third.refusal?.reason, "LEASE_QUOTA");
    assert.equal((await hold(broker, client(broker, 4, 1001), fakeAddress(3))).refusal, null);
  });

  it("answers a caller after call_ms although the kernel has not, and undoes the lease when it has", async () => {
    const broker = await fakeBroker([[1]]);
    const peer = client(broker, 1, 1000);
    let opened = (): void => {};
    broker.host.between = (step) => (step === "open" ? new Promise((resolve) => (opened = resolve)) : undefined);
    const asked = broker.leases.acquire(peer, wish(A));
    await settle();
    broker.clock.advance(CALL_MS - 1);
    await settle();
    assert.equal(await Promise.race([asked, "waits"]), "waits");
    broker.clock.advance(1);
    assert.equal((await asked).refusal?.reason, "HOST_SLOW");
    assert.equal(stateOf(broker, A), "OPENING", "the kernel has it still");
    assert.equal((await broker.leases.acquire(client(broker, 2, 1000), wish(A))).refusal?.reason, "DEVICE_BUSY");
    opened();
    await settle();
    assert.equal(stateOf(broker, A), "FREE");
    assert.equal(broker.leases.activeCount(), 0);
    assert.equal(broker.host.openLeases, 0);
    broker.host.between = () => {};
    // The channel is free for another offer.
    assert.equal((await hold(broker, peer, A)).refusal, null);
    sound(broker);
  });

  it("answers a release after call_ms although the reset is not over", async () => {
    const broker = await fakeBroker([[1]]);
    const peer = client(broker, 1, 1000);
    const lease = await hold(broker, peer, A);
    let reset = (): void => {};
    broker.host.between = (step) => (step === "reset" ? new Promise((resolve) => (reset = resolve)) : undefined);
    const id = lease.value?.id ?? "";
    const released = broker.leases.release(peer, id);
    await settle();
    broker.clock.advance(CALL_MS);
    assert.equal((await released).refusal?.reason, "HOST_SLOW");
    assert.equal(stateOf(broker, A), "RESETTING");
    reset();
    await settle();
    assert.equal(stateOf(broker, A), "FREE");
    assert.equal(broker.leases.get(peer, id).value?.endCause, "RELEASED");
    assert.equal(broker.clock.pending, 0, "no timer is left");
    sound(broker);
  });

  it("tells the death of a holder from its silence, whichever of its exit and its channel's end is seen first", async () => {
    const broker = await fakeBroker([[1]]);
    const peer = client(broker, 1, 1000);
    const lease = leaseOf(await broker.leases.acquire(peer, wish(A)));
    peer.alive = false;
    broker.handover.channels.get(1)?.answer({ result: "NOT_ACKNOWLEDGED", detail: "the channel was closed" });
    await settle();
    assert.equal(broker.leases.get(client(broker, 2, 1000), lease.value?.id ?? "").value?.endCause, "HOLDER_DIED");
    assert.equal(stateOf(broker, A), "FREE");
    sound(broker);
  });

  it("needs a channel, and one offer at a time on it", async () => {
    const broker = await fakeBroker([[1], [2]]);
    const peer = client(broker, 1, 1000);
    assert.equal((await broker.leases.acquire(peer, wish(A, { channel: 7n }))).refusal?.reason, "NO_DESCRIPTOR_CHANNEL");
    assert.equal((await broker.leases.acquire(peer, wish(A))).refusal, null);
    assert.equal((await broker.leases.acquire(peer, wish(B))).refusal?.reason, "HANDOVER_PENDING");
    assert.equal(stateOf(broker, B), "FREE");
    sound(broker);
  });

  it("waits for an acknowledgement that is on its way, one request after the other, and not for ever", async () => {
    const broker = await fakeBroker([[1], [2], [3]]);
    const peer = client(broker, 1, 1000);
    const channel = broker.handover.channels.get(1) ?? assert.fail();
    channel.patient = true;
    assert.equal((await broker.leases.acquire(peer, wish(A))).refusal, null);
    const told: string[] = [];
    for (const address of [B, C])
      void broker.leases.acquire(peer, wish(address)).then(({ refusal }) => told.push(`${address} ${refusal?.reason ?? "granted"}`));
    await settle();
    assert.deepEqual([told, stateOf(broker, B)], [[], "FREE"]);
    channel.answer({ result: "ACKNOWLEDGED" });
    await settle();
    assert.deepEqual([told, stateOf(broker, C)], [[`${B} granted`], "FREE"]);
    broker.clock.advance(1_000);
    await settle();
    assert.deepEqual([told, stateOf(broker, C)], [[`${B} granted`, `${C} HANDOVER_PENDING`], "FREE"]);
    sound(broker);
  });

  it("survives a device that leaves in any state, and takes it back as a new one", async () => {
    for (const when of ["OPENING", "OFFERED", "HELD", "QUARANTINED", "RESETTING"] as const) {
      const broker = await fakeBroker([[1]]);
      const peer = client(broker, 1, 1000);
      const unplug = async (): Promise<void> => {
        broker.host.device(A).present = false;
        await broker.inventory.refresh();
      };
      if (when === "OPENING") broker.host.between = (step) => (step === "open" ? unplug() : undefined);
      const lease = leaseOf(await broker.leases.acquire(peer, wish(A)));
      if (when === "OPENING") assert.equal(lease.refusal?.reason, "DEVICE_REMOVED");
      if (when !== "OPENING" && when !== "OFFERED") broker.handover.channels.get(1)?.answer({ result: "ACKNOWLEDGED" });
      await settle();
      if (when === "QUARANTINED") broker.host.device(A).held = true;
      if (when === "RESETTING") broker.host.between = (step) => (step === "reset" ? unplug() : undefined);
      if (when === "QUARANTINED" || when === "RESETTING") await broker.leases.release(peer, lease.value?.id ?? "");
      if (when !== "OPENING" && when !== "RESETTING") await unplug();
      await settle();
      assert.equal(broker.inventory.get(A), null, when);
      assert.equal(broker.leases.activeCount(), 0, when);
      broker.host.between = () => {};
      broker.host.device(A).present = true;
      broker.host.device(A).held = false;
      await broker.inventory.refresh();
      await broker.inventory.settled();
      assert.equal((await hold(broker, client(broker, 2, 1001), A)).refusal, null, `after ${when}`);
      assert.deepEqual([peer.watches, broker.clock.pending], [0, 0], when);
      sound(broker);
    }
  });

  it("takes no new lease while draining, and lets a held one be released", async () => {
    const broker = await fakeBroker([[1], [2]]);
    const peer = client(broker, 1, 1000);
    const lease = await hold(broker, peer, A);
    broker.leases.drain();
    assert.equal((await broker.leases.acquire(peer, wish(B))).refusal?.reason, "DRAINING");
    assert.equal((await broker.leases.release(peer, lease.value?.id ?? "")).value?.phase, "ENDED");
  });

  it("forgets ended leases after an hour, and beyond 16", async () => {
    const broker = await fakeBroker([[1]]);
    const peer = client(broker, 1, 1000);
    const ids: string[] = [];
    for (let i = 0; i < 18; i += 1) {
      const lease = await hold(broker, peer, A);
      ids.push(lease.value?.id ?? "");
      await broker.leases.release(peer, ids.at(-1) ?? "");
    }
    assert.deepEqual(
      ids.map((id) => broker.leases.get(peer, id).refusal === null),
      ids.map((_, i) => i >= 2),
    );
    broker.clock.advance(3_600_001);
    const last = await hold(broker, peer, A);
    await broker.leases.release(peer, last.value?.id ?? "");
    assert.deepEqual(
      ids.filter((id) => broker.leases.get(peer, id).refusal === null),
      [],
    );
  });
});
