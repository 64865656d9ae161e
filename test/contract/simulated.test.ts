import assert from "node:assert/strict";
import { SimulatedHost } from "../../src/host/simulated-host.js";
import { hostContract } from "./host-contract.js";

const observer = {
  fault: (where: string, error: unknown) => {
    assert.fail(`${where}: ${String(error)}`);
  },
};

// The GH200 with its padded aperture, and the drive.
for (const [first, second, region] of [
  ["0009:01:00.0", "0000:02:00.0", 4],
  ["0000:41:01.0", "0019:01:00.0", 0],
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
    kinds: (regions) => new Array<"REGION">(regions).fill("REGION"),
    reset: "DONE",
    unusedCopy: "STILL_HELD",
    regionScope: "REGION",
    widestScope: "REGION",
  });
}
