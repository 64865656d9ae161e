import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import type { DeviceView } from "../../../src/broker/inventory.js";
import { SimulatedHost } from "../../../src/host/simulated-host.js";
import { EncodedDevices } from "../../../src/rpc/encoded-devices.js";
import { type EncodedEvent, EncodedEvents } from "../../../src/rpc/encoded-events.js";
import { services } from "../../../src/rpc/protos.js";
import { toDevice } from "../../../src/rpc/translate.js";

const { responseSerialize } = services.device.WatchDevices;
const SYNCED: EncodedEvent = { kind: "SYNCED", view: null };

function plain(events: readonly EncodedEvent[], revision: bigint): Buffer {
  return responseSerialize({
    events: events.map(({ kind, view }) => ({
      kind: `DEVICE_EVENT_KIND_${kind}` as const,
      device: view && toDevice(view, "SIMULATED"),
    })),
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
      ...{ facts, probe: null, state: "FREE", stateDetail: "", ineligibleReasons: [], generation: 1n },
    }));
  });
  after(() => host.close());

  it("are byte for byte what the plain encoder writes", () => {
    const encoded = new EncodedEvents(new EncodedDevices("SIMULATED"));
    const [view] = views;
    assert.ok(view);
    // Lengths on both sides of every further byte that a length needs.
    const sized = (detail: number): DeviceView => ({ ...view, stateDetail: "x".repeat(detail) });
    const large = [0, 1, 100, 16_000, 16_383, 16_384, 2_097_151, 2_097_152].map((detail) => ({
      kind: "CHANGED" as const,
      view: sized(detail),
    }));
    for (const [events, revision] of [
      [views.map((each) => ({ kind: "SNAPSHOT" as const, view: each })), 1n],
      [[{ kind: "CHANGED", view }], 2n ** 64n - 1n],
      [[{ kind: "REMOVED", view }, SYNCED], 300n],
      [[SYNCED], 0n],
      [large, 7n],
    ] as const)
      assert.ok(encoded.message(events, revision).equals(plain(events, revision)), `${events.length} events, revision ${revision}`);
  });

  it("are made once for all watchers, and anew for what differs", () => {
    const encoded = new EncodedEvents(new EncodedDevices("SIMULATED"));
    const [view, other] = views;
    assert.ok(view && other);
    const told = encoded.message([{ kind: "CHANGED", view }], 5n);
    assert.equal(encoded.message([{ kind: "CHANGED", view }], 5n), told);
    for (const [events, revision] of [
      [[{ kind: "CHANGED", view }], 6n],
      [[{ kind: "REMOVED", view }], 6n],
      [[{ kind: "REMOVED", view: { ...view, state: "HELD" } }], 6n],
      [[{ kind: "CHANGED", view: other }], 6n],
      [[{ kind: "CHANGED", view: other }, SYNCED], 6n],
    ] as const)
      assert.ok(encoded.message(events, revision).equals(plain(events, revision)), JSON.stringify([events.length, String(revision)]));
  });
});
