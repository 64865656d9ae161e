// RETAIN: a lease that outlives the process that holds it.

import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { ANYBODY, client, type FakeBroker, fakeBroker, hold, settle } from "../../fakes/broker.js";
import type { FakeChannel, FakePeer } from "../../fakes/handover.js";
import { fakeAddress } from "../../fakes/host.js";

const A = fakeAddress(1);
const OPTIONS = { uid: null, lifetimeMs: 60_000 };

interface Scene {
  readonly broker: FakeBroker;
  readonly holder: FakePeer;
  readonly next: FakePeer;
  readonly id: string;
}

/** A RETAIN lease that is held, and another process. */
async function scene(rules = [ANYBODY], nextUid = 1001): Promise<Scene> {
  const broker = await fakeBroker([[1]], rules);
  const holder = client(broker, 1, 1000);
  const { value } = await hold(broker, holder, A, { mode: "RETAIN" });
  return { broker, holder, next: client(broker, 2, nextUid), id: value?.id ?? "" };
}

function channelOf(broker: FakeBroker, peer: FakePeer): FakeChannel {
  const channel = broker.handover.channels.get(peer.processId);
  if (!channel) throw new Error("no channel");
  return channel;
}

function name({ broker, holder, id }: Scene, peer = holder): Uint8Array {
  const { value, refusal } = broker.leases.nameSuccessor(peer, id, OPTIONS);
  if (refusal !== null || value.ticket === null) throw new Error(refusal?.message ?? "no ticket");
  return value.ticket;
}

async function show({ broker, next }: Scene, ticket: Uint8Array, peer = next): Promise<string> {
  const { refusal } = await broker.leases.show(peer, channelOf(broker, peer), ticket);
  return refusal?.reason ?? "offered";
}

function exit(broker: FakeBroker, peer: FakePeer): void {
  peer.alive = false;
  broker.leases.processExited(peer.processId);
}

function endOf({ broker, id }: Scene): string | null | undefined {
  return broker.leases.get(client(broker, 99, 0), id).value?.endCause;
}

function sound(broker: FakeBroker): void {
  assert.deepEqual(broker.observer.faults, []);
  assert.deepEqual(broker.host.violations, []);
  assert.equal(broker.host.openProofs, 0);
}

