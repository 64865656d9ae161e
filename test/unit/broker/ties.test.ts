// Which devices one lease locks: the IOMMU group, what a hot reset takes down with a device that nothing else clears, and declared peers.

import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { Address } from "../../../src/broker/device.js";
import { tieBetween } from "../../../src/broker/ties.js";
import { client, type FakeBroker, fakeBroker, hold, settle, wish } from "../../fakes/broker.js";
import { fakeAddress } from "../../fakes/host.js";

const [A, B, C, D] = [fakeAddress(1), fakeAddress(2), fakeAddress(3), fakeAddress(4)];

function stateOf(broker: FakeBroker, address: Address): string | undefined {
  return broker.inventory.get(address)?.state;
}

/** Reads a device again with other answers: a new binding. */
async function readAgain(
  broker: FakeBroker,
  address: Address,
  reset: "DONE" | "UNSUPPORTED",
  resetSet: readonly Address[] | null,
): Promise<void> {
  const device = broker.host.device(address);
  device.vfioBound = false;
  await broker.inventory.refresh();
  Object.assign(device, { vfioBound: true, reset, resetSet });
  await broker.inventory.refresh();
  await broker.inventory.settled();
}

describe("[pure] atomic sets", () => {
  it("devices that are reset together and can be reset alone go to different clients", async () => {
    const broker = await fakeBroker([[1], [2]]);
    for (const address of [A, B]) await readAgain(broker, address, "DONE", [A, B]);
    assert.equal((await hold(broker, client(broker, 1, 1000), A)).refusal, null);
    assert.equal(stateOf(broker, B), "FREE");
    assert.equal((await hold(broker, client(broker, 2, 1001), B)).refusal, null);
    assert.deepEqual(broker.host.violations, []);
  });

  it("a device that only a hot reset clears is locked with all that it takes down, and the refusal names the member in the way", async () => {
    const broker = await fakeBroker([[1], [2], [3]]);
    await readAgain(broker, A, "UNSUPPORTED", [A, B]);
    const peer = client(broker, 1, 1000);
    const lease = await hold(broker, peer, A);
    assert.deepEqual(
      [A, B, C].map((address) => stateOf(broker, address)),
      ["HELD", "HELD", "FREE"],
    );
    const outcome = await broker.leases.acquire(client(broker, 2, 1001), wish(B));
    assert.equal(outcome.refusal?.reason, "DEVICE_BUSY");
    assert.match(outcome.refusal?.message ?? "", new RegExp(`${B}.* is held`));
    await broker.leases.release(peer, lease.value?.id ?? "");
    assert.deepEqual(
      [A, B].map((address) => stateOf(broker, address)),
      ["FREE", "FREE"],
    );
  });

  it("it is the same from the other end: who has one that can be reset alone keeps the whole set", async () => {
    const broker = await fakeBroker([[1], [2]]);
    await readAgain(broker, A, "UNSUPPORTED", [A, B]);
    await hold(broker, client(broker, 1, 1000), B);
    assert.equal(stateOf(broker, A), "HELD");
    const outcome = await broker.leases.acquire(client(broker, 2, 1001), wish(A));
    assert.equal(outcome.refusal?.reason, "DEVICE_BUSY");
  });

  it("groups and reset sets chain", async () => {
    // A is reset with B; B is in one group with C; D is in none of these.
    const broker = await fakeBroker([[1], [2, 3], [4]]);
    await readAgain(broker, A, "UNSUPPORTED", [A, B]);
    await hold(broker, client(broker, 1, 1000), C);
    assert.deepEqual(
      [A, B, C, D].map((address) => stateOf(broker, address)),
      ["HELD", "HELD", "HELD", "FREE"],
    );
  });

  it("one that turns out, while its neighbour is held, to be cleared by a hot reset only is locked with it", async () => {
    const broker = await fakeBroker([[1], [2]]);
    await hold(broker, client(broker, 1, 1000), B);
    assert.equal(stateOf(broker, A), "FREE");
    await readAgain(broker, A, "UNSUPPORTED", [A, B]);
    assert.equal(stateOf(broker, A), "HELD");
    await settle();
    assert.deepEqual(broker.observer.faults, []);
  });

  it("what once was tied is not any more: read again with another answer, or gone", async () => {
    const broker = await fakeBroker([[1], [2], [3]]);
    await readAgain(broker, A, "UNSUPPORTED", [A, B, C]);
    await readAgain(broker, A, "UNSUPPORTED", [A, B]);
    const peer = client(broker, 1, 1000);
    const lockedWith = async (address: Address): Promise<readonly Address[]> => {
      const lease = await hold(broker, peer, address);
      const locked = [A, B, C].filter((each) => stateOf(broker, each) === "HELD");
      await broker.leases.release(peer, lease.value?.id ?? "");
      return locked;
    };
    assert.deepEqual(await lockedWith(C), [C]);
    assert.deepEqual(await lockedWith(B), [A, B]);
    await readAgain(broker, A, "DONE", [A, B]);
    assert.deepEqual(await lockedWith(B), [B]);
    await readAgain(broker, A, "UNSUPPORTED", [A, B, C]);
    assert.deepEqual(await lockedWith(C), [A, B, C]);
    broker.host.device(A).present = false;
    await broker.inventory.refresh();
    assert.deepEqual(await lockedWith(B), [B]);
    // Nothing holds B and C together but the device that has gone.
    assert.deepEqual(await lockedWith(C), [C]);
  });

  it("bridges and what else is no device of the inventory need no lock", async () => {
    const broker = await fakeBroker([[1]]);
    await readAgain(broker, A, "UNSUPPORTED", [A, fakeAddress(30)]);
    assert.equal((await hold(broker, client(broker, 1, 1000), A)).refusal, null);
  });

  it("says how two devices are tied", async () => {
    const broker = await fakeBroker([[1, 2], [3], [4]]);
    await readAgain(broker, A, "UNSUPPORTED", [A, C]);
    const known = broker.inventory.get(A) ?? assert.fail();
    assert.match(tieBetween(known, B), /IOMMU group/);
    assert.match(tieBetween(known, C), /reset together/);
    assert.match(tieBetween(known, D), /another's/);
  });

  it("declared peers are locked together, and the refusal names the member in the way and the set", async () => {
    const broker = await fakeBroker([[1], [2], [3]]);
    // The last one is not in the machine.
    broker.inventory.setPeerSets([{ name: "nvlink", devices: [A, B, fakeAddress(9)] }]);
    const peer = client(broker, 1, 1000);
    const lease = await hold(broker, peer, A);
    assert.deepEqual(
      [A, B, C].map((address) => stateOf(broker, address)),
      ["HELD", "HELD", "FREE"],
    );
    const outcome = await broker.leases.acquire(client(broker, 2, 1001), wish(B));
    assert.equal(outcome.refusal?.reason, "DEVICE_BUSY");
    assert.match(outcome.refusal?.message ?? "", new RegExp(`${B}.* is held`));
    await broker.leases.release(peer, lease.value?.id ?? "");
    const both = await broker.leases.acquire(
      client(broker, 3, 1002),
      wish(A, { devices: [A, B].map((address) => ({ address, regions: [] })) }),
    );
    assert.equal(both.refusal, null, "one lease may have all of them");
    assert.deepEqual(broker.host.violations, []);
  });

  it("a member that is held keeps the others from a lease that names several, also when it is declared only then", async () => {
    const broker = await fakeBroker([[1], [2], [3]]);
    await hold(broker, client(broker, 1, 1000), B);
    broker.inventory.setPeerSets([{ name: "egm", devices: [A, B] }]);
    const outcome = await broker.leases.acquire(
      client(broker, 2, 1001),
      wish(A, { devices: [C, A].map((address) => ({ address, regions: [] })) }),
    );
    assert.equal(outcome.refusal?.reason, "DEVICE_BUSY");
    assert.match(outcome.refusal?.message ?? "", new RegExp(`^${A} is held$`));
    assert.equal(stateOf(broker, C), "FREE", "nothing of it was locked");
  });

  it("sets that are declared no longer tie nothing, and a watcher is told of both changes", async () => {
    const broker = await fakeBroker([[1], [2]]);
    const told: string[] = [];
    broker.inventory.subscribe(({ view }) => told.push(`${view.facts.address} ${view.peerSets.map(({ name }) => name).join()}`));
    broker.inventory.setPeerSets([{ name: "nvlink", devices: [A, B] }]);
    broker.inventory.setPeerSets([]);
    assert.deepEqual(told, [`${A} nvlink`, `${B} nvlink`, `${A} `, `${B} `]);
    await hold(broker, client(broker, 1, 1000), A);
    assert.equal(stateOf(broker, B), "FREE");
  });
});
