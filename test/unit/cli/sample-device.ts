// A device as a client sees it, for the tests of views.

import type { Device, Region } from "../../../src/client/index.js";
import { UNKNOWN_TO_CLIENT } from "../../fakes/facts.js";

export const REGION: Region = {
  index: 4,
  bar: 4,
  kind: "BAR",
  size: 0x40000000n,
  backedSize: 0x20000000n,
  areas: [{ offset: 0n, size: 0x20000000n }],
  memoryType: "WRITE_BACK",
  memoryTypeSource: "drivers/vfio/pci/nvgrace-gpu/main.c",
  prefetchable: true,
  is64bit: true,
  readable: true,
  writable: true,
  mappable: true,
  offset: 4n << 40n,
  type: null,
};

export const DEVICE: Device = {
  address: "0000:00:14.0",
  vendorId: 0x1234,
  deviceId: 0x1111,
  classCode: 0x030200,
  driver: "nvgrace_gpu_vfio_pci",
  iommuGroup: {
    id: 5,
    viable: true,
    otherSpoilers: [],
    members: [{ address: "0000:00:14.0", driver: "nvgrace_gpu_vfio_pci", spoils: false }],
  },
  resetMethods: ["flr", "bus"],
  resetSupported: true,
  numaNode: null,
  regions: [REGION],
  state: "FREE",
  stateDetail: "",
  ineligibleReasons: [],
  peerSets: [],
  backends: ["IOMMUFD"],
  physicalFunction: null,
  generation: 1n,
  ...UNKNOWN_TO_CLIENT,
};
