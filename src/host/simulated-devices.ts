// The devices of the simulated host: shapes of real ones, so that a newcomer without VFIO hardware sees what the daemon is about, including two devices that cannot be leased
// and why. Sizes of the NVIDIA apertures are what nvgrace_gpu_vfio_pci computes (drivers/vfio/pci/nvgrace-gpu/main.c nvgrace_gpu_init_nvdev_struct).

import { type Address, type MemoryType, parseAddress } from "../broker/device.js";
import type { VfioArea } from "../native.js";
import { RegionFlag, RegionIndex } from "./region.js";
import {
  ACCELERATOR,
  AUDIO,
  GB200,
  GEFORCE,
  GH200,
  INTEGRATED_GPU,
  NIC_PF,
  NIC_VF,
  NVME_DRIVE,
  type SimulatedFacts,
} from "./simulated-facts.js";

export interface SimulatedRegion {
  readonly index: number;
  /** Padded size, as vfio_region_info.size. */
  readonly size: bigint;
  /** Bytes that have memory behind them: the file ends there. */
  readonly backedSize: bigint;
  /** As the sparse-mmap capability; null when the driver sends none. */
  readonly sparse: readonly VfioArea[] | null;
  readonly flags: number;
  /** Low bits of its base address register. */
  readonly barBits: number;
  /** As the type capability; device-specific regions only. */
  readonly type: { readonly type: number; readonly subtype: number } | null;
  /** What it is simulated as where the memory-type table has no row for it: no BAR, so far. */
  readonly memory: { readonly memoryType: MemoryType; readonly source: string } | null;
}

export interface SimulatedDevice {
  readonly address: Address;
  readonly vendorId: number;
  readonly deviceId: number;
  readonly classCode: number;
  readonly driver: string;
  readonly vfioBound: boolean;
  readonly group: number;
  readonly resetMethods: readonly string[];
  readonly numaNode: number | null;
  readonly physicalFunction: Address | null;
  /** Ports above it; none on the root bus. Devices below the same last port share a bus. */
  readonly ports: readonly Address[];
  readonly facts: SimulatedFacts;
  readonly regions: readonly SimulatedRegion[];
}

const KIB = 1024n;
const MIB = 1024n * KIB;
const GIB = 1024n * MIB;

/** Memory BAR type bits: 64-bit is 4, prefetchable 8 (PCI Local Bus 3.0, § 6.2.5.1). */
const BAR_64 = 4;
const BAR_64_PREFETCHABLE = 12;

const ALL = RegionFlag.read | RegionFlag.write | RegionFlag.mmap;

function at(text: string): Address {
  const address = parseAddress(text);
  if (address === null) throw new Error(`${text} is no PCI address`);
  return address;
}

const PLAIN = { sparse: null, barBits: 0, type: null, memory: null } as const;

function bar(index: number, size: bigint, barBits: number): SimulatedRegion {
  return { ...PLAIN, index, size, backedSize: size, flags: ALL, barBits };
}

/** A region that is read and written through its descriptor and not mapped. */
function accessed(index: number, size: bigint, flags: number, type: SimulatedRegion["type"] = null): SimulatedRegion {
  return { ...PLAIN, index, size, backedSize: size, flags, type };
}

/** An aperture of nvgrace: one sparse area from 0 to the real length, behind a padded BAR. */
function aperture(index: number, size: bigint, backedSize: bigint): SimulatedRegion {
  return { ...bar(index, size, BAR_64_PREFETCHABLE), backedSize, sparse: [{ offset: 0n, size: backedSize }] };
}

const READ_WRITE = RegionFlag.read | RegionFlag.write;
const CONFIG = accessed(RegionIndex.config, 4n * KIB, READ_WRITE);

/**
 * GH200 (has the MIG bug): with M = 96 GiB of GPU memory,
 *   usemem size = roundup_pow_of_two(M - 1 GiB) = roundup_pow_of_two(95 GiB) = 128 GiB,
 *   usemem real = round_down(M - 1 GiB, 512 MiB) = 95 GiB,
 *   resmem real = M - usemem real = 1 GiB, resmem size = roundup_pow_of_two(1 GiB) = 1 GiB.
 */
