// Every way in which a device cannot be leased by anybody has its code, and names what is in the way.

import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { DeviceFacts } from "../../../src/broker/device.js";
import { ineligibleReasons, type Knowledge } from "../../../src/broker/eligibility.js";
import type { Reason } from "../../../src/broker/refusal.js";
import { BARE_PROBE, UNKNOWN_FACTS } from "../../fakes/facts.js";
import { fakeAddress } from "../../fakes/host.js";

const [A, B] = [fakeAddress(1), fakeAddress(2)];
const member = (address: typeof A, driver: string, spoils: boolean) => ({ address, driver, spoils });

const GOOD: DeviceFacts = {
  ...{ address: A, vendorId: 1, deviceId: 2, classCode: 3, driver: "vfio-pci", driverOverride: "" },
  ...{ iommuGroup: { id: 7, members: [member(A, "vfio-pci", false)], viable: true, otherSpoilers: [] }, resetMethods: [], numaNode: null },
  ...{ physicalFunction: null, vfioBound: true, leaving: false, bindKey: "" },
  ...UNKNOWN_FACTS,
};

function spoiled(members: readonly ReturnType<typeof member>[], otherSpoilers: readonly string[] = []): DeviceFacts["iommuGroup"] {
  return { id: 7, members, viable: false, otherSpoilers };
}

function refusedWith(reason: Reason): Partial<Knowledge> {
  return { probe: null, probeRefusal: { reason, message: `refused with ${reason}`, metadata: {} } };
}

const CASES: readonly (readonly [
  what: string,
  reasons: readonly Reason[],
  words: RegExp,
  facts: Partial<DeviceFacts>,
  known?: Partial<Knowledge>,
])[] = [
  ["bound to a host driver", ["NO_VFIO_DRIVER"], /bound to nvme, which is no VFIO driver/, { vfioBound: false, driver: "nvme" }],
  ["bound to nothing", ["NO_VFIO_DRIVER"], /bound to no driver/, { vfioBound: false, driver: "" }],
  [
    "its VFIO driver's probe failed",
    ["DRIVER_NOT_READY"],
    /driver_override names nvgrace_gpu_vfio_pci/,
    { vfioBound: false, driver: "", driverOverride: "nvgrace_gpu_vfio_pci" },
  ],
  ["its driver waits for the last holder", ["DEVICE_LEAVING"], /./, { vfioBound: false, driver: "vfio-pci", leaving: true }],
  ["no IOMMU", ["NO_IOMMU_GROUP"], /the IOMMU is off or does not cover it/, { iommuGroup: null }],
  [
    "a member of its group",
    ["GROUP_NOT_VIABLE"],
    new RegExp(`group 7 .* ${B} \\(snd_hda_intel\\) does its own DMA`),
    { iommuGroup: spoiled([member(A, "vfio-pci", false), member(B, "snd_hda_intel", true)]) },
  ],
  [
    "a member of its group that is no PCI function",
    ["GROUP_NOT_VIABLE"],
    /"arm-thing.0" \(arm\) does its own DMA/,
    { iommuGroup: spoiled([member(A, "vfio-pci", false)], ['"arm-thing.0" (arm)']) },
  ],
  [
    "several members, one of them no PCI function, of a device without driver",
    ["NO_VFIO_DRIVER", "GROUP_NOT_VIABLE"],
    /\(nvme\), "arm-thing.0" \(arm\) do their own DMA/,
    { vfioBound: false, driver: "", iommuGroup: spoiled([member(B, "nvme", true)], ['"arm-thing.0" (arm)']) },
  ],
  [
    "only a member that is no PCI function, of a device without driver",
    ["NO_VFIO_DRIVER", "GROUP_NOT_VIABLE"],
    /"arm-thing.0" \(arm\) does its own DMA/,
    { vfioBound: false, driver: "", iommuGroup: spoiled([member(A, "", false)], ['"arm-thing.0" (arm)']) },
  ],
  [
    "that it spoils its group itself is told once, by its driver",
    ["NO_VFIO_DRIVER"],
    /bound to nvme/,
    { vfioBound: false, driver: "nvme", iommuGroup: spoiled([member(A, "nvme", true)]) },
  ],
  ["quarantined", ["DEVICE_QUARANTINED"], /a copy is out there/, {}, { state: "QUARANTINED", stateDetail: "a copy is out there" }],
  ["gone", ["DEVICE_REMOVED"], /has left the machine/, {}, { state: "REMOVED" }],
  ["not ready", ["DEVICE_NOT_READY"], /memory is training/, {}, { probe: { ...BARE_PROBE, notReady: "memory is training" } }],
  ["being read", ["DEVICE_NOT_PROBED"], /first time/, {}, { probe: null }],
  ["held by another process", ["DEVICE_IN_USE"], /refused with/, {}, refusedWith("DEVICE_IN_USE")],
  ["its node is closed to us", ["NO_PERMISSION"], /refused with/, {}, refusedWith("NO_PERMISSION")],
  ["its group, as the kernel says", ["GROUP_NOT_VIABLE"], /refused with/, {}, refusedWith("GROUP_NOT_VIABLE")],
  ["a virtual function of a VFIO owner", ["VF_TOKEN_REQUIRED"], /refused with/, {}, refusedWith("VF_TOKEN_REQUIRED")],
  ["anything else that kept it from being read", ["DEVICE_NOT_PROBED"], /refused with/, {}, refusedWith("HOST_OPERATION_FAILED")],
];

describe("[pure] why a device cannot be leased", () => {
  for (const [what, reasons, words, facts, known] of CASES) {
    it(`${what}: ${reasons.join(", ")}`, () => {
      const base: Knowledge = { facts: { ...GOOD, ...facts }, probe: BARE_PROBE, probeRefusal: null, state: "FREE", stateDetail: "" };
      const found = ineligibleReasons({ ...base, ...known });
      assert.deepEqual(
        found.map(({ reason }) => reason),
        reasons,
      );
      assert.match(found.map(({ message }) => message).join("\n"), words);
    });
  }

  it("nothing is in the way of a good device, nor of one that somebody has", () => {
    for (const state of ["FREE", "OPENING", "OFFERED", "HELD", "RELEASING", "RESETTING"] as const) {
      assert.deepEqual(ineligibleReasons({ facts: GOOD, probe: BARE_PROBE, probeRefusal: null, state, stateDetail: "" }), []);
    }
  });
});
