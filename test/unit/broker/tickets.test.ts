// Delegation: a lease that is made for a process that is not there yet, and everything that a ticket can come to.

import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { AcquireRequest } from "../../../src/broker/lease.js";
import { ANYBODY, client, type FakeBroker, fakeBroker, settle, wish } from "../../fakes/broker.js";
import type { FakeChannel, FakePeer } from "../../fakes/handover.js";
import { fakeAddress } from "../../fakes/host.js";

const A = fakeAddress(1);
const B = fakeAddress(2);
const FOR_ANYBODY = { uid: null, lifetimeMs: 60_000 };

function stateOf(broker: FakeBroker, address = A): string | undefined {
  return broker.inventory.get(address)?.state;
}

function sound(broker: FakeBroker): void {
  assert.deepEqual(broker.observer.faults, []);
  assert.deepEqual(broker.host.violations, []);
  assert.equal(broker.host.openProofs, 0);
}

function channelOf(broker: FakeBroker, peer: FakePeer): FakeChannel {
  const channel = broker.handover.channels.get(peer.processId);
  if (!channel) throw new Error("no channel");
  return channel;
}

/** Acquires with a ticket. */
async function reserve(
  broker: FakeBroker,
  peer: FakePeer,
  change: Partial<AcquireRequest> = {},
): Promise<{ id: string; ticket: Uint8Array }> {
  const { value, refusal } = await broker.leases.acquire(peer, wish(A, { ticket: FOR_ANYBODY, ...change }));
  if (refusal !== null || value.ticket === null) throw new Error(refusal?.message ?? "no ticket");
  return { id: value.lease.id, ticket: value.ticket };
}

async function show(broker: FakeBroker, peer: FakePeer, ticket: Uint8Array): Promise<string> {
  const { refusal } = await broker.leases.show(peer, channelOf(broker, peer), ticket);
  return refusal?.reason ?? "offered";
}

