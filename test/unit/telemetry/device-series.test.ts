import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { DeviceSeries } from "../../../src/telemetry/device-series.js";
import { client, type FakeBroker, fakeBroker, hold, settle } from "../../fakes/broker.js";
import { fakeAddress } from "../../fakes/host.js";

const A = fakeAddress(1);

function textOf(series: DeviceSeries): string {
  return Buffer.concat(series.pages()).toString();
}

function samples(series: DeviceSeries): readonly string[] {
  return textOf(series)
    .split("\n")
    .filter((line) => line !== "" && !line.startsWith("#"));
}

function of(series: DeviceSeries, metric: string): readonly string[] {
  return samples(series).flatMap((line) => (line.startsWith(`aperture_device_${metric}{`) ? line.slice(16 + metric.length) : []));
}

function stateOf(broker: FakeBroker): string | undefined {
  return broker.inventory.get(A)?.state;
}

async function bench(): Promise<{ readonly broker: FakeBroker; readonly series: DeviceSeries }> {
  const broker = await fakeBroker([[1], [2, 3]]);
  return { broker, series: new DeviceSeries(broker.inventory, () => broker.clock.now()) };
}

describe("[pure] series of each device", () => {
  it("says what a device is and which state it is in, each once", async () => {
    const { series } = await bench();
    assert.equal(samples(series).length, 6);
    assert.deepEqual(
      of(series, "info")[0],
      `{pci_address="${A}",vendor_id="0001",device_id="0002",class="000003",driver="vfio-pci",iommu_group="0",numa_node=""} 1`,
    );
    assert.deepEqual(of(series, "state")[0], `{pci_address="${A}",state="free"} 1`);
    assert.deepEqual(series.counts().leasable, 3);
  });

  it("makes the text anew only after a change, and then shows it", async () => {
    const { broker, series } = await bench();
    const before = series.pages();
    for (const [i, page] of series.pages().entries()) assert.equal(page, before[i], "the same bytes, not equal ones");
    await hold(broker, client(broker, 1, 1000), A);
    assert.deepEqual(of(series, "state")[0], `{pci_address="${A}",state="held"} 1`);
    assert.equal(series.pages()[0], before[0], "what the devices are has not changed");
    assert.deepEqual([Object.fromEntries(series.counts().byState), series.counts().leasable], [{ HELD: 1, FREE: 2 }, 2]);
    broker.host.device(fakeAddress(2)).present = false;
    await broker.inventory.refresh();
    await settle();
    assert.equal(samples(series).length, 4);
    assert.ok(!textOf(series).includes(fakeAddress(2)));
    assert.deepEqual([Object.fromEntries(series.counts().byState), series.counts().leasable], [{ HELD: 1, FREE: 1 }, 1]);
  });

  it("says since when a device is quarantined, through every retry, and no longer than it is", async () => {
    const { broker, series } = await bench();
    const peer = client(broker, 1, 1000);
    const lease = await hold(broker, peer, A);
    broker.host.device(A).held = true;
    const since = broker.clock.now();
    await broker.leases.release(peer, lease.value?.id ?? "");
    const expected = [`{pci_address="${A}"} ${(since / 1000).toFixed(3)}`];
    assert.deepEqual(of(series, "quarantine_start_timestamp_seconds"), expected);
    broker.clock.advance(1_000);
    assert.deepEqual(of(series, "state")[0], `{pci_address="${A}",state="releasing"} 1`);
    assert.deepEqual(of(series, "quarantine_start_timestamp_seconds"), expected);
    await settle();
    assert.deepEqual(of(series, "quarantine_start_timestamp_seconds"), expected, "still held");
    broker.host.device(A).held = false;
    const resetting: (readonly string[])[] = [];
    broker.host.between = (step) => {
      if (stateOf(broker) === "RESETTING") resetting.push([step, ...of(series, "quarantine_start_timestamp_seconds")]);
    };
    broker.clock.advance(2_000);
    await settle();
    assert.deepEqual(resetting[0]?.slice(1), expected, "not free before its reset");
    assert.deepEqual(of(series, "state")[0], `{pci_address="${A}",state="free"} 1`);
    assert.deepEqual(of(series, "quarantine_start_timestamp_seconds"), []);
  });
});
