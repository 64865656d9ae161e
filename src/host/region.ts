// Regions as the driver reports them, checked: one place for the three hosts. Sizes are never computed: the padded size is vfio_region_info.size, the real one
// the end of the sparse-mmap areas (nvgrace rounds the padded size up before it rounds the real one down: the one does not follow from the other).

import type { Area, Region, RegionKind } from "../broker/device.js";
import { memoryTypeOf } from "../broker/memory-type.js";
import type { VfioArea, VfioRegionInfo } from "../native.js";

/** linux/vfio.h: VFIO_REGION_INFO_FLAG_* and VFIO_PCI_*_REGION_INDEX. */
export const RegionFlag = { read: 1, write: 2, mmap: 4 } as const;
export const RegionIndex = { lastBar: 5, rom: 6, config: 7, vga: 8 } as const;

/** The base address registers in config space: where the first is, bytes of each, how many. */
export const BAR_REGISTERS = { offset: 0x10, width: 4, count: 6 } as const;

export type Assembled = { readonly regions: readonly Region[]; readonly fault: null } | { readonly regions: null; readonly fault: string };

/** Type bits of a BAR as the driver shows them in config space (PCI Local Bus 3.0, § 6.2.5.1). */
interface BarBits {
  readonly prefetchable: boolean;
  readonly is64bit: boolean;
}

const NO_BITS: BarBits = { prefetchable: false, is64bit: false };

function barBits(registers: Uint8Array, bar: number): BarBits {
  const low = registers[bar * 4];
  // Bit 0 set: an I/O BAR, whose other bits mean something else.
  if (low === undefined || (low & 1) === 1) return NO_BITS;
  return { prefetchable: (low & 8) !== 0, is64bit: (low & 6) === 4 };
}

function kindOf(index: number): RegionKind {
  if (index <= RegionIndex.lastBar) return "BAR";
  if (index === RegionIndex.rom) return "ROM";
  if (index === RegionIndex.config) return "CONFIG";
  return index === RegionIndex.vga ? "VGA" : "DEVICE_SPECIFIC";
}

/** The non-empty areas in ascending order, or what is wrong with them. Empty ones are real: drivers send them and QEMU drops them too. */
function checkAreas(sparse: readonly VfioArea[], size: bigint): readonly Area[] | string {
  const areas = sparse
    .filter((area) => area.size > 0n)
    .map(({ offset, size }) => ({ offset, size }))
    .sort((a, b) => (a.offset < b.offset ? -1 : a.offset > b.offset ? 1 : 0));
  let end = 0n;
  for (const area of areas) {
    const range = `area 0x${area.offset.toString(16)}+0x${area.size.toString(16)}`;
    if (area.offset < end) return `${range} overlaps the one before it`;
    end = area.offset + area.size;
    if (end > size) return `${range} ends beyond the region's size 0x${size.toString(16)}`;
  }
  return areas;
}

/**
 * Makes regions of what the driver said of each index. registers: the six BAR registers from config space, empty when there is no config region.
 * Regions of size 0 are not implemented and left out (also the upper half of a 64-bit BAR).
 */
export function assembleRegions(infos: readonly VfioRegionInfo[], registers: Uint8Array, driver: string): Assembled {
  const regions: Region[] = [];
  for (const info of infos) {
    if (info.size === 0n) continue;
    const kind = kindOf(info.index);
    const mayMap = (info.flags & RegionFlag.mmap) !== 0;
    const checked = info.sparse === null ? [{ offset: 0n, size: info.size }] : checkAreas(info.sparse, info.size);
    if (typeof checked === "string") return { regions: null, fault: `region ${info.index}: ${checked}` };
    const last = info.sparse === null ? undefined : checked.at(-1);
    const areas = mayMap ? checked : [];
    const mappable = areas.length > 0;
    const memory =
      kind === "BAR" && mappable
        ? memoryTypeOf(driver, info.index, info.sparse !== null)
        : ({ memoryType: "UNSPECIFIED", source: mappable ? "the memory-type table has rows for BARs only" : "not mappable" } as const);
    regions.push({
      index: info.index,
      bar: kind === "BAR" ? info.index : null,
      kind,
      size: info.size,
      backedSize: last === undefined ? info.size : last.offset + last.size,
      areas,
      memoryType: memory.memoryType,
      memoryTypeSource: memory.source,
      ...(kind === "BAR" ? barBits(registers, info.index) : NO_BITS),
      readable: (info.flags & RegionFlag.read) !== 0,
      writable: (info.flags & RegionFlag.write) !== 0,
      mappable,
      offset: info.offset,
      type: kind === "DEVICE_SPECIFIC" ? info.type : null,
    });
  }
  return { regions: regions.sort((a, b) => a.index - b.index), fault: null };
}