describe("[pure] tickets", () => {
  it("lock the devices, open nothing, and make whoever shows one the holder", async () => {
    const broker = await fakeBroker([[1]]);
    const owner = client(broker, 1, 1000);
    const holder = client(broker, 2, 1001);
    const { id, ticket } = await reserve(broker, owner);
    assert.equal(ticket.byteLength, 16);
    assert.deepEqual([stateOf(broker), broker.host.openLeases], ["RESERVED", 0]);
    assert.equal((await broker.leases.acquire(holder, wish(A))).refusal?.reason, "DEVICE_BUSY");
    const reserved = broker.leases.get(owner, id).value;
    assert.deepEqual([reserved?.phase, reserved?.holderPid, reserved?.holderUid, reserved?.ownerUid], ["RESERVED", 0, 1000, 1000]);
    assert.equal(reserved?.ticketExpireTime, broker.clock.now() + 60_000);
    assert.equal(await show(broker, holder, ticket), "offered");
    assert.equal(channelOf(broker, holder).offers[0]?.succession, false);
    channelOf(broker, holder).answer({ result: "ACKNOWLEDGED" });
    await settle();
    const held = broker.leases.get(owner, id).value;
    assert.deepEqual(
      [held?.phase, held?.holderPid, held?.holderUid, held?.ownerUid, held?.ticketExpireTime],
      ["HELD", holder.pid, 1001, 1000, null],
    );
    assert.deepEqual([owner.watches, holder.watches], [0, 1]);
    assert.deepEqual(broker.observer.shown, ["ACCEPTED"]);
    holder.alive = false;
    broker.leases.processExited(2);
    await settle();
    assert.deepEqual([stateOf(broker), broker.leases.get(owner, id).value?.endCause, broker.host.resets], ["FREE", "HOLDER_DIED", 1]);
    assert.deepEqual([holder.watches, broker.clock.pending], [0, 0]);
    sound(broker);
  });

  it("need no channel of the process that acquires, and outlive it", async () => {
    const broker = await fakeBroker([[1]]);
    const owner = client(broker, 1, 1000);
    broker.handover.channels.delete(1);
    const holder = client(broker, 2, 1001);
    const { ticket } = await reserve(broker, owner);
    owner.alive = false;
    broker.leases.processExited(1);
    assert.equal(stateOf(broker), "RESERVED");
    assert.equal(await show(broker, holder, ticket), "offered");
    channelOf(broker, holder).answer({ result: "ACKNOWLEDGED" });
    await settle();
    broker.leases.processExited(1);
    assert.equal(stateOf(broker), "HELD");
    sound(broker);
  });

  it("work once, whatever became of the offer", async () => {
    for (const result of [{ result: "ACKNOWLEDGED" }, { result: "SHORT", count: 0 }, { result: "NOT_ACKNOWLEDGED", detail: "" }] as const) {
      const broker = await fakeBroker([[1]]);
      const holder = client(broker, 2, 1001);
      const { id, ticket } = await reserve(broker, client(broker, 1, 1000));
      assert.equal(await show(broker, holder, ticket), "offered");
      channelOf(broker, holder).answer(result);
      await settle();
      for (let i = 0; i < 1000; i += 1) assert.equal(await show(broker, client(broker, 3, 1001), ticket), "TICKET_USED");
      assert.equal(stateOf(broker), result.result === "ACKNOWLEDGED" ? "HELD" : "FREE");
      assert.equal(broker.host.resets, result.result === "ACKNOWLEDGED" ? 0 : 1);
      const causes = { ACKNOWLEDGED: null, SHORT: "SHORT_HANDOVER", NOT_ACKNOWLEDGED: "NOT_ACKNOWLEDGED" };
      assert.equal(broker.leases.get(holder, id).value?.endCause, causes[result.result]);
      sound(broker);
    }
  });

  it("are one for two who show it at once", async () => {
    const broker = await fakeBroker([[1]]);
    const { ticket } = await reserve(broker, client(broker, 1, 1000));
    const shown = await Promise.all([2, 3].map((n) => show(broker, client(broker, n, 1001), ticket)));
    assert.deepEqual(shown, ["offered", "TICKET_USED"]);
    sound(broker);
  });

  it("expire to the millisecond, and free the devices without proof or reset", async () => {
    const broker = await fakeBroker([[1, 2], [3]]);
    const owner = client(broker, 1, 1000);
    const devices = [A, fakeAddress(3)].map((address) => ({ address, regions: [] }));
    const { id, ticket } = await reserve(broker, owner, { devices, ticket: { uid: null, lifetimeMs: 900_000 } });
    broker.clock.advance(899_999);
    assert.deepEqual([stateOf(broker), stateOf(broker, B), stateOf(broker, fakeAddress(3))], ["RESERVED", "RESERVED", "RESERVED"]);
    broker.clock.advance(1);
    assert.deepEqual([stateOf(broker), stateOf(broker, B), stateOf(broker, fakeAddress(3))], ["FREE", "FREE", "FREE"]);
    assert.equal(broker.leases.get(owner, id).value?.endCause, "TICKET_EXPIRED");
    assert.equal(await show(broker, client(broker, 2, 1001), ticket), "TICKET_EXPIRED");
    assert.deepEqual([broker.host.resets, broker.host.openLeases, broker.clock.pending], [0, 0, 0]);
    sound(broker);
  });

  it("are over when the lease is released or its device leaves before", async () => {
    for (const how of ["release", "unplug"] as const) {
      const broker = await fakeBroker([[1]]);
      const owner = client(broker, 1, 1000);
      const { id, ticket } = await reserve(broker, owner);
      if (how === "release") assert.equal((await broker.leases.release(owner, id)).value?.phase, "ENDED");
      else {
        broker.host.device(A).present = false;
        await broker.inventory.refresh();
      }
      assert.equal(broker.leases.get(owner, id).value?.endCause, how === "release" ? "RELEASED" : "DEVICE_REMOVED");
      assert.equal(await show(broker, client(broker, 2, 1001), ticket), "TICKET_EXPIRED");
      assert.deepEqual([broker.leases.activeCount(), broker.clock.pending, broker.host.resets], [0, 0, 0]);
      sound(broker);
    }
  });

  it("of another user are refused and stay good; one that nobody made is unknown", async () => {
    const broker = await fakeBroker([[1]]);
    const { ticket } = await reserve(broker, client(broker, 1, 1000), { ticket: { uid: 1001, lifetimeMs: 60_000 } });
    assert.equal(await show(broker, client(broker, 2, 1002), ticket), "TICKET_OTHER_USER");
    assert.equal(await show(broker, client(broker, 1, 1000), ticket), "TICKET_OTHER_USER");
    for (const [i, byte] of ticket.entries()) {
      const guess = Uint8Array.from(ticket);
      guess[i] = byte ^ 1;
      assert.equal(await show(broker, client(broker, 2, 1001), guess), "TICKET_UNKNOWN");
    }
    assert.equal(stateOf(broker), "RESERVED");
    assert.equal(await show(broker, client(broker, 3, 1001), ticket), "offered");
    sound(broker);
  });

  it("wait while the channel has another offer", async () => {
    const broker = await fakeBroker([[1], [2]]);
    const holder = client(broker, 2, 1001);
    const { ticket } = await reserve(broker, client(broker, 1, 1000));
    await broker.leases.acquire(holder, wish(B));
    assert.equal(await show(broker, holder, ticket), "HANDOVER_PENDING");
    channelOf(broker, holder).answer({ result: "ACKNOWLEDGED" });
    assert.equal(await show(broker, holder, ticket), "offered");
    sound(broker);
  });

  it("are used up when the devices cannot be opened or sent; the devices are free again", async () => {
    for (const fault of ["open", "send", "die", "unplug", "release"] as const) {
      const broker = await fakeBroker([[1]]);
      const owner = client(broker, 1, 1000);
      const holder = client(broker, 2, 1001);
      const { id, ticket } = await reserve(broker, owner);
      if (fault === "open") broker.host.device(A).failOpen = true;
      if (fault === "send") channelOf(broker, holder).failSend = true;
      broker.host.between = async (step) => {
        if (step !== "open") return;
        if (fault === "die") {
          holder.alive = false;
          broker.leases.processExited(2);
        }
        if (fault === "release") void broker.leases.release(owner, id);
        if (fault === "unplug") {
          broker.host.device(A).present = false;
          await broker.inventory.refresh();
        }
      };
      const expected = {
        open: ["HOST_OPERATION_FAILED", "OPEN_FAILED"],
        send: ["HANDOVER_FAILED", "HANDOVER_FAILED"],
        die: ["PEER_GONE", "HOLDER_DIED"],
        unplug: ["DEVICE_REMOVED", "DEVICE_REMOVED"],
        release: ["TICKET_EXPIRED", "RELEASED"],
      }[fault];
      assert.equal(await show(broker, holder, ticket), expected[0], fault);
      await settle();
      assert.equal(broker.leases.get(owner, id).value?.endCause, expected[1], fault);
      assert.equal(stateOf(broker), fault === "unplug" ? undefined : "FREE", fault);
      assert.equal(await show(broker, client(broker, 3, 1001), ticket), "TICKET_USED");
      assert.deepEqual(
        [broker.host.openLeases, broker.host.resets, channelOf(broker, holder).reserved, holder.watches, broker.clock.pending],
        [0, 0, false, 0, 0],
      );
      sound(broker);
    }
  });

  it("are the same for the same request_id, and another request with it is refused", async () => {
    const broker = await fakeBroker([[1]]);
    const owner = client(broker, 1, 1000);
    const requestId = "11111111-1111-4111-8111-111111111111";
    const first = await reserve(broker, owner, { requestId });
    const second = await reserve(broker, owner, { requestId });
    assert.deepEqual(second, first);
    for (const change of [
      { ticket: { uid: 5, lifetimeMs: 60_000 } },
      { ticket: { uid: null, lifetimeMs: 60_001 } },
      { ticket: null },
      { ticket: FOR_ANYBODY, mode: "RETAIN" },
      { ticket: FOR_ANYBODY, maxDurationMs: 1000 },
    ] as const) {
      const other = await broker.leases.acquire(owner, wish(A, { requestId, ...change }));
      assert.equal(other.refusal?.reason, "REQUEST_ID_REUSED", JSON.stringify(change));
    }
    sound(broker);
  });

  it("need a rule that allows delegation, and the denial names the rule", async () => {
    const broker = await fakeBroker([[1]], [{ ...ANYBODY, name: "no passing on", delegate: false }]);
    const refused = await broker.leases.acquire(client(broker, 1, 1000), wish(A, { ticket: FOR_ANYBODY }));
    assert.equal(refused.refusal?.reason, "POLICY_DENIED");
    assert.match(refused.refusal?.message ?? "", /a lease for another process is not allowed by policy rule "no passing on"/);
    assert.equal(stateOf(broker), "FREE");
    assert.equal((await broker.leases.acquire(client(broker, 1, 1000), wish(A))).refusal, null);
  });

  it("charge the quota of who acquires, and let owner, holder and operator see and end the lease", async () => {
    const broker = await fakeBroker([[1], [2]], [ANYBODY], 1);
    const owner = client(broker, 1, 1000);
    const holder = client(broker, 2, 1001);
    const { id, ticket } = await reserve(broker, owner);
    assert.equal((await broker.leases.acquire(owner, wish(B))).refusal?.reason, "LEASE_QUOTA");
    assert.equal(broker.leases.get(holder, id).refusal?.reason, "LEASE_NOT_FOUND");
    assert.equal(await show(broker, holder, ticket), "offered");
    channelOf(broker, holder).answer({ result: "ACKNOWLEDGED" });
    await settle();
    for (const peer of [owner, holder, client(broker, 4, 0)]) assert.equal(broker.leases.get(peer, id).value?.phase, "HELD");
    assert.equal(broker.leases.get(client(broker, 3, 1002), id).refusal?.reason, "LEASE_NOT_FOUND");
    assert.equal((await broker.leases.acquire(holder, wish(B))).refusal, null);
    await broker.leases.release(owner, id);
    assert.deepEqual(channelOf(broker, holder).ends, [[id, "RELEASED"]]);
    sound(broker);
  });

  it("carry no device without reset to another user than the one before", async () => {
    const broker = await fakeBroker([[1]]);
    broker.host.device(A).reset = "UNSUPPORTED";
    const owner = client(broker, 1, 1000);
    const first = client(broker, 2, 1001);
    const one = await reserve(broker, owner);
    assert.equal(await show(broker, first, one.ticket), "offered");
    channelOf(broker, first).answer({ result: "ACKNOWLEDGED" });
    await settle();
    await broker.leases.release(owner, one.id);
    // It is the holder's data, not the owner's.
    const forOther = await broker.leases.acquire(owner, wish(A, { ticket: { uid: 1002, lifetimeMs: 1000 } }));
    assert.equal(forOther.refusal?.reason, "RESET_UNAVAILABLE");
    assert.equal((await broker.leases.acquire(owner, wish(A))).refusal?.reason, "RESET_UNAVAILABLE");
    const two = await reserve(broker, owner);
    assert.equal(await show(broker, client(broker, 3, 1002), two.ticket), "RESET_UNAVAILABLE");
    assert.equal(await show(broker, first, two.ticket), "offered");
    sound(broker);
  });

  it("are not taken while draining, and can be shown to the next daemon's no avail", async () => {
    const broker = await fakeBroker([[1]]);
    const { ticket } = await reserve(broker, client(broker, 1, 1000));
    broker.leases.drain();
    assert.equal(await show(broker, client(broker, 2, 1001), ticket), "DRAINING");
    assert.equal(stateOf(broker), "RESERVED");
  });

  it("that are over are forgotten beyond 4,096, oldest first", async () => {
    const broker = await fakeBroker([[1]]);
    const owner = client(broker, 1, 1000);
    const all: Uint8Array[] = [];
    for (let i = 0; i < 4097; i += 1) {
      const { id, ticket } = await reserve(broker, owner);
      all.push(ticket);
      await broker.leases.release(owner, id);
    }
    const shown = [0, 1, 4096].map(async (i) => await show(broker, client(broker, 2, 1001), all[i] ?? new Uint8Array(16)));
    assert.deepEqual(await Promise.all(shown), ["TICKET_UNKNOWN", "TICKET_EXPIRED", "TICKET_EXPIRED"]);
  });
});
