import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import type { DeviceView, InventoryChange } from "../../../src/broker/inventory.js";
import { SimulatedHost } from "../../../src/host/simulated-host.js";
import { EncodedDevices } from "../../../src/rpc/encoded-devices.js";
import { EncodedEvents } from "../../../src/rpc/encoded-events.js";
import { services } from "../../../src/rpc/protos.js";
import { toDevice } from "../../../src/rpc/translate.js";
import type { Batch } from "../../../src/rpc/watching.js";

type Told = Batch<InventoryChange["kind"], DeviceView>;

const NOTHING: Told = { snapshot: [], changes: [], synced: false };

function plain({ snapshot, changes, synced }: Told, revision: bigint): Buffer {
  const event = (kind: InventoryChange["kind"] | "SNAPSHOT", view: DeviceView) => ({
    ...{ kind: `DEVICE_EVENT_KIND_${kind}` as const, device: toDevice(view, "SIMULATED") },
  });
  return services.device.WatchDevices.responseSerialize({
    events: [
      ...snapshot.map((view) => event("SNAPSHOT", view)),
      ...changes.map(({ kind, view }) => event(kind, view)),
      ...(synced ? [{ kind: "DEVICE_EVENT_KIND_SYNCED" as const }] : []),
    ],
    revision: revision.toString(),
  });
}

describe("[simulated host] events as bytes", () => {
  let views: readonly DeviceView[] = [];
  let host: SimulatedHost;
  before(async () => {
    const made = await SimulatedHost.create({ observer: { fault: (where, error) => assert.fail(`${where}: ${String(error)}`) } });
    assert.ok(made.refusal === null);
    host = made.value;
    views = (await host.scan()).map((facts) => ({
      ...{ facts, probe: null, state: "FREE", stateDetail: "", ineligibleReasons: [], peerSets: [], generation: 1n },
    }));
  });
  after(() => host.close());

  function two(): readonly [DeviceView, DeviceView] {
    const [view, other] = views;
    assert.ok(view && other);
    return [view, other];
  }

  it("are byte for byte what the plain encoder writes, whatever was written before", () => {
    const encoded = new EncodedEvents(new EncodedDevices("SIMULATED"));
    const [view, other] = two();
    const held: DeviceView = { ...view, state: "HELD" };
    // Lengths on both sides of every further byte that a length needs.
    const details = [0, 1, 100, 16_000, 16_383, 16_384, 2_097_151, 2_097_152];
    const sized = details.map((length): DeviceView => ({ ...view, stateDetail: "x".repeat(length) }));
    const told: readonly Told[] = [
      NOTHING,
      { ...NOTHING, snapshot: views },
      { ...NOTHING, snapshot: views.slice(0, 3), synced: true },
      { ...NOTHING, snapshot: [view, held] },
      { ...NOTHING, snapshot: sized },
      { ...NOTHING, synced: true },
      { ...NOTHING, changes: [{ kind: "CHANGED", view }] },
      { ...NOTHING, changes: [{ kind: "REMOVED", view }] },
      { ...NOTHING, changes: [{ kind: "REMOVED", view: held }] },
      { ...NOTHING, changes: [{ kind: "CHANGED", view: other }] },
      { ...NOTHING, changes: [other, held].map((each) => ({ kind: "CHANGED", view: each })) },
      { snapshot: [other], changes: [{ kind: "CHANGED", view: held }], synced: true },
    ];
    for (const [index, batch] of told.entries())
      for (const revision of [0n, 300n, 2n ** 64n - 1n])
        assert.ok(encoded.message(batch, revision).equals(plain(batch, revision)), `${index}, revision ${revision}`);
  });

  it("have each device encoded once, for all watchers and all messages", () => {
    class Counting extends EncodedDevices {
      asked = 0;
      override response(view: DeviceView): Buffer {
        this.asked += 1;
        return super.response(view);
      }
    }
    const devices = new Counting("SIMULATED");
    const encoded = new EncodedEvents(devices);
    const [view, other] = two();
    for (let watcher = 0; watcher < 3; watcher += 1) encoded.message({ ...NOTHING, snapshot: [...views] }, 1n);
    assert.equal(devices.asked, views.length);
    for (const told of [view, other])
      for (let watcher = 0; watcher < 3; watcher += 1) encoded.message({ ...NOTHING, changes: [{ kind: "CHANGED", view: told }] }, 2n);
    assert.equal(devices.asked, views.length + 2);
  });
});