const GH200_REGIONS: readonly SimulatedRegion[] = [
  bar(0, 16n * MIB, BAR_64_PREFETCHABLE),
  aperture(2, 1n * GIB, 1n * GIB),
  aperture(4, 128n * GIB, 95n * GIB),
  CONFIG,
];

/**
 * GB200 (no MIG bug): all of M = 0x2F00F00000 is usemem, not rounded; no resmem;
 *   usemem size = roundup_pow_of_two(0x2F00F00000) = 0x4000000000 = 256 GiB.
 */
const GB200_REGIONS: readonly SimulatedRegion[] = [bar(0, 16n * MIB, BAR_64_PREFETCHABLE), aperture(4, 256n * GIB, 0x2f00f00000n), CONFIG];

const NVME_REGIONS: readonly SimulatedRegion[] = [bar(0, 16n * KIB, BAR_64), CONFIG];
const VF_REGIONS: readonly SimulatedRegion[] = [bar(0, 128n * KIB, BAR_64_PREFETCHABLE), bar(3, 16n * KIB, BAR_64_PREFETCHABLE), CONFIG];

/** An I/O BAR: bit 0 of its register is set, and it cannot be mapped. */
const IO_BAR: SimulatedRegion = { ...accessed(4, 64n, READ_WRITE), barBits: 1 };

/**
 * Intel graphics as vfio_pci_igd.c presents them: three regions of its own (type 1<<31 | 8086; subtypes 1 OpRegion, 2 host bridge config, 3 LPC config), a ROM, and
 * VGA (0xC0000 bytes: the legacy frame buffer and ports).
 */
const IGD_TYPE = 0x80008086;
const IGD_REGIONS: readonly SimulatedRegion[] = [
  bar(0, 16n * MIB, BAR_64),
  bar(2, 256n * MIB, BAR_64_PREFETCHABLE),
  IO_BAR,
  accessed(RegionIndex.rom, 128n * KIB, RegionFlag.read),
  CONFIG,
  accessed(RegionIndex.vga, 0xc0000n, READ_WRITE),
  accessed(9, 8n * KIB, RegionFlag.read, { type: IGD_TYPE, subtype: 1 }),
  accessed(10, 256n, RegionFlag.read, { type: IGD_TYPE, subtype: 2 }),
  accessed(11, 256n, RegionFlag.read, { type: IGD_TYPE, subtype: 3 }),
];

/**
 * What the proposed vfio-cxl shows (series of 2026, in no released kernel): memory of a type-2 accelerator as a device-specific region, no BAR, so nothing pads its size to a
 * power of two, and a shadow of its component registers that is read and written only.
 */
const CXL_TYPE = 0x80001e98;
const CXL_REGIONS: readonly SimulatedRegion[] = [
  bar(0, 64n * KIB, BAR_64),
  CONFIG,
  {
    ...bar(9, 24n * GIB, 0),
    type: { type: CXL_TYPE, subtype: 1 },
    memory: { memoryType: "WRITE_BACK", source: "coherent memory of a CXL device; no released kernel has a driver that shows one" },
  },
  accessed(10, 64n * KIB, READ_WRITE, { type: CXL_TYPE, subtype: 2 }),
];

const NIC = at("0000:41:00.0");

const VFIO = { driver: "vfio-pci", vfioBound: true, physicalFunction: null } as const;
const NVGRACE = { ...VFIO, vendorId: 0x10de, classCode: 0x030200, driver: "nvgrace_gpu_vfio_pci", resetMethods: ["flr", "bus"] } as const;
const NVME = {
  ...{ vendorId: 0x144d, deviceId: 0xa80a, classCode: 0x010802, numaNode: 0, physicalFunction: null, facts: NVME_DRIVE },
  resetMethods: ["flr", "bus"],
} as const;
const CARD = at("0000:00:03.0");
const NIC_PORT = at("0000:40:01.0");
const VF = {
  ...VFIO,
  vendorId: 0x8086,
  deviceId: 0x1889,
  classCode: 0x020000,
  resetMethods: ["flr"],
  numaNode: 0,
  physicalFunction: NIC,
  ports: [NIC_PORT],
} as const;

