// Region-scoped descriptors on a real kernel: VFIO_DEVICE_FEATURE_DMA_BUF (6.19) gives a descriptor for a range of one region; that a process may mmap it is
// in no released kernel (7.3: EINVAL; the series that adds it is not merged). So both are tried once on a device that is open anyway, and never assumed.

import type { Address, Region } from "../broker/device.js";
import { granted, type Outcome } from "../broker/refusal.js";
import type { OwnedDescriptor } from "../descriptor.js";
import type { BlockingQueue, Native } from "../native.js";
import type { CapabilityTable } from "./capability-table.js";
import { failedCall, text } from "./failed-call.js";
import type { Holding } from "./holding.js";

/** linux/vfio.h: VFIO_DEVICE_FEATURE_DMA_BUF. */
const FEATURE_DMA_BUF = 11;

/** Ranges must be whole pages; the largest page of a kernel that has VFIO is 64 KiB, on arm64. */
const PAGE = process.arch === "x64" ? 4096n : 65536n;

/** True when the region's mappable part is one range from 0, so that one dma-buf can stand for it with the region's own offsets. */
function isOneRange(region: Region): boolean {
  const [area] = region.areas;
  return region.kind === "BAR" && region.areas.length === 1 && area !== undefined && area.offset === 0n && area.size % PAGE === 0n;
}

/** Asks the kernel for both capabilities through an open device; does nothing once the answer is known. */
export async function probeDmaBuf(
  native: Pick<Native, "mapRegion">,
  queue: BlockingQueue,
  device: number,
  address: Address,
  regions: readonly Region[],
  capabilities: CapabilityTable,
): Promise<void> {
  if (capabilities.get("dma_buf_export") !== "UNKNOWN") return;
  const feature = await queue.featureProbe(device, FEATURE_DMA_BUF, "get", address);
  if (feature.error !== null) {
    capabilities.set("dma_buf_export", "UNKNOWN", text(feature.error));
    return;
  }
  if (!feature.value) {
    const detail = `VFIO_DEVICE_FEATURE probe of DMA_BUF on ${address}: ENOTTY, neither this kernel nor this driver has it`;
    capabilities.set("dma_buf_export", "UNAVAILABLE", detail);
    capabilities.set("dma_buf_mmap", "UNAVAILABLE", detail);
    return;
  }
  const candidates = regions.filter(isOneRange).sort((a, b) => (a.backedSize < b.backedSize ? -1 : 1));
  for (const region of candidates) {
    const subject = `${address} region ${region.index}`;
    const buffer = await queue.dmaBufExport(device, region.index, 0n, region.backedSize, subject);
    // ENODEV is the region's, not the kernel's: one without a real BAR behind it cannot be exported (7.3 nvgrace usemem). Try the next.
    if (buffer.error !== null) {
      capabilities.set("dma_buf_export", "UNKNOWN", `the kernel has the feature, but ${text(buffer.error)}`);
      continue;
    }
    capabilities.set("dma_buf_export", "AVAILABLE", `exported ${subject}`);
    const mapping = await native.mapRegion(buffer.value, 0n, region.backedSize, [{ offset: 0n, size: region.backedSize }], false, subject);
    if (mapping.error === null) {
      await mapping.value.close();
      capabilities.set("dma_buf_mmap", "AVAILABLE", `mapped the dma-buf of ${subject}`);
    } else {
      capabilities.set("dma_buf_mmap", "UNAVAILABLE", text(mapping.error));
    }
    await queue.close(buffer.value);
    return;
  }
}

/** One descriptor for the backed range of each region, or the refusal of the first that the kernel does not export. */
export async function exportRegions(
  queue: BlockingQueue,
  holding: Holding,
  device: number,
  address: Address,
  regions: readonly Region[],
): Promise<Outcome<readonly OwnedDescriptor[]>> {
  const exported: OwnedDescriptor[] = [];
  for (const region of regions) {
    const subject = `${address} region ${region.index}`;
    if (!isOneRange(region)) {
      const message = `${subject} is not one mappable range`;
      return { value: null, refusal: { reason: "REGION_SCOPE_UNAVAILABLE", message, metadata: { address } } };
    }
    const buffer = await queue.dmaBufExport(device, region.index, 0n, region.backedSize, subject);
    if (buffer.error !== null) return { value: null, refusal: failedCall(buffer.error, address) };
    exported.push(holding.own(buffer.value, `dma-buf of ${subject}`, address));
  }
  return granted(exported);
}
