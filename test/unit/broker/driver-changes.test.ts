// The rules of a change of drivers, on a host made of booleans: what is locked, what is undone, what is remembered, and that nobody waits for a kernel that does not finish.

import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { Address } from "../../../src/broker/device.js";
import type { DriverStep } from "../../../src/broker/driver-control.js";
import { client, DRIVER_MS, type FakeBroker, fakeBroker, hold, settle, wish } from "../../fakes/broker.js";
import { FakePeer } from "../../fakes/handover.js";
import { fakeAddress } from "../../fakes/host.js";

const [A, B, C] = [fakeAddress(1), fakeAddress(2), fakeAddress(3)];
const ROOT = new FakePeer(99, 0);

/** Devices that drivers of the host's have. */
async function withHostDrivers(groups: readonly (readonly number[])[], ...addresses: readonly Address[]): Promise<FakeBroker> {
  const broker = await fakeBroker(groups);
  for (const address of addresses) Object.assign(broker.host.device(address), { vfioBound: false, hostDriver: "nvme", override: "" });
  await broker.inventory.refresh();
  return broker;
}

function bind(broker: FakeBroker, address: Address, wholeGroup = false, steps: DriverStep[] = []) {
  return broker.leases.drivers.bind(ROOT, { address, driver: null, wholeGroup }, (step) => void steps.push(step));
}

function restore(broker: FakeBroker, address: Address) {
  return broker.leases.drivers.restore(ROOT, address, () => {});
}

function stateOf(broker: FakeBroker, address: Address): string | undefined {
  return broker.inventory.get(address)?.state;
}

/** A kernel that does not finish until told. */
function stuck(broker: FakeBroker, address: Address): () => void {
  let finish = (): void => {};
  const finished = new Promise<void>((resolve) => {
    finish = resolve;
  });
  broker.host.device(address).unbinding = () => finished;
  return finish;
}

function healthy(broker: FakeBroker): void {
  assert.deepEqual([broker.observer.faults, broker.clock.pending], [[], 0]);
}

