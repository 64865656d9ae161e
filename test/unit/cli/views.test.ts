import assert from "node:assert/strict";
import { test } from "node:test";
import { renderDeviceList } from "../../../src/cli/device-list.js";
import { renderDevice } from "../../../src/cli/device-view.js";
import { renderDescriptors } from "../../../src/cli/lease-view.js";
import type { Device, Region } from "../../../src/client/index.js";
import { PLAIN } from "./captured-terminal.js";
import { DEVICE, REGION } from "./sample-device.js";

test("a padded aperture shows size, backed part, tail and where its memory type comes from [pure]", () => {
  const text = renderDevice(DEVICE, PLAIN);
  assert.match(text, /^0000:00:14\.0\n/);
  assert.match(text, /ids +1234:1111 +sysfs vendor, device\n +class +0x030200 +sysfs class\n/);
  assert.match(
    text,
    / 4 +BAR 4 +0x40000000 1 GiB +0x20000000 512 MiB +0x20000000 512 MiB +write-back +read write map +64-bit prefetchable/,
  );
  assert.match(text, /region 4: write-back: drivers\/vfio\/pci\/nvgrace-gpu\/main\.c/);
  assert.match(text, /methods +flr, bus +sysfs reset_method\n +before reuse +can be reset +VFIO device info\n/);
  assert.match(text, /can be leased +yes/);
  assert.ok(!text.includes("Why it cannot be leased"));
});

test("where a GPU's nodes come from is a sentence of its own, and leaves the sources beside the facts [pure]", () => {
  const genericInitiators = {
    nodes: [2, 3, 4, 5],
    source: "/sys/devices/system/node: has_generic_initiator; 8 for each of 2 Grace GPUs, in order",
  };
  const text = renderDevice({ ...DEVICE, genericInitiators }, PLAIN);
  assert.match(text, /initiators +nodes 2-5 +sysfs node\n/);
  assert.match(text, /bound +nvgrace_gpu_vfio_pci +sysfs driver\n/);
  assert.match(text.replaceAll(/\s+/g, " "), /has_generic_initiator; 8 for each of 2 Grace GPUs, in order/);
});

test("a region without a tail, and one that is no BAR [pure]", () => {
  const whole = { ...REGION, index: 0, bar: 0, backedSize: REGION.size };
  const special: Region = {
    ...REGION,
    index: 9,
    bar: null,
    kind: "DEVICE_SPECIFIC",
    type: { type: 0x800010de, subtype: 1 },
    mappable: false,
  };
  const text = renderDevice({ ...DEVICE, regions: [whole, special] }, PLAIN);
  assert.match(text, / 0 +BAR 0 +0x40000000 1 GiB +all +none /);
  assert.match(text, / 9 +DEVICE_SPECIFIC 0x800010de\/0x1 .* read write +-\n/);
});

test("what is in the way is told in words, and the group's members when one of them is [pure]", () => {
  const members = [
    { address: "0000:00:14.0", driver: "vfio-pci", spoils: false },
    { address: "0000:00:14.1", driver: "snd\u001b[2J", spoils: true },
  ];
  const text = renderDevice(
    {
      ...DEVICE,
      state: "QUARANTINED",
      stateDetail: "reset failed",
      iommuGroup: { id: 5, viable: false, otherSpoilers: [], members },
      ineligibleReasons: [{ reason: "GROUP_NOT_VIABLE", message: "0000:00:14.1 is bound to snd", next: "unbind it" }],
      regions: [],
      resetSupported: null,
      resetMethods: [],
    },
    PLAIN,
  );
  assert.match(text, /GROUP_NOT_VIABLE: 0000:00:14\.1 is bound to snd/);
  assert.match(text, /5, NOT viable, 2 devices/);
  assert.match(text, /0000:00:14\.1 +snd\\x1b\[2J +yes/);
  assert.match(text, /state +QUARANTINED +the daemon\n +reset failed\n/);
  assert.match(text, /methods +none +sysfs reset_method\n\nPlace/);
  assert.match(text, /has not been probed/);
});

test("a device that somebody has can be leased, but not now [pure]", () => {
  assert.match(renderDevice({ ...DEVICE, state: "HELD" }, PLAIN), /can be leased +not now/);
  assert.match(renderDeviceList([{ ...DEVICE, state: "OFFERED" }], PLAIN), /OFFERED +not now\n/);
});

test("the list has one line a device and a cell for everything [pure]", () => {
  const busy: Device = {
    ...DEVICE,
    address: "0000:00:15.0",
    iommuGroup: null,
    driver: "",
    regions: [],
    state: "HELD",
    ineligibleReasons: [{ reason: "DEVICE_BUSY", message: "", next: "" }],
  };
  const [head, first, second, end] = renderDeviceList([DEVICE, busy], PLAIN).split("\n");
  assert.match(head ?? "", /^ADDRESS +ID +NAME +DRIVER +GROUP +LARGEST +STATE +CAN BE LEASED$/);
  assert.match(first ?? "", /^0000:00:14\.0 +1234:1111 +- +nvgrace_gpu_vfio_pci +5 +1 GiB +FREE +yes$/);
  assert.match(second ?? "", /^0000:00:15\.0 +1234:1111 +- +- +- +- +HELD +no: DEVICE_BUSY$/);
  assert.equal(end, "");
});

test("descriptors are listed with what each is worth [pure]", () => {
  const base = { address: null, region: null, group: null, offset: 0n, size: 0n };
  const text = renderDescriptors(
    [
      { ...base, fd: 20, kind: "GROUP", scope: "IOMMU", group: 0 },
      { ...base, fd: 21, kind: "REGION", scope: "REGION", address: "0000:00:14.0", region: 0, size: 4096n },
    ],
    PLAIN,
  );
  assert.match(text, /20 +GROUP +IOMMU +- +0 +- +-\n/);
  assert.match(text, /21 +REGION +REGION +0000:00:14\.0 +0 +0x0 +0x1000 4 KiB\n/);
});
