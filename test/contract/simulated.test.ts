import assert from "node:assert/strict";
import { SimulatedHost } from "../../src/host/simulated-host.js";
import { hostContract } from "./host-contract.js";

const observer = {
  fault: (where: string, error: unknown) => {
    assert.fail(`${where}: ${String(error)}`);
  },
};

// The GH200 with its padded aperture, and the drive; a virtual function; a ROM, VGA and regions of the device's own; coherent memory that is no BAR.
for (const [first, second, region, notBars, iommu] of [
  ["0009:01:00.0", "0000:02:00.0", 4, [7], true],
  ["0000:41:01.0", "0019:01:00.0", 0, [7], false],
  ["0000:00:02.0", "0000:41:01.1", 2, [6, 7, 8, 9, 10, 11], false],
  ["0000:c1:00.0", "0000:02:00.0", 9, [7, 9, 10], false],
] as const) {
  hostContract({
    rung: "[simulated host]",
    create: async () => {
      const host = await SimulatedHost.create({ observer });
      return host.value ?? assert.fail(host.refusal?.message ?? "");
    },
    first,
    second,
    region,
    hostBound: "0000:01:00.0",
    notBars,
    iommu,
    kinds: (regions) => new Array<"REGION">(regions).fill("REGION"),
    reset: "DONE",
    unusedCopy: "STILL_HELD",
    regionScope: "REGION",
    widestScope: "REGION",
  });
}
