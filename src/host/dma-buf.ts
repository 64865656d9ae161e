// Region-scoped descriptors on a real kernel: VFIO_DEVICE_FEATURE_DMA_BUF (6.19) gives a descriptor for a range of one region; that a process may mmap it is
// in no released kernel (7.3: EINVAL; the series that adds it is not merged). So both are tried once on a device that is open anyway, and never assumed.

import type { Address, Region } from "../broker/device.js";
import type { DmaBufExport } from "../broker/facts.js";
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

/** Asks what of an open device can be exported, and settles by it what the kernel can: one device that can is enough. */
export async function probeDmaBuf(
  native: Pick<Native, "mapRegion">,
  queue: BlockingQueue,
  device: number,
  address: Address,
  regions: readonly Region[],
  capabilities: CapabilityTable,
): Promise<DmaBufExport> {
  const settle = (availability: "UNKNOWN" | "UNAVAILABLE", detail: string): void => {
    if (capabilities.get("dma_buf_export") !== "AVAILABLE") capabilities.set("dma_buf_export", availability, detail);
    if (capabilities.get("dma_buf_mmap") === "UNKNOWN" && availability === "UNAVAILABLE")
      capabilities.set("dma_buf_mmap", availability, detail);
  };
  const feature = await queue.featureProbe(device, FEATURE_DMA_BUF, "get", address);
  if (feature.error !== null) {
    settle("UNKNOWN", text(feature.error));
    return { supported: false, regions: [] };
  }
  if (!feature.value) {
    settle("UNAVAILABLE", `VFIO_DEVICE_FEATURE probe of DMA_BUF on ${address}: ENOTTY, neither this kernel nor this driver has it`);
    return { supported: false, regions: [] };
  }
  const exported: number[] = [];
  // The smallest first: the one that is mapped to see whether that works.
  for (const region of regions.filter(isOneRange).sort((a, b) => (a.backedSize < b.backedSize ? -1 : 1))) {
    const subject = `${address} region ${region.index}`;
    const buffer = await queue.dmaBufExport(device, region.index, 0n, region.backedSize, subject);
    // ENODEV is the region's, not the kernel's: one without a real BAR behind it cannot be exported (7.3 nvgrace usemem).
    if (buffer.error !== null) {
      settle("UNKNOWN", `the kernel has the feature, but ${text(buffer.error)}`);
      continue;
    }
    exported.push(region.index);
    if (capabilities.get("dma_buf_export") !== "AVAILABLE") capabilities.set("dma_buf_export", "AVAILABLE", `exported ${subject}`);
    if (exported.length === 1 && capabilities.get("dma_buf_mmap") !== "AVAILABLE") {
      await probeMmap(native, buffer.value, region.backedSize, subject, capabilities);
    }
    await queue.close(buffer.value);
  }
  return { supported: true, regions: exported.sort((a, b) => a - b) };
}

async function probeMmap(
  native: Pick<Native, "mapRegion">,
  buffer: number,
  size: bigint,
  subject: string,
  capabilities: CapabilityTable,
): Promise<void> {
  const mapping = await native.mapRegion(buffer, 0n, size, [{ offset: 0n, size }], false, subject);
  if (mapping.error === null) {
    await mapping.value.close();
    capabilities.set("dma_buf_mmap", "AVAILABLE", `mapped the dma-buf of ${subject}`);
  } else {
    capabilities.set("dma_buf_mmap", "UNAVAILABLE", text(mapping.error));
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
