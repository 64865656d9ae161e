// A scan that finds nothing new tells nobody anything; one fact that is new is told once.

import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { DeviceFacts } from "../../../src/broker/device.js";
import { fakeBroker } from "../../fakes/broker.js";
import { fakeAddress } from "../../fakes/host.js";

const A = fakeAddress(1);

describe("[pure] facts in the inventory", () => {
  it("compares every fact by what it says, not by which object it is", async () => {
    const broker = await fakeBroker([[1], [2]]);
    const scan = broker.host.scan.bind(broker.host);
    let change: Partial<DeviceFacts> = {};
    // New objects each time, as after a restart of everything that is kept.
    broker.host.scan = async () =>
      (await scan()).map((facts) => (facts.address === A ? { ...structuredClone(facts), ...structuredClone(change) } : facts));
    const told: string[] = [];
    broker.inventory.subscribe(({ view }) => told.push(`${view.facts.address} ${view.generation}`));
    const generation = broker.inventory.get(A)?.generation ?? 0n;
    await broker.inventory.refresh();
    assert.deepEqual(told, []);
    const changes: readonly Partial<DeviceFacts>[] = [
      { resetSet: { addresses: [A], source: "TOPOLOGY" } },
      { resetSet: { addresses: [A, fakeAddress(9)], source: "TOPOLOGY" } },
      { virtualFunctions: { total: 7, addresses: [] } },
      { vfIndex: 0 },
      { place: { root: "pci0000:00", ports: [], link: { currentSpeedMts: 2500, currentWidth: 1, maxSpeedMts: 2500, maxWidth: 1 } } },
      { revisionId: 0 },
      { driverCandidates: [{ driver: "vfio-pci", module: "", kind: "VFIO_GENERIC", source: "REGISTERED", alias: "" }] },
    ];
    for (const [index, next] of changes.entries()) {
      change = { ...change, ...next };
      await broker.inventory.refresh();
      await broker.inventory.refresh();
      assert.equal(broker.inventory.get(A)?.generation, generation + BigInt(index + 1), JSON.stringify(next));
    }
    assert.equal(told.length, changes.length);
  });
});
