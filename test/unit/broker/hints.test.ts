import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { Inventory } from "../../../src/broker/inventory.js";
import { FakeClock } from "../../fakes/clock.js";
import { FakeHost, fakeAddress } from "../../fakes/host.js";
import { RecordingObserver } from "../../fakes/observer.js";

const A = fakeAddress(1);
const B = fakeAddress(2);
const C = fakeAddress(3);

async function settle(): Promise<void> {
  for (let i = 0; i < 20; i += 1) await new Promise((resolve) => setImmediate(resolve));
}

async function made(
  groups: readonly (readonly number[])[],
): Promise<{ host: FakeHost; clock: FakeClock; inventory: Inventory; observer: RecordingObserver }> {
  const [host, clock, observer] = [new FakeHost(groups), new FakeClock(), new RecordingObserver()];
  const inventory = new Inventory(host, clock, observer);
  await inventory.refresh();
  await inventory.settled();
  host.scans = [];
  return { host, clock, inventory, observer };
}

describe("[pure] what the host notices by itself", () => {
  it("has the named device read again with those of its group, and no other", async () => {
    const { host, clock, inventory } = await made([[1, 2], [3]]);
    const seen: string[] = [];
    inventory.subscribe(({ kind, view }) => seen.push(`${kind} ${view.facts.address} ${view.facts.vfioBound}`));
    host.device(A).vfioBound = false;
    host.device(C).vfioBound = false;
    host.tell({ kind: "DEVICES", addresses: [A] });
    clock.advance(20);
    await settle();
    assert.deepEqual(host.scans, [[A, B]]);
    assert.deepEqual(seen, [`CHANGED ${A} false`]);
  });

  it("shows a device that has come or gone, and probes it", async () => {
    const { host, clock, inventory } = await made([[1, 2]]);
    host.device(B).present = false;
    host.tell({ kind: "DEVICES", addresses: [B] });
    clock.advance(20);
    await settle();
    assert.equal(inventory.get(B), null);
    assert.equal(inventory.get(A)?.facts.iommuGroup?.members.length, 1);
    host.device(B).present = true;
    host.tell({ kind: "DEVICES", addresses: [B] });
    clock.advance(20);
    await settle();
    assert.deepEqual(inventory.get(B)?.ineligibleReasons, []);
    assert.equal(inventory.get(A)?.facts.iommuGroup?.members.length, 2);
  });

  it("costs a storm of 100,000 hints two readings, of which one waits while the other runs", async () => {
    const { host, clock } = await made([[1], [2]]);
    let running = 0;
    let most = 0;
    let go = (): void => {};
    host.between = async (step) => {
      if (step !== "scan") return;
      running += 1;
      most = Math.max(most, running);
      await new Promise<void>((resolve) => {
        go = resolve;
      });
      running -= 1;
    };
    for (let i = 0; i < 50_000; i += 1) host.tell({ kind: "DEVICES", addresses: [i % 2 === 0 ? A : B] });
    assert.equal(clock.pending, 1);
    clock.advance(20);
    await settle();
    for (let i = 0; i < 50_000; i += 1) host.tell({ kind: "DEVICES", addresses: [i % 2 === 0 ? A : B] });
    clock.advance(10_000);
    assert.deepEqual(host.scans, [[A, B]]);
    go();
    await settle();
    // The rest after the first reading, in proportion to what it took and bounded.
    assert.equal(clock.pending, 1);
    clock.advance(499);
    await settle();
    assert.equal(host.scans.length, 1);
    clock.advance(1);
    await settle();
    go();
    await settle();
    assert.deepEqual([host.scans.length, most, clock.pending], [2, 1, 0]);
  });

  it("reads all devices when hints name too many, or when some were lost", async () => {
    for (const lost of [true, false]) {
      const { host, clock } = await made([[1]]);
      if (lost) host.tell({ kind: "ALL" });
      else
        for (let n = 0; n < 257; n += 1)
          host.tell({ kind: "DEVICES", addresses: [`0000:${n.toString(16).padStart(2, "0")}:00.0` as typeof A] });
      clock.advance(20);
      await settle();
      assert.deepEqual(host.scans, ["ALL"]);
    }
  });

  it("does not ask a device in use or not ready again at each hint: a probe may reset it", async () => {
    const { host, clock, inventory } = await made([[1], [2]]);
    host.device(B).held = true;
    host.device(B).vfioBound = false;
    await inventory.refresh();
    host.device(B).vfioBound = true;
    let probes = 0;
    host.between = (step) => {
      if (step === "probe") probes += 1;
    };
    for (let i = 0; i < 5; i += 1) {
      host.tell({ kind: "DEVICES", addresses: [B] });
      clock.advance(1000);
      await settle();
    }
    assert.deepEqual([probes, inventory.get(B)?.ineligibleReasons[0]?.reason], [1, "DEVICE_IN_USE"]);
    await inventory.refresh();
    await settle();
    assert.equal(probes, 2);
  });

  it("goes on after a scan that failed", async () => {
    const { host, clock, inventory, observer } = await made([[1]]);
    host.between = () => {
      throw new Error("sysfs is away");
    };
    host.tell({ kind: "ALL" });
    clock.advance(20);
    await settle();
    assert.equal(observer.faults.length, 1);
    host.between = () => {};
    host.device(A).present = false;
    host.tell({ kind: "DEVICES", addresses: [A] });
    clock.advance(1000);
    await settle();
    assert.equal(inventory.get(A), null);
  });
});
