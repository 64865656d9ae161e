// The devices of the simulated host: shapes of real ones, so that a newcomer without VFIO hardware sees what the daemon is about, including two devices that cannot be leased
// and why. Sizes of the NVIDIA apertures are what nvgrace_gpu_vfio_pci computes (drivers/vfio/pci/nvgrace-gpu/main.c nvgrace_gpu_init_nvdev_struct).

import { type Address, parseAddress } from "../broker/device.js";
import type { VfioArea } from "../native.js";
import { RegionFlag, RegionIndex } from "./region.js";

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

function bar(index: number, size: bigint, barBits: number): SimulatedRegion {
  return { index, size, backedSize: size, sparse: null, flags: ALL, barBits };
}

/** An aperture of nvgrace: one sparse area from 0 to the real length, behind a padded BAR. */
function aperture(index: number, size: bigint, backedSize: bigint): SimulatedRegion {
  return { index, size, backedSize, sparse: [{ offset: 0n, size: backedSize }], flags: ALL, barBits: BAR_64_PREFETCHABLE };
}

const CONFIG: SimulatedRegion = {
  index: RegionIndex.config,
  size: 4n * KIB,
  backedSize: 4n * KIB,
  sparse: null,
  flags: RegionFlag.read | RegionFlag.write,
  barBits: 0,
};

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

const NIC = at("0000:41:00.0");

const VFIO = { driver: "vfio-pci", vfioBound: true, physicalFunction: null } as const;
const NVGRACE = { ...VFIO, vendorId: 0x10de, classCode: 0x030200, driver: "nvgrace_gpu_vfio_pci", resetMethods: ["flr", "bus"] } as const;
const NVME = { vendorId: 0x144d, deviceId: 0xa80a, classCode: 0x010802, numaNode: 0, physicalFunction: null } as const;
const VF = {
  ...VFIO,
  vendorId: 0x8086,
  deviceId: 0x1889,
  classCode: 0x020000,
  resetMethods: ["flr"],
  numaNode: 0,
  physicalFunction: NIC,
} as const;

export const SIMULATED_DEVICES: readonly SimulatedDevice[] = [
  // The machine's own drive: bound to its own driver, and so not leasable.
  { ...NVME, address: at("0000:01:00.0"), driver: "nvme", vfioBound: false, group: 10, resetMethods: ["flr", "bus"], regions: [] },
  { ...NVME, ...VFIO, address: at("0000:02:00.0"), group: 11, resetMethods: ["flr", "bus"], regions: NVME_REGIONS },
  // Two functions of one card in one IOMMU group; the second one's driver keeps the first from VFIO.
  {
    ...VFIO,
    address: at("0000:31:00.0"),
    vendorId: 0x10de,
    deviceId: 0x2204,
    classCode: 0x030200,
    group: 12,
    resetMethods: ["bus"],
    numaNode: 0,
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
    resetMethods: ["bus"],
    numaNode: 0,
    physicalFunction: null,
    regions: [],
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
    regions: [],
  },
  { ...VF, address: at("0000:41:01.0"), group: 14, regions: VF_REGIONS },
  { ...VF, address: at("0000:41:01.1"), group: 15, regions: VF_REGIONS },
  { ...NVGRACE, address: at("0009:01:00.0"), deviceId: 0x2342, group: 16, numaNode: 1, regions: GH200_REGIONS },
  { ...NVGRACE, address: at("0019:01:00.0"), deviceId: 0x2941, group: 17, numaNode: 1, regions: GB200_REGIONS },
];

/** The 4 KiB of config space of a device: ids, class, header type 0 and the BARs' type bits, where the PCI specification puts them. */
export function configSpace(device: SimulatedDevice): Uint8Array {
  const bytes = new Uint8Array(Number(CONFIG.size));
  const view = new DataView(bytes.buffer);
  view.setUint16(0x00, device.vendorId, true);
  view.setUint16(0x02, device.deviceId, true);
  // Revision in the low byte, class code in the other three.
  view.setUint32(0x08, device.classCode << 8, true);
  for (const region of device.regions) {
    if (region.index <= RegionIndex.lastBar) view.setUint32(0x10 + 4 * region.index, region.barBits, true);
  }
  return bytes;
}
