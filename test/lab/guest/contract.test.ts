// The host contract on the kernel's own interfaces: what passes here and on the simulated host is what the broker may rely on.

import assert from "node:assert/strict";
import { IommufdHost } from "../../../src/host/iommufd-host.js";
import { LegacyHost } from "../../../src/host/legacy-host.js";
import { hostContract } from "../../contract/host-contract.js";
import { edu, graceHopper, igbVfs, ivshmem, nvme, testdev } from "../devices.js";
import { world } from "./world.js";

const options = {
  sysRoot: "/sys",
  devRoot: "/dev",
  observer: {
    fault: (where: string, error: unknown) => {
      assert.fail(`${where}: ${String(error)}`);
    },
  },
};

const [vf0, vf1] = igbVfs;

// Without reset; with FLR; the padded aperture (on the stock kernel the same device is an ordinary one).
for (const [first, second, region, reset, notBars] of [
  [edu, testdev, 0, "UNSUPPORTED", [7]],
  [vf0, vf1, 0, "DONE", [7]],
  [graceHopper, ivshmem, world === "iommufd" ? 4 : 0, "UNSUPPORTED", [6, 7]],
] as const) {
  hostContract({
    rung: "[lab kernel]",
    create: async () => {
      const host = world === "iommufd" ? await IommufdHost.create(options) : await LegacyHost.create(options);
      return host.value ?? assert.fail(host.refusal?.message ?? "");
    },
    first: first.address,
    second: second.address,
    region,
    hostBound: nvme.address,
    notBars,
    iommu: world === "iommufd",
    kinds: () => (world === "iommufd" ? ["IOMMUFD", "DEVICE_UNBOUND"] : ["CONTAINER", "GROUP", "DEVICE"]),
    reset,
    unusedCopy: world === "iommufd" ? "PROVEN" : "STILL_HELD",
    // No released kernel lets a process map a dma-buf of a region; when one does, this turns red and says so.
    regionScope: "REFUSED",
    widestScope: "DEVICE",
  });
}
