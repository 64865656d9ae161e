// Every fact from the broker's words to the wire and back to a client's: exact, and absent where the kernel said nothing.

import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { type DeviceFacts, type DeviceProbe, parseAddress } from "../../../src/broker/device.js";
import type { DeviceView } from "../../../src/broker/inventory.js";
import { decodeDevice } from "../../../src/client/decode.js";
import type { Device } from "../../../src/client/index.js";
import { protoFiles } from "../../../src/client/proto-files.js";
import { toDevice } from "../../../src/rpc/translate.js";
import { BARE_PROBE, UNKNOWN_FACTS, UNKNOWN_TO_CLIENT } from "../../fakes/facts.js";

const at = (text: string) => parseAddress(text) ?? assert.fail(text);

const FACTS: DeviceFacts = {
  address: at("0000:01:00.0"),
  vendorId: 0x8086,
  deviceId: 0x1592,
  classCode: 0x020000,
  driver: "vfio-pci",
  driverOverride: "",
  iommuGroup: null,
  resetMethods: [],
  numaNode: null,
  physicalFunction: null,
  vfioBound: true,
  leaving: false,
  bindKey: "",
  ...UNKNOWN_FACTS,
};

const FULL_FACTS: DeviceFacts = {
  ...FACTS,
  driverOverride: "vfio-pci",
  iommuGroup: { id: 0, members: [], viable: false, otherSpoilers: ['"arm-thing.0" (arm)'] },
  revisionId: 0,
  subsystem: { vendorId: 0, deviceId: 1 },
  names: {
    ...{ baseClass: "a", subclass: "b", programmingInterface: "c", vendor: "d", device: "e", subsystemVendor: "f", subsystem: "g" },
    source: "/usr/share/misc/pci.ids",
  },
  driverCandidates: [{ driver: "vfio-pci", module: "vfio_pci", kind: "VFIO_GENERIC", source: "MODULES_BUILTIN", alias: "vfio_pci:v*" }],
  place: {
    root: "pci0000:00",
    ports: [at("0000:00:15.0")],
    link: { currentSpeedMts: null, currentWidth: null, maxSpeedMts: 64_000, maxWidth: 16 },
  },
  virtualFunctions: { total: 7, addresses: [at("0000:01:10.0")] },
  genericInitiators: { nodes: [0, 1023], source: "a test" },
  extendedMemory: { name: "egm0", size: 0n, gpus: [at("0000:01:00.0")] },
  vfIndex: 0,
  resetSet: { addresses: [at("0000:01:00.0")], source: "TOPOLOGY" },
};

const FULL_PROBE: DeviceProbe = {
  ...BARE_PROBE,
  resetSupported: false,
  notReady: "no",
  readiness: "asked",
  resetSet: { addresses: [at("0000:01:00.0"), at("0000:01:00.1")], source: "KERNEL" },
  interrupts: [{ index: 9, kind: "UNSPECIFIED", count: 2048, eventfd: true, maskable: false, automasked: true, noresize: false }],
  msix: { vectors: 2048, table: { bar: 0, offset: 0xffff_fff8n, size: 32768n }, pending: { bar: 5, offset: 0n, size: 256n } },
  dmaBufExport: { supported: true, regions: [0, 2] },
  migration: { stopCopy: true, peerToPeer: false, preCopy: true, dmaLogging: false },
  lowPower: { entry: true, entryWithWakeup: false, exit: true },
  addressTranslation: { ats: true, pri: false, pasid: true, pasidBits: null },
  iommuHardware: {
    ...{ kind: "INTEL_VTD", rawKind: 1, dirtyTracking: true, pasidExecute: false, pasidPrivileged: true },
    ...{ pasidBits: null, inputAddressBits: 48, iommuPasidBits: 0, ats: false, rangeInvalidation: null },
    vendorData: Uint8Array.of(0, 255),
  },
};

function overTheWire(facts: DeviceFacts, probe: DeviceProbe | null): Device {
  const view: DeviceView = { facts, probe, state: "FREE", stateDetail: "", ineligibleReasons: [], peerSets: [], generation: 1n };
  const { Device } = protoFiles().aperture.v1;
  return decodeDevice(Device.deserialize(Device.serialize(toDevice(view, "IOMMUFD"))));
}

describe("[pure] facts over the wire", () => {
  it("what is not known arrives as not known", () => {
    const device = overTheWire(FACTS, null);
    for (const key of Object.keys(UNKNOWN_TO_CLIENT) as (keyof typeof UNKNOWN_TO_CLIENT)[]) {
      assert.deepEqual(device[key], UNKNOWN_TO_CLIENT[key], key);
    }
  });

  it("everything that is known arrives as it was, zeros and all", () => {
    const device = overTheWire(FULL_FACTS, FULL_PROBE);
    const { names, driverCandidates, place, virtualFunctions, vfIndex, revisionId, driverOverride, genericInitiators, extendedMemory } =
      FULL_FACTS;
    const { interrupts, msix, dmaBufExport, migration, lowPower, addressTranslation, iommuHardware } = FULL_PROBE;
    const same = {
      names,
      driverCandidates,
      place,
      virtualFunctions,
      vfIndex,
      revisionId,
      driverOverride,
      genericInitiators,
      extendedMemory,
    };
    const probed = { interrupts, msix, dmaBufExport, migration, lowPower, addressTranslation, iommuHardware };
    for (const [key, value] of Object.entries({ ...same, ...probed })) assert.deepEqual(device[key as keyof Device], value, key);
    assert.deepEqual([device.subsystemVendorId, device.subsystemDeviceId], [0, 1]);
    assert.deepEqual(device.iommuGroup?.otherSpoilers, ['"arm-thing.0" (arm)']);
    assert.deepEqual([device.readiness, device.readinessDetail], ["NOT_READY", "asked"]);
  });

  it("the kernel's reset set replaces the one by topology, and is leased together when nothing else clears the device", () => {
    assert.deepEqual(overTheWire(FULL_FACTS, null).resetSet, { addresses: ["0000:01:00.0"], source: "TOPOLOGY", leasedTogether: false });
    assert.deepEqual(overTheWire(FULL_FACTS, FULL_PROBE).resetSet, {
      addresses: ["0000:01:00.0", "0000:01:00.1"],
      source: "KERNEL",
      leasedTogether: true,
    });
    assert.equal(overTheWire(FULL_FACTS, { ...FULL_PROBE, resetSupported: true }).resetSet?.leasedTogether, false);
    assert.equal(overTheWire(FULL_FACTS, { ...FULL_PROBE, resetSet: null }).resetSet, null);
  });
});