describe("[pure] a change of drivers", () => {
  it("binds, tells each step, makes the device leasable, and restores driver and override", async () => {
    const broker = await withHostDrivers([[1]], A);
    broker.host.device(A).override = "nvme";
    const steps: DriverStep[] = [];
    const bound = await bind(broker, A, false, steps);
    assert.deepEqual(bound.value, [{ address: A, before: "nvme", driver: "vfio-pci", changed: true }]);
    assert.deepEqual(
      steps.map(({ action, driver }) => `${action} ${driver}`),
      ["LOADING vfio-pci", "UNBINDING nvme", "BINDING vfio-pci", "READING vfio-pci"],
    );
    assert.equal(broker.host.device(A).override, "vfio-pci");
    assert.equal((await hold(broker, client(broker, 1, 1000), A)).refusal, null);
    assert.equal((await restore(broker, A)).refusal?.reason, "DEVICE_BUSY");
    broker.leases.processExited(1);
    await settle();
    assert.deepEqual((await restore(broker, A)).value, [{ address: A, before: "vfio-pci", driver: "nvme", changed: true }]);
    assert.equal(broker.host.device(A).override, "nvme");
    assert.deepEqual(broker.formerBindings.kept, []);
    assert.deepEqual(broker.observer.drivers.slice(0, 1), [`BOUND ${A} nvme->vfio-pci`]);
    healthy(broker);
  });

  it("is a success without a change where nothing is to be done, also of a leased device", async () => {
    const broker = await fakeBroker([[1], [2]]);
    await hold(broker, client(broker, 1, 1000), A);
    assert.deepEqual((await bind(broker, A)).value, [{ address: A, before: "vfio-pci", driver: "vfio-pci", changed: false }]);
    Object.assign(broker.host.device(B), { vfioBound: false, hostDriver: "nvme" });
    assert.deepEqual((await restore(broker, B)).value, [{ address: B, before: "nvme", driver: "nvme", changed: false }]);
    assert.deepEqual([broker.host.moves, stateOf(broker, A)], [[], "HELD"]);
  });

  it("of a device that has its driver asks for no consent where the rest of the group is in nobody's way", async () => {
    const broker = await withHostDrivers([[1, 2]], B);
    assert.equal((await bind(broker, A)).refusal?.reason, "GROUP_CONSENT_REQUIRED");
    Object.assign(broker.host.device(B), { hostDriver: "" });
    await broker.inventory.refresh();
    assert.deepEqual(
      (await bind(broker, A)).value?.map(({ changed }) => changed),
      [false],
    );
    assert.deepEqual(
      (await bind(broker, A, true)).value?.map(({ address, changed }) => `${address} ${changed}`),
      [`${A} false`, `${B} true`],
    );
  });

  it("restores only what it has taken", async () => {
    const broker = await fakeBroker([[1]]);
    assert.equal((await restore(broker, A)).refusal?.reason, "NO_FORMER_DRIVER");
    assert.deepEqual(broker.host.moves, []);
  });

  it("touches nothing of a group without consent, and names the members; with it all of them go, and come back together", async () => {
    const broker = await withHostDrivers([[1, 2, 3]], A, B);
    const refused = await bind(broker, A);
    assert.equal(refused.refusal?.reason, "GROUP_CONSENT_REQUIRED");
    assert.match(refused.refusal?.message ?? "", new RegExp(`${B} \\(nvme\\)`));
    assert.doesNotMatch(refused.refusal?.message ?? "", new RegExp(C));
    assert.deepEqual(broker.host.moves, []);
    const bound = await bind(broker, A, true);
    assert.deepEqual(
      bound.value?.map(({ address }) => address),
      [A, B],
    );
    const back = await restore(broker, B);
    assert.deepEqual(
      back.value?.map(({ address, driver }) => `${address} ${driver}`),
      [`${B} nvme`, `${A} nvme`],
    );
    healthy(broker);
  });

  it("locks the whole set: it cannot be leased, is not probed, and no second change begins", async () => {
    const broker = await withHostDrivers([[1, 2]], A);
    const finish = stuck(broker, A);
    const first = bind(broker, A, true);
    await settle();
    assert.deepEqual([stateOf(broker, A), stateOf(broker, B)], ["REBINDING", "REBINDING"]);
    const lease = await broker.leases.acquire(client(broker, 1, 1000), wish(B));
    assert.notEqual(lease.refusal, null);
    const second = await bind(broker, A, true);
    assert.equal(second.refusal?.reason, "DEVICE_BUSY");
    assert.match(second.refusal?.message ?? "", /rebinding/);
    finish();
    assert.equal((await first).refusal, null);
    assert.deepEqual([stateOf(broker, A), stateOf(broker, B)], ["FREE", "FREE"]);
    healthy(broker);
  });

  it("probes none of the set before all of it has moved", async () => {
    const broker = await withHostDrivers([[1, 2]], A, B);
    Object.assign(broker.host.device(B), { hostDriver: "" });
    await broker.inventory.refresh();
    const probed: string[] = [];
    broker.host.between = async (step) => {
      // What the kernel tells of the first device comes while the second is on its way.
      if (step === "bind") await broker.inventory.refresh();
      if (step === "probe") probed.push(`${stateOf(broker, A)} ${stateOf(broker, B)}`);
    };
    assert.equal((await bind(broker, A, true)).refusal, null);
    assert.deepEqual(probed, ["FREE FREE", "FREE FREE"]);
    healthy(broker);
  });

  it("is refused while a member of the set is leased or quarantined, by name", async () => {
    const broker = await withHostDrivers([[1, 2]], A);
    Object.assign(broker.host.device(A), { hostDriver: "" });
    await broker.inventory.refresh();
    await broker.inventory.settled();
    const peer = client(broker, 1, 1000);
    const lease = await hold(broker, peer, B);
    const leased = await bind(broker, A, true);
    assert.deepEqual([leased.refusal?.reason, leased.refusal?.message.includes(`${B} (held)`)], ["DEVICE_BUSY", true]);
    broker.host.device(B).held = true;
    await broker.leases.release(peer, lease.value?.id ?? "");
    assert.equal((await bind(broker, A, true)).refusal?.reason, "DEVICE_QUARANTINED");
    assert.deepEqual(broker.host.moves, []);
  });

  it("gives back what it had moved when a later member cannot be moved, and remembers nothing", async () => {
    const broker = await withHostDrivers([[1, 2]], A, B);
    broker.host.device(B).takenOnlyBy = "nvme";
    const refused = await bind(broker, A, true);
    assert.equal(refused.refusal?.reason, "DRIVER_CHANGE_FAILED");
    assert.match(refused.refusal?.message ?? "", /went back/);
    assert.deepEqual(broker.host.moves, [`${A} vfio-pci`, `${B} vfio-pci`, `${B} nvme`, `${A} nvme`]);
    for (const address of [A, B]) {
      const { hostDriver, vfioBound, override } = broker.host.device(address);
      assert.deepEqual([hostDriver, vfioBound, override, stateOf(broker, address)], ["nvme", false, "", "FREE"]);
    }
    assert.deepEqual(broker.formerBindings.kept, []);
    healthy(broker);
  });

  it("says which could not be given back", async () => {
    const broker = await withHostDrivers([[1]], A);
    broker.host.device(A).takenOnlyBy = "none";
    const { refusal } = await bind(broker, A);
    assert.match(refusal?.message ?? "", new RegExp(`${A} could not be given back: nvme did not take`));
    assert.equal(stateOf(broker, A), "FREE");
  });

  it("waits for those who use the device, then says who they are and has changed nothing", async () => {
    const broker = await withHostDrivers([[1]], A);
    broker.host.device(A).users = ["pid 4711 (fio, /dev/nvme0)"];
    const steps: DriverStep[] = [];
    const bound = bind(broker, A, false, steps);
    await settle();
    assert.equal(stateOf(broker, A), "REBINDING");
    for (let waited = 0; waited <= DRIVER_MS; waited += 250) {
      broker.clock.advance(250);
      await settle();
    }
    const { refusal } = await bound;
    assert.deepEqual([refusal?.reason, refusal?.message.includes("pid 4711 (fio")], ["DRIVER_BUSY", true]);
    assert.deepEqual([broker.host.moves, stateOf(broker, A), steps.at(-1)?.action], [[], "FREE", "WAITING"]);
    // One that lets go in time is no obstacle.
    const again = bind(broker, A);
    await settle();
    broker.host.device(A).users = [];
    broker.clock.advance(250);
    assert.equal((await again).refusal, null);
    healthy(broker);
  });

  it("does not begin when it cannot find out who uses the device", async () => {
    const broker = await withHostDrivers([[1]], A);
    broker.host.device(A).users = null;
    const bound = bind(broker, A);
    await settle();
    broker.clock.advance(DRIVER_MS);
    const { refusal } = await bound;
    assert.deepEqual([refusal?.reason, refusal?.message.includes("who uses it could not be found out")], ["DRIVER_BUSY", true]);
    assert.deepEqual([broker.host.moves, stateOf(broker, A)], [[], "FREE"]);
    healthy(broker);
  });

  it("answers when the kernel does not finish, keeps the set locked, and gives the device back when it has", async () => {
    const broker = await withHostDrivers([[1], [2]], A);
    const finish = stuck(broker, A);
    const bound = bind(broker, A);
    await settle();
    broker.clock.advance(DRIVER_MS);
    const { refusal } = await bound;
    assert.equal(refusal?.reason, "DRIVER_BUSY");
    assert.match(refusal?.message ?? "", /has not finished taking it from nvme after 15 s/);
    assert.equal(stateOf(broker, A), "REBINDING");
    assert.match(broker.inventory.get(A)?.stateDetail ?? "", /the kernel has not finished/);
    // Others are served meanwhile.
    assert.equal((await hold(broker, client(broker, 1, 1000), B)).refusal, null);
    finish();
    await settle();
    assert.deepEqual([stateOf(broker, A), broker.host.device(A).hostDriver, broker.host.device(A).vfioBound], ["FREE", "nvme", false]);
    assert.deepEqual(broker.host.moves, [`${A} vfio-pci`, `${A} nvme`]);
    // The driver that nobody waits for any more has never had it.
    assert.deepEqual(broker.host.taken, [`${A} nvme`]);
    assert.deepEqual(broker.observer.drivers, [`LATE ${A}`, "REFUSED DRIVER_BUSY", `SETTLED ${A}`]);
    healthy(broker);
  });

  it("waits until its own probe is over", async () => {
    const broker = await withHostDrivers([[1]], A);
    let goOn = (): void => {};
    const probing = new Promise<void>((resolve) => {
      goOn = resolve;
    });
    broker.host.between = (step) => (step === "probe" ? probing : undefined);
    Object.assign(broker.host.device(A), { vfioBound: true, hostDriver: "" });
    await broker.inventory.refresh();
    broker.formerBindings.kept = [{ address: A, driver: "nvme", override: "", boundTo: "vfio-pci" }];
    const back = restore(broker, A);
    await settle();
    assert.deepEqual(broker.host.moves, []);
    goOn();
    assert.equal((await back).refusal, null);
    assert.deepEqual(broker.host.moves, [`${A} nvme`]);
  });

  it("remembers before it moves, from VFIO driver to VFIO driver what there was before the first, and knows it after a restart", async () => {
    const broker = await withHostDrivers([[1]], A);
    broker.host.loadable.add("special_vfio_pci");
    const kept: string[] = [];
    broker.host.between = (step) => {
      if (step === "bind") kept.push(broker.formerBindings.kept.map(({ driver, boundTo }) => `${driver} ${boundTo}`).join());
    };
    await bind(broker, A);
    await broker.leases.drivers.bind(ROOT, { address: A, driver: "special_vfio_pci", wholeGroup: false }, () => {});
    assert.deepEqual(kept, ["nvme vfio-pci", "nvme special_vfio_pci"]);
    const next = await fakeBroker([[1]]);
    next.formerBindings.kept = broker.formerBindings.kept;
    assert.equal((await restore(next, A)).value?.[0]?.driver, "nvme");
  });

  it("chooses a driver that is a VFIO driver, and says so where there is none", async () => {
    const broker = await withHostDrivers([[1]], A);
    const named = (driver: string) => broker.leases.drivers.bind(ROOT, { address: A, driver, wholeGroup: false }, () => {});
    assert.equal((await named("nvme")).refusal?.reason, "INVALID_FIELD");
    assert.equal((await named("other_vfio_pci")).refusal?.reason, "DRIVER_UNAVAILABLE");
    assert.deepEqual([broker.host.moves, stateOf(broker, A)], [[], "FREE"]);
  });

  it("is refused when the daemon is stopping, and of a device that is not there", async () => {
    const broker = await withHostDrivers([[1]], A);
    assert.equal((await bind(broker, C)).refusal?.reason, "DEVICE_NOT_FOUND");
    broker.leases.drain();
    assert.equal((await bind(broker, A)).refusal?.reason, "DRAINING");
  });
});