describe("[pure] successors of a holder", () => {
  it("are sent the retained descriptors; acknowledged, the lease is theirs and the former holder is told", async () => {
    const s = await scene();
    const { broker, holder, next, id } = s;
    const ticket = name(s);
    assert.equal(broker.leases.get(holder, id).value?.ticketExpireTime, broker.clock.now() + 60_000);
    assert.equal(await show(s, ticket), "offered");
    const [offer] = channelOf(broker, next).offers;
    assert.deepEqual([offer?.succession, offer?.leaseId], [true, id]);
    assert.equal(offer?.opened, channelOf(broker, holder).offers[0]?.opened, "the same open files");
    assert.equal(broker.leases.get(holder, id).value?.holderPid, holder.pid, "not before it has acknowledged");
    channelOf(broker, next).answer({ result: "ACKNOWLEDGED" });
    await settle();
    const view = broker.leases.get(next, id).value;
    assert.deepEqual([view?.phase, view?.holderPid, view?.holderUid, view?.ownerUid, view?.mode], ["HELD", next.pid, 1001, 1000, "RETAIN"]);
    assert.deepEqual(channelOf(broker, holder).ends, [[id, "SUCCEEDED"]]);
    assert.deepEqual(broker.observer.successions, [[id, holder.pid, next.pid]]);
    exit(broker, holder);
    await settle();
    assert.equal(broker.inventory.get(A)?.state, "HELD");
    assert.deepEqual([holder.watches, next.watches, broker.host.openLeases], [0, 1, 1]);
    exit(broker, next);
    await settle();
    assert.deepEqual([broker.inventory.get(A)?.state, endOf(s), broker.host.resets], ["FREE", "HOLDER_DIED", 1]);
    assert.deepEqual([next.watches, broker.host.openLeases, broker.clock.pending], [0, 0, 0]);
    sound(broker);
  });

  it("keep the lease alive while their ticket is out, and no longer", async () => {
    const s = await scene();
    const { broker, holder } = s;
    name(s);
    exit(broker, holder);
    await settle();
    assert.deepEqual([broker.inventory.get(A)?.state, broker.host.openLeases], ["HELD", 1]);
    broker.clock.advance(59_999);
    assert.equal(broker.inventory.get(A)?.state, "HELD");
    broker.clock.advance(1);
    await settle();
    assert.deepEqual([broker.inventory.get(A)?.state, endOf(s), broker.host.openLeases], ["FREE", "TICKET_EXPIRED", 0]);
    sound(broker);
  });

  it("take over from a holder that has exited", async () => {
    const s = await scene();
    const ticket = name(s);
    exit(s.broker, s.holder);
    assert.equal(await show(s, ticket), "offered");
    channelOf(s.broker, s.next).answer({ result: "ACKNOWLEDGED" });
    await settle();
    assert.equal(s.broker.leases.get(s.next, s.id).value?.holderPid, s.next.pid);
    // The ticket is gone with its use: without another the next exit ends the lease.
    exit(s.broker, s.next);
    await settle();
    assert.equal(endOf(s), "HOLDER_DIED");
    sound(s.broker);
  });

  it("do not keep it without a ticket", async () => {
    const s = await scene();
    exit(s.broker, s.holder);
    await settle();
    assert.deepEqual([s.broker.inventory.get(A)?.state, endOf(s)], ["FREE", "HOLDER_DIED"]);
  });

  it("whose ticket has expired leave the lease with a living holder", async () => {
    const s = await scene();
    const ticket = name(s);
    s.broker.clock.advance(60_000);
    assert.equal(s.broker.leases.get(s.holder, s.id).value?.ticketExpireTime, null);
    assert.equal(await show(s, ticket), "TICKET_EXPIRED");
    assert.equal(s.broker.inventory.get(A)?.state, "HELD");
    exit(s.broker, s.holder);
    await settle();
    assert.equal(endOf(s), "HOLDER_DIED");
    sound(s.broker);
  });

  it("that fail to acknowledge leave the lease with its holder, or end it when that has exited", async () => {
    for (const result of [
      { result: "SHORT", count: 0 },
      { result: "NOT_ACKNOWLEDGED", detail: "" },
    ] as const) {
      for (const gone of [false, true]) {
        const s = await scene();
        const ticket = name(s);
        assert.equal(await show(s, ticket), "offered");
        if (gone) exit(s.broker, s.holder);
        await settle();
        assert.equal(s.broker.inventory.get(A)?.state, "HELD");
        channelOf(s.broker, s.next).answer(result);
        await settle();
        const cause = result.result === "SHORT" ? "SHORT_HANDOVER" : "NOT_ACKNOWLEDGED";
        assert.deepEqual(channelOf(s.broker, s.next).ends, [[s.id, cause]]);
        assert.equal(endOf(s), gone ? cause : null);
        assert.equal(s.broker.inventory.get(A)?.state, gone ? "FREE" : "HELD");
        assert.equal(await show(s, ticket), "TICKET_USED");
        if (!gone) {
          // It can be tried again, with another ticket.
          assert.equal(await show(s, name(s)), "offered");
          channelOf(s.broker, s.next).answer({ result: "ACKNOWLEDGED" });
          await settle();
          assert.equal(s.broker.leases.get(s.next, s.id).value?.holderPid, s.next.pid);
        }
        sound(s.broker);
      }
    }
  });

  it("can show the ticket again when nothing could be sent", async () => {
    const s = await scene();
    const ticket = name(s);
    channelOf(s.broker, s.next).failSend = true;
    assert.equal(await show(s, ticket), "HANDOVER_FAILED");
    channelOf(s.broker, s.next).failSend = false;
    assert.equal(await show(s, ticket), "offered");
    sound(s.broker);
  });

  it("are told when the lease ends while they are taking over, and what they keep is proven", async () => {
    const s = await scene();
    assert.equal(await show(s, name(s)), "offered");
    s.broker.host.device(A).held = true;
    await s.broker.leases.release(s.holder, s.id);
    assert.deepEqual(channelOf(s.broker, s.next).ends, [[s.id, "RELEASED"]]);
    assert.deepEqual(channelOf(s.broker, s.holder).ends, []);
    assert.equal(s.broker.inventory.get(A)?.state, "QUARANTINED");
    channelOf(s.broker, s.next).answer({ result: "ACKNOWLEDGED" });
    await settle();
    assert.equal(endOf(s), "RELEASED");
    assert.deepEqual(s.broker.observer.successions, []);
    // The successor is watched as well: its exit is what frees the device.
    s.broker.host.device(A).held = false;
    assert.equal(s.next.watches, 1);
    exit(s.broker, s.next);
    await settle();
    assert.equal(s.broker.inventory.get(A)?.state, "FREE");
    sound(s.broker);
  });

  it("replace each other's tickets", async () => {
    const s = await scene();
    const first = name(s);
    const second = name(s);
    assert.equal(await show(s, first), "TICKET_EXPIRED");
    assert.equal(await show(s, second), "offered");
    assert.equal(s.broker.leases.nameSuccessor(s.holder, s.id, OPTIONS).refusal?.reason, "LEASE_NOT_HELD");
    assert.equal(s.broker.clock.pending, 0);
    sound(s.broker);
  });

  it("follow each other ten times", async () => {
    const s = await scene();
    let holder = s.holder;
    for (let n = 10; n < 20; n += 1) {
      const next = client(s.broker, n, 1000);
      assert.equal(await show(s, name(s, holder), next), "offered");
      channelOf(s.broker, next).answer({ result: "ACKNOWLEDGED" });
      await settle();
      exit(s.broker, holder);
      holder = next;
    }
    assert.equal(s.broker.leases.get(holder, s.id).value?.holderPid, holder.pid);
    await s.broker.leases.release(holder, s.id);
    assert.deepEqual([s.broker.inventory.get(A)?.state, holder.watches, s.broker.host.openLeases], ["FREE", 0, 0]);
    sound(s.broker);
  });

  it("are refused where the lease is not retained or not held, or for somebody else", async () => {
    const broker = await fakeBroker([[1], [2]]);
    const holder = client(broker, 1, 1000);
    const handOff = await hold(broker, holder, A);
    assert.equal(broker.leases.nameSuccessor(holder, handOff.value?.id ?? "", OPTIONS).refusal?.reason, "LEASE_NOT_RETAINED");
    const s = await scene();
    assert.equal(s.broker.leases.nameSuccessor(client(s.broker, 3, 1002), s.id, OPTIONS).refusal?.reason, "LEASE_NOT_FOUND");
    await s.broker.leases.release(s.holder, s.id);
    assert.equal(s.broker.leases.nameSuccessor(s.holder, s.id, OPTIONS).refusal?.reason, "LEASE_NOT_HELD");
  });

  it("are of the holder's user when no rule allows delegation", async () => {
    const rules = [{ ...ANYBODY, name: "own", delegate: false }];
    const s = await scene(rules);
    const other = s.broker.leases.nameSuccessor(s.holder, s.id, { uid: 1001, lifetimeMs: 1000 });
    assert.equal(other.refusal?.reason, "POLICY_DENIED");
    assert.match(other.refusal?.message ?? "", /"own" does not allow delegation/);
    const ticket = name(s);
    assert.equal(await show(s, ticket), "TICKET_OTHER_USER");
    assert.equal(await show(s, ticket, client(s.broker, 3, 1000)), "offered");
  });
});
