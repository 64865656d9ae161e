import assert from "node:assert/strict";
import { test } from "node:test";
import { decodeDevice, decodeHostInfo, decodeLease } from "../../../src/client/decode.js";
import { protoFiles } from "../../../src/client/proto-files.js";

const types = protoFiles().aperture.v1;

test("64-bit numbers are exact, absent fields are null, enum values are bare [pure]", () => {
  const { Device } = types;
  const device = decodeDevice(
    Device.deserialize(
      Device.serialize({
        address: "0000:01:00.0",
        state: "DEVICE_STATE_QUARANTINED",
        backends: ["BACKEND_LEGACY"],
        generation: "18446744073709551615",
        regions: [
          {
            index: 9,
            kind: "REGION_KIND_DEVICE_SPECIFIC",
            size: "9007199254740993",
            offset: "9895604649984",
            type: { type: 1, subtype: 2 },
          },
        ],
      }),
    ),
  );
  assert.equal(device.generation, 18446744073709551615n);
  assert.equal(device.state, "QUARANTINED");
  assert.deepEqual(device.backends, ["LEGACY"]);
  assert.equal(device.iommuGroup, null);
  assert.equal(device.numaNode, null);
  assert.equal(device.resetSupported, null);
  assert.equal(device.physicalFunction, null);
  const [region] = device.regions;
  assert.equal(region?.size, 9007199254740993n);
  assert.equal(region?.offset, 9n << 40n);
  assert.equal(region?.bar, null);
  assert.deepEqual(region?.type, { type: 1, subtype: 2 });
});

test("BAR 0, group 0, node 0 and `no reset` are values, not absences [pure]", () => {
  const { Device, Lease } = types;
  const device = decodeDevice(
    Device.deserialize(
      Device.serialize({ numaNode: 0, resetSupported: false, iommuGroup: { id: 0, viable: true }, regions: [{ index: 0, bar: 0 }] }),
    ),
  );
  assert.equal(device.numaNode, 0);
  assert.equal(device.resetSupported, false);
  assert.equal(device.iommuGroup?.id, 0);
  assert.equal(device.regions[0]?.bar, 0);
  const lease = decodeLease(
    Lease.deserialize(
      Lease.serialize({
        descriptors: [
          { kind: "DESCRIPTOR_KIND_REGION", region: 0 },
          { kind: "DESCRIPTOR_KIND_GROUP", group: 0 },
        ],
      }),
    ),
  );
  assert.equal(lease.descriptors[0]?.region, 0);
  assert.equal(lease.descriptors[0]?.group, null);
  assert.equal(lease.descriptors[1]?.group, 0);
});

test("an enum value of a newer daemon reads as UNSPECIFIED [pure]", () => {
  const { Lease } = types;
  // Field 4 (state), varint 99.
  assert.equal(decodeLease(Lease.deserialize(Buffer.from([0x20, 99]))).state, "UNSPECIFIED");
});

test("times are dates, or null [pure]", () => {
  const { GetHostInfoResponse } = types;
  const time = { seconds: "1700000000", nanos: 250_999_999 };
  assert.equal(
    decodeHostInfo(GetHostInfoResponse.deserialize(GetHostInfoResponse.serialize({ startTime: time }))).startTime?.toISOString(),
    "2023-11-14T22:13:20.250Z",
  );
  assert.equal(decodeHostInfo(GetHostInfoResponse.deserialize(Buffer.alloc(0))).startTime, null);
});

test("a VF token is told, or left out [pure]", () => {
  const { Lease } = types;
  const vfToken = Buffer.alloc(16, 7);
  const { devices } = decodeLease(
    Lease.deserialize(Lease.serialize({ devices: [{ address: "0000:01:10.0", vfToken }, { address: "0000:01:10.2" }] })),
  );
  assert.deepEqual(
    devices.map((device) => device.vfToken),
    [vfToken, undefined],
  );
  assert.equal("vfToken" in (devices[1] ?? {}), false);
});
