import assert from "node:assert/strict";
import { test } from "node:test";
import { protoFiles } from "../../../src/client/proto-files.js";
import { encodeAcquire, encodeFilter } from "../../../src/client/requests.js";

const ID = "00112233-4455-4677-8899-aabbccddeeff";

test("a device lease names its devices, a region lease one device and its regions [pure]", () => {
  const device = encodeAcquire({ kind: "device", addresses: ["0000:01:00.0", "0000:02:00.0"] }, ID, 0xffffffffffffffffn);
  assert.deepEqual(device.devices, [
    { address: "0000:01:00.0", regions: [] },
    { address: "0000:02:00.0", regions: [] },
  ]);
  assert.equal(device.kind, "LEASE_KIND_DEVICE");
  assert.equal(device.channel, "18446744073709551615");
  const region = encodeAcquire({ kind: "region", address: "0000:01:00.0", regions: [2, 4] }, ID, 1n);
  assert.deepEqual(region.devices, [{ address: "0000:01:00.0", regions: [2, 4] }]);
  assert.equal(region.kind, "LEASE_KIND_REGION");
});

test("a target that names nothing throws before anything is sent [pure]", () => {
  assert.throws(() => encodeAcquire({ kind: "device", addresses: [] }, ID, 1n), RangeError);
  assert.throws(() => encodeAcquire({ kind: "region", address: "0000:01:00.0", regions: [] }, ID, 1n), RangeError);
  for (const index of [-1, 1.5, Number.NaN, 2 ** 32]) {
    assert.throws(() => encodeAcquire({ kind: "region", address: "0000:01:00.0", regions: [index] }, ID, 1n), RangeError);
  }
});

test("an id of a filter that is not given stays absent on the wire, an id of 0 does not [pure]", () => {
  const { DeviceFilter } = protoFiles().aperture.v1;
  const read = (filter: Parameters<typeof encodeFilter>[0]): object =>
    DeviceFilter.deserialize(DeviceFilter.serialize(encodeFilter(filter)));
  assert.ok(!("vendorId" in read({})));
  assert.equal(Reflect.get(read({ vendorId: 0 }), "vendorId"), 0);
  assert.equal(Reflect.get(read({ deviceId: 0x2342 }), "deviceId"), 0x2342);
});
