// OpenVMM takes descriptors through its embedding API alone: its command line names PCI addresses and opens the nodes itself.

import type { KnownDevice } from "../broker/ports.js";
import type { VmmFragment, VmmNote } from "../broker/vmm.js";
import { IOMMUFD_ID } from "./ids.js";

export function openvmmParts(devices: readonly KnownDevice[]): {
  readonly leastVersion: string;
  readonly fragments: readonly VmmFragment[];
  readonly notes: readonly VmmNote[];
} {
  return {
    // No release is numbered yet.
    leastVersion: "",
    fragments: devices.map(({ facts: { address } }) => ({
      place: "VfioCdevDeviceHandle",
      lines: [`pci_id: ${address}`, `cdev: @device:${address}`, "iommufd: @iommufd", `iommu_id: ${IOMMUFD_ID}`],
      values: [
        { name: "cdev", value: `@device:${address}`, source: "descriptor DEVICE_UNBOUND of the lease: OpenVMM binds it itself" },
        { name: "iommufd", value: "@iommufd", source: "descriptor IOMMUFD of the lease, a copy for each device" },
        { name: "iommu_id", value: IOMMUFD_ID, source: "devices with the same id share one address space" },
      ],
    })),
    notes: [
      {
        kind: "TO_DO",
        text: "these are fields of the structure that the program which embeds OpenVMM fills; its command line takes addresses only",
      },
      { kind: "LEFT_OUT", text: "what a BAR's guest address is to be: the embedding program's own choice" },
    ],
  };
}
