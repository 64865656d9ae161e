// Which virtual functions a VMM cannot take: those that need a VF token.

import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { Address } from "../../../src/broker/device.js";
import type { Inventory } from "../../../src/broker/inventory.js";
import { refuse } from "../../../src/broker/refusal.js";
import type { VmmOptions__Output } from "../../../src/generated/aperture/v1/VmmOptions.js";
import { VmmWords } from "../../../src/rpc/vmm-arguments.js";

const VF = "0000:01:10.0" as Address;
const PF = "0000:01:00.0" as Address;
const QEMU = { vmm: "VMM_QEMU", machine: "GUEST_MACHINE_UNSPECIFIED", guestNodes: [], resourceName: "" } as unknown as VmmOptions__Output;

type Availability = "AVAILABLE" | "UNAVAILABLE" | "UNKNOWN";

function reason(backend: "IOMMUFD" | "LEGACY", availability: Availability, physical: { readonly vfioBound: boolean } | null): string {
  const inventory = {
    known: () => ({ facts: { address: VF, physicalFunction: physical === null ? null : PF } }),
    get: (address: Address) => (address === PF ? { facts: physical } : null),
  };
  const host = { backend, numaNodes: () => [], capabilities: () => [{ name: "bind_token", availability, detail: "" }] };
  const make = (): ReturnType<typeof refuse> => refuse("VMM_NEEDS_IOMMUFD", "made");
  return new VmmWords({ inventory: inventory as unknown as Inventory, host, make }).arguments(QEMU, [VF], "vmm").refusal?.reason ?? "";
}

describe("[pure] arguments for a VMM", () => {
  it("are refused for a virtual function that needs a VF token, and for no other", () => {
    assert.equal(reason("IOMMUFD", "AVAILABLE", { vfioBound: true }), "VF_TOKEN_REQUIRED");
    for (const [backend, availability, physical] of [
      ["LEGACY", "AVAILABLE", { vfioBound: true }],
      ["IOMMUFD", "UNAVAILABLE", { vfioBound: true }],
      ["IOMMUFD", "UNKNOWN", { vfioBound: true }],
      ["IOMMUFD", "AVAILABLE", { vfioBound: false }],
      ["IOMMUFD", "AVAILABLE", null],
    ] as const)
      assert.equal(reason(backend, availability, physical), "VMM_NEEDS_IOMMUFD", `${backend} ${availability} ${JSON.stringify(physical)}`);
  });
});
