// A region lease on a real kernel, the same for both interfaces: the best descriptor that the kernel gives for a region, or the whole device if the policy allows
// it, and never silently the one for the other: each descriptor carries its true scope.

import type { Address, DeviceProbe, Region } from "../broker/device.js";
import type { OpenedLease, OpenRequest } from "../broker/ports.js";
import { granted, type Outcome, type Refusal, refuse } from "../broker/refusal.js";
import type { OwnedDescriptor } from "../descriptor.js";
import type { BlockingQueue } from "../native.js";
import type { CapabilityTable } from "./capability-table.js";
import { exportRegions } from "./dma-buf.js";
import type { Holding } from "./holding.js";
import { describe, describeDevice, HostLease } from "./host-lease.js";

/** The regions of a request, in its order. */
export function requestedRegions(address: Address, probe: DeviceProbe, indexes: readonly number[]): Outcome<readonly Region[]> {
  const regions: Region[] = [];
  for (const index of indexes) {
    const region = probe.regions.find((candidate) => candidate.index === index);
    if (region === undefined) {
      const there = probe.regions.map((candidate) => candidate.index).join(", ");
      return refuse("REGION_NOT_FOUND", `${address}: it has no region ${index}; it has ${there}`, { address, region: String(index) });
    }
    regions.push(region);
  }
  return granted(regions);
}

function noScope(address: Address, why: string): Refusal {
  return {
    reason: "REGION_SCOPE_UNAVAILABLE",
    message: `${address}: no descriptor can be limited to a region: ${why}`,
    metadata: { address },
  };
}

/** Refuses before anything is opened when it is already known that only the whole device could be given and that may not be. */
export function unavailableScope(request: Extract<OpenRequest, { kind: "REGION" }>, capabilities: CapabilityTable): Refusal | null {
  if (request.allowDeviceScope || capabilities.get("dma_buf_mmap") === "AVAILABLE") return null;
  return noScope(request.address, `dma_buf_mmap: ${capabilities.detail("dma_buf_mmap")}`);
}

/** Makes the lease of a device that the broker has bound and goes on owning. */
export async function shareRegions(
  queue: BlockingQueue,
  holding: Holding,
  device: OwnedDescriptor,
  address: Address,
  regions: readonly Region[],
  allowDeviceScope: boolean,
  capabilities: CapabilityTable,
): Promise<Outcome<OpenedLease>> {
  let why = `dma_buf_mmap: ${capabilities.detail("dma_buf_mmap")}`;
  if (capabilities.get("dma_buf_mmap") === "AVAILABLE") {
    const exported = await exportRegions(queue, holding, device.borrow(), address, regions);
    if (exported.refusal === null) {
      const descriptors = exported.value.flatMap((descriptor, index) => {
        const region = regions[index];
        return region === undefined ? [] : [{ info: describe("REGION", { address, region: region.index, size: region.size }), descriptor }];
      });
      return granted(new HostLease(holding, descriptors, false));
    }
    // A region that cannot be exported (7.3: nvgrace usemem, ENODEV) is no fault; running out of descriptors is.
    if (exported.refusal.reason === "DESCRIPTOR_LIMIT") return exported;
    why = exported.refusal.message;
  }
  if (!allowDeviceScope) return { value: null, refusal: noScope(address, why) };
  return granted(new HostLease(holding, [{ info: describeDevice("DEVICE", address), descriptor: device }], false));
}
