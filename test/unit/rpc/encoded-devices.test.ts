import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import type { DeviceView } from "../../../src/broker/inventory.js";
import { SimulatedHost } from "../../../src/host/simulated-host.js";
import { EncodedDevices } from "../../../src/rpc/encoded-devices.js";
import { services } from "../../../src/rpc/protos.js";
import { toDevice } from "../../../src/rpc/translate.js";

describe("[simulated host] devices as bytes", () => {
  const views: DeviceView[] = [];
  let host: SimulatedHost;
  before(async () => {
    const made = await SimulatedHost.create({ observer: { fault: (where, error) => assert.fail(`${where}: ${String(error)}`) } });
    assert.ok(made.refusal === null);
    host = made.value;
    for (const facts of await host.scan()) {
      const { value: probe } = facts.vfioBound ? await host.probe(facts) : { value: null };
      views.push({ facts, probe, state: "FREE", stateDetail: "", ineligibleReasons: [], peerSets: [], generation: 1n });
    }
  });
  after(() => host.close());

  it("are what the plain encoder gives, for one and for a page", () => {
    const encoded = new EncodedDevices("SIMULATED");
    const { GetDevice, ListDevices } = services.device;
    for (const view of views)
      assert.deepEqual(
        GetDevice.responseDeserialize(encoded.response(view)),
        GetDevice.responseDeserialize(GetDevice.responseSerialize({ device: toDevice(view, "SIMULATED") })),
      );
    for (const [some, nextPageToken] of [
      [views, "next"],
      [views.slice(0, 1), ""],
      [[], ""],
    ] as const) {
      const plain = ListDevices.responseSerialize({ devices: some.map((view) => toDevice(view, "SIMULATED")), nextPageToken });
      assert.deepEqual(ListDevices.responseDeserialize(encoded.page(some, nextPageToken)), ListDevices.responseDeserialize(plain));
    }
  });

  it("are encoded once for a view, and anew for the next", () => {
    const encoded = new EncodedDevices("SIMULATED");
    const [view] = views;
    assert.ok(view);
    assert.equal(encoded.response(view), encoded.response(view));
    const next: DeviceView = { ...view, state: "HELD", generation: 2n };
    const { device } = services.device.GetDevice.responseDeserialize(encoded.response(next));
    assert.equal(device?.state, "DEVICE_STATE_HELD");
  });

  it("fill a page up to 3 MiB, so that a client's default limit of 4 MiB holds", () => {
    const encoded = new EncodedDevices("SIMULATED");
    const [view] = views;
    assert.ok(view);
    const addresses = Array.from({ length: 65_536 }, () => view.facts.address);
    const large: DeviceView = { ...view, probe: null, facts: { ...view.facts, resetSet: { addresses, source: "TOPOLOGY" } } };
    const size = encoded.response(large).length;
    const many = Array.from({ length: 8 }, () => large);
    const fitting = encoded.fitting(many);
    assert.equal(fitting.length, Math.floor((3 * 1024 * 1024) / size));
    assert.ok(fitting.length > 1 && fitting.length < 8);
    assert.ok(encoded.page(fitting, "next").length < 4 * 1024 * 1024);
    assert.deepEqual(encoded.fitting(views), views);
    const huge: DeviceView = {
      ...large,
      facts: { ...large.facts, resetSet: { addresses: Array(5).fill(addresses).flat(), source: "TOPOLOGY" } },
    };
    assert.deepEqual(encoded.fitting([huge, view]), [huge]);
  });
});