export const SIMULATED_DEVICES: readonly SimulatedDevice[] = [
  {
    ...VFIO,
    address: at("0000:00:02.0"),
    vendorId: 0x8086,
    deviceId: 0x4680,
    classCode: 0x030000,
    group: 2,
    resetMethods: ["flr"],
    numaNode: 0,
    ports: [],
    facts: INTEGRATED_GPU,
    regions: IGD_REGIONS,
  },
  // The machine's own drive: bound to its own driver, and so not leasable.
  { ...NVME, address: at("0000:01:00.0"), driver: "nvme", vfioBound: false, group: 10, ports: [at("0000:00:06.0")], regions: NVME_REGIONS },
  { ...NVME, ...VFIO, address: at("0000:02:00.0"), group: 11, ports: [at("0000:00:07.0")], regions: NVME_REGIONS },
  // Two functions of one card in one IOMMU group; the second one's driver keeps the first from VFIO. Neither has a reset of its own: only a reset of their bus clears them.
  {
    ...VFIO,
    address: at("0000:31:00.0"),
    vendorId: 0x10de,
    deviceId: 0x2204,
    classCode: 0x030200,
    group: 12,
    resetMethods: [],
    numaNode: 0,
    ports: [CARD],
    facts: GEFORCE,
    regions: [bar(0, 16n * MIB, 0), bar(1, 256n * MIB, BAR_64_PREFETCHABLE), CONFIG],
  },
  {
    address: at("0000:31:00.1"),
    vendorId: 0x10de,
    deviceId: 0x1aef,
    classCode: 0x040300,
    driver: "snd_hda_intel",
    vfioBound: false,
    group: 12,
    resetMethods: [],
    numaNode: 0,
    physicalFunction: null,
    ports: [CARD],
    facts: AUDIO,
    regions: [bar(0, 16n * KIB, 0), CONFIG],
  },
  {
    address: NIC,
    vendorId: 0x8086,
    deviceId: 0x1592,
    classCode: 0x020000,
    driver: "ice",
    vfioBound: false,
    group: 13,
    resetMethods: ["flr", "bus"],
    numaNode: 0,
    physicalFunction: null,
    ports: [NIC_PORT],
    facts: NIC_PF,
    regions: [bar(0, 32n * MIB, BAR_64_PREFETCHABLE), bar(3, 64n * KIB, BAR_64_PREFETCHABLE), CONFIG],
  },
  { ...VF, address: at("0000:41:01.0"), group: 14, facts: { ...NIC_VF, vfIndex: 0 }, regions: VF_REGIONS },
  { ...VF, address: at("0000:41:01.1"), group: 15, facts: { ...NIC_VF, vfIndex: 1 }, regions: VF_REGIONS },
  {
    ...VFIO,
    address: at("0000:c1:00.0"),
    vendorId: 0x1e98,
    deviceId: 0x0002,
    classCode: 0x120000,
    group: 18,
    resetMethods: ["cxl_bus", "flr"],
    numaNode: 1,
    ports: [at("0000:c0:01.0")],
    facts: ACCELERATOR,
    regions: CXL_REGIONS,
  },
  {
    ...{ ...NVGRACE, address: at("0009:01:00.0"), deviceId: 0x2342, group: 16, numaNode: 1, facts: GH200, regions: GH200_REGIONS },
    ports: [at("0009:00:00.0")],
  },
  {
    ...{ ...NVGRACE, address: at("0019:01:00.0"), deviceId: 0x2941, group: 17, numaNode: 1, facts: GB200, regions: GB200_REGIONS },
    ports: [at("0019:00:00.0")],
  },
];

/** The 4 KiB of config space of a device: ids, class, header type 0 and the BARs' type bits, where the PCI specification puts them. */
export function configSpace(device: SimulatedDevice): Uint8Array {
  const bytes = new Uint8Array(Number(CONFIG.size));
  const view = new DataView(bytes.buffer);
  view.setUint16(0x00, device.vendorId, true);
  view.setUint16(0x02, device.deviceId, true);
  // Revision in the low byte, class code in the other three.
  view.setUint32(0x08, ((device.classCode << 8) | device.facts.revisionId) >>> 0, true);
  view.setUint16(0x2c, device.facts.subsystem.vendorId, true);
  view.setUint16(0x2e, device.facts.subsystem.deviceId, true);
  for (const region of device.regions) {
    if (region.index <= RegionIndex.lastBar) view.setUint32(0x10 + 4 * region.index, region.barBits, true);
  }
  return bytes;
}
