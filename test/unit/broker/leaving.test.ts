import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { client, type FakeBroker, fakeBroker, hold, settle, wish } from "../../fakes/broker.js";
import { fakeAddress } from "../../fakes/host.js";

const A = fakeAddress(1);
const B = fakeAddress(2);

async function leave(broker: FakeBroker, address = A): Promise<void> {
  Object.assign(broker.host.device(address), { vfioBound: false, leaving: true });
  await broker.inventory.refresh();
}

async function gone(broker: FakeBroker, address = A): Promise<void> {
  Object.assign(broker.host.device(address), { leaving: false, held: false });
  await broker.inventory.refresh();
  await settle();
}

function stateOf(broker: FakeBroker, address = A): string | undefined {
  return broker.inventory.get(address)?.state;
}

describe("[pure] a device whose driver waits for its last holder", () => {
  it("cannot be leased, and says why", async () => {
    const broker = await fakeBroker([[1]]);
    await leave(broker);
    const [reason] = broker.inventory.get(A)?.ineligibleReasons ?? [];
    assert.deepEqual([reason?.reason, /waits for a descriptor or mapping/.test(reason?.message ?? "")], ["DEVICE_LEAVING", true]);
    assert.equal((await broker.leases.acquire(client(broker, 1, 1000), wish(A))).refusal?.reason, "DEVICE_LEAVING");
  });

  it("is not taken for free when its lease ends: quarantined until the driver has let go, and then free at once", async () => {
    const broker = await fakeBroker([[1]]);
    const peer = client(broker, 1, 1000);
    const lease = await hold(broker, peer, A);
    broker.host.device(A).held = true;
    await leave(broker);
    const released = await broker.leases.release(peer, lease.value?.id ?? "");
    assert.deepEqual([stateOf(broker), released.value?.quarantined], ["QUARANTINED", [A]]);
    await broker.inventory.refresh();
    await settle();
    assert.equal(stateOf(broker), "QUARANTINED");
    // No clock is turned: the change itself is the signal.
    await gone(broker);
    assert.equal(stateOf(broker), "FREE");
    assert.deepEqual([broker.clock.pending, broker.host.openProofs, broker.observer.faults.length], [0, 0, 0]);
  });

  it("of a set keeps the others from being taken for free too", async () => {
    const broker = await fakeBroker([[1, 2]]);
    const peer = client(broker, 1, 1000);
    const lease = await broker.leases.acquire(peer, wish(A, { devices: [A, B].map((address) => ({ address, regions: [] })) }));
    broker.handover.channels.get(1)?.answer({ result: "ACKNOWLEDGED" });
    await settle();
    // A is unbound and nobody has it; B is bound, and somebody does.
    broker.host.device(A).vfioBound = false;
    broker.host.device(B).held = true;
    await broker.inventory.refresh();
    await broker.leases.release(peer, lease.value?.lease.id ?? "");
    assert.deepEqual([stateOf(broker, A), stateOf(broker, B)], ["QUARANTINED", "QUARANTINED"]);
    broker.host.device(B).held = false;
    broker.leases.processExited(9);
    await settle();
    assert.deepEqual([stateOf(broker, A), stateOf(broker, B)], ["FREE", "FREE"]);
    // B was reset, A was not: it does not go to another user.
    broker.host.device(A).vfioBound = true;
    await broker.inventory.refresh();
    await broker.inventory.settled();
    const stranger = client(broker, 2, 1001);
    assert.equal((await broker.leases.acquire(stranger, wish(A))).refusal?.reason, "RESET_UNAVAILABLE");
    assert.equal((await broker.leases.acquire(stranger, wish(B))).refusal, null);
  });

  it("without a reset does not go to another user after it was taken out and found again", async () => {
    const broker = await fakeBroker([[1]]);
    broker.host.device(A).reset = "UNSUPPORTED";
    await broker.host.scan();
    const rebound = async (): Promise<void> => {
      broker.host.device(A).present = !broker.host.device(A).present;
      await broker.inventory.refresh();
      await broker.inventory.settled();
    };
    await rebound();
    await rebound();
    await hold(broker, client(broker, 1, 1000), A);
    await rebound();
    await settle();
    await rebound();
    assert.equal((await broker.leases.acquire(client(broker, 2, 1001), wish(A))).refusal?.reason, "RESET_UNAVAILABLE");
    assert.equal((await broker.leases.acquire(client(broker, 3, 1000), wish(A))).refusal, null);
  });
});
