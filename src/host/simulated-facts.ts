// What the simulated devices say of themselves besides their regions: values as real devices of their kind have them, marked as simulated where a source is named.

import type {
  AddressTranslation,
  DriverCandidate,
  Interrupt,
  IommuHardware,
  Link,
  LowPower,
  Migration,
  Msix,
  Names,
} from "../broker/facts.js";

export interface SimulatedFacts {
  readonly revisionId: number;
  readonly subsystem: { readonly vendorId: number; readonly deviceId: number };
  readonly names: Names;
  readonly driverCandidates: readonly DriverCandidate[];
  readonly link: Link | null;
  /** Of a physical function; null for what is none. */
  readonly totalVfs: number | null;
  readonly vfIndex: number | null;
  readonly interrupts: readonly Interrupt[];
  readonly msix: Msix | null;
  readonly migration: Migration | null;
  readonly lowPower: LowPower;
  readonly addressTranslation: AddressTranslation | null;
  readonly iommuHardware: IommuHardware | null;
}

const SOURCE = "simulated";

const GENERIC: DriverCandidate = {
  ...{ driver: "vfio-pci", module: "vfio_pci", kind: "VFIO_GENERIC", source: "MODULES_ALIAS" },
  alias: "vfio_pci:v*d*sv*sd*bc*sc*i*",
};

/** alias: as `modinfo` shows it for the kernel's own table. */
function candidate(driver: string, kind: "VFIO_VARIANT" | "HOST", alias: string): DriverCandidate {
  return { driver, module: driver.replaceAll("-", "_"), kind, source: "MODULES_ALIAS", alias };
}

function link(speedMts: number, width: number): Link {
  return { currentSpeedMts: speedMts, currentWidth: width, maxSpeedMts: speedMts, maxWidth: width };
}

/** linux/vfio.h VFIO_IRQ_INFO_*, as vfio_pci_core.c sets them. */
const PIN = { eventfd: true, maskable: true, automasked: true, noresize: false } as const;
const MESSAGE = { eventfd: true, maskable: false, automasked: false, noresize: true } as const;
/** MSI-X vectors can be set up one by one since 6.4. */
const MESSAGE_EXTENDED = { ...MESSAGE, noresize: false } as const;

/** Those of a PCI Express function; 0 leaves one out. */
function interrupts(pin: 0 | 1, msi: number, msix: number): readonly Interrupt[] {
  const all: readonly Interrupt[] = [
    { index: 0, kind: "INTX", count: pin, ...PIN },
    { index: 1, kind: "MSI", count: msi, ...MESSAGE },
    { index: 2, kind: "MSIX", count: msix, ...MESSAGE_EXTENDED },
    { index: 3, kind: "ERROR", count: 1, ...MESSAGE },
    { index: 4, kind: "REQUEST", count: 1, ...MESSAGE },
  ];
  return all.filter(({ count }) => count > 0);
}

function msix(vectors: number, bar: number, table: bigint, pending: bigint): Msix {
  return {
    vectors,
    table: { bar, offset: table, size: BigInt(vectors) * 16n },
    pending: { bar, offset: pending, size: BigInt(Math.ceil(vectors / 64)) * 8n },
  };
}

const NO_TRANSLATION: AddressTranslation = { ats: false, pri: false, pasid: false, pasidBits: null };

/** Nothing that another device has not: what most of them say. */
const COMMON = {
  revisionId: 0,
  totalVfs: null,
  vfIndex: null,
  msix: null,
  migration: null,
  lowPower: { entry: true, entryWithWakeup: true, exit: true },
  addressTranslation: NO_TRANSLATION,
  iommuHardware: null,
} as const;

const NO_NAMES: Names = {
  ...{ baseClass: "", subclass: "", programmingInterface: "", vendor: "", device: "", subsystemVendor: "", subsystem: "" },
  source: SOURCE,
};
const DISPLAY = { ...NO_NAMES, baseClass: "Display controller" } as const;
const NETWORK = { ...NO_NAMES, baseClass: "Network controller", subclass: "Ethernet controller", vendor: "Intel Corporation" } as const;

export const NVME_DRIVE: SimulatedFacts = {
  ...COMMON,
  subsystem: { vendorId: 0x144d, deviceId: 0xa801 },
  names: {
    ...NO_NAMES,
    ...{ baseClass: "Mass storage controller", subclass: "Non-Volatile memory controller", programmingInterface: "NVM Express" },
    ...{ vendor: "Samsung Electronics Co Ltd", device: "NVMe SSD Controller PM9A1/PM9A3/980PRO" },
  },
  driverCandidates: [GENERIC, candidate("nvme", "HOST", "pci:v*d*sv*sd*bc01sc08i02*")],
  link: link(16_000, 4),
  interrupts: interrupts(1, 32, 130),
  msix: msix(130, 0, 0x3000n, 0x2000n),
};

/** Sits in the root complex: no link of its own. */
export const INTEGRATED_GPU: SimulatedFacts = {
  ...COMMON,
  revisionId: 0x0c,
  subsystem: { vendorId: 0x8086, deviceId: 0x2212 },
  names: { ...DISPLAY, subclass: "VGA compatible controller", vendor: "Intel Corporation", device: "AlderLake-S GT1" },
  driverCandidates: [GENERIC, candidate("i915", "HOST", "pci:v00008086d00004680sv*sd*bc03sc*i*")],
  link: null,
  interrupts: interrupts(1, 1, 0),
};

export const GEFORCE: SimulatedFacts = {
  ...COMMON,
  revisionId: 0xa1,
  subsystem: { vendorId: 0x10de, deviceId: 0x1454 },
  names: { ...DISPLAY, subclass: "VGA compatible controller", vendor: "NVIDIA Corporation", device: "GA102 [GeForce RTX 3090]" },
  driverCandidates: [GENERIC, candidate("nouveau", "HOST", "pci:v000010DEd*sv*sd*bc03sc*i*")],
  // Idle: it has slowed its link down.
  link: { ...link(16_000, 16), currentSpeedMts: 2500 },
  interrupts: interrupts(1, 1, 0),
};

export const AUDIO: SimulatedFacts = {
  ...COMMON,
  revisionId: 0xa1,
  subsystem: { vendorId: 0x10de, deviceId: 0x1454 },
  names: {
    ...NO_NAMES,
    ...{ baseClass: "Multimedia controller", subclass: "Audio device", vendor: "NVIDIA Corporation" },
    device: "GA102 High Definition Audio Controller",
  },
  driverCandidates: [GENERIC, candidate("snd_hda_intel", "HOST", "pci:v000010DEd*sv*sd*bc04sc03i00*")],
  link: GEFORCE.link,
  interrupts: interrupts(1, 1, 0),
};

export const NIC_PF: SimulatedFacts = {
  ...COMMON,
  revisionId: 2,
  subsystem: { vendorId: 0x8086, deviceId: 0x0001 },
  names: { ...NETWORK, device: "Ethernet Controller E810-C for QSFP" },
  driverCandidates: [GENERIC, candidate("ice", "HOST", "pci:v00008086d00001592sv*sd*bc*sc*i*")],
  link: link(16_000, 16),
  totalVfs: 128,
  interrupts: interrupts(1, 1, 512),
  msix: msix(512, 3, 0n, 0x8000n),
};

export const NIC_VF: SimulatedFacts = {
  ...COMMON,
  revisionId: 2,
  subsystem: { vendorId: 0x8086, deviceId: 0x0000 },
  names: { ...NETWORK, device: "Ethernet Adaptive Virtual Function" },
  driverCandidates: [GENERIC, candidate("iavf", "HOST", "pci:v00008086d00001889sv*sd*bc*sc*i*")],
  // A virtual function repeats what the link can, and says nothing of how it is.
  link: { ...link(16_000, 16), currentSpeedMts: null, currentWidth: null },
  interrupts: interrupts(0, 0, 17),
  msix: msix(17, 3, 0n, 0x2000n),
  migration: { stopCopy: true, peerToPeer: true, preCopy: false, dmaLogging: false },
};

/** The SMMU of a Grace: 48-bit addresses, 20-bit SubstreamIDs, range invalidation. */
const GRACE_SMMU: IommuHardware = {
  kind: "ARM_SMMUV3",
  rawKind: 2,
  dirtyTracking: false,
  pasidExecute: false,
  pasidPrivileged: false,
  pasidBits: 20,
  inputAddressBits: 48,
  iommuPasidBits: 20,
  ats: null,
  rangeInvalidation: true,
  vendorData: new Uint8Array(0),
};

const GRACE = {
  ...COMMON,
  revisionId: 0xa1,
  link: link(32_000, 16),
  interrupts: interrupts(1, 16, 9),
  msix: msix(9, 0, 0xb9_0000n, 0xba_0000n),
  addressTranslation: { ats: true, pri: false, pasid: true, pasidBits: 20 },
  iommuHardware: GRACE_SMMU,
} as const;

export const GH200: SimulatedFacts = {
  ...GRACE,
  subsystem: { vendorId: 0x10de, deviceId: 0x16eb },
  names: { ...DISPLAY, subclass: "3D controller", vendor: "NVIDIA Corporation", device: "GH100 [GH200 120GB / 480GB]" },
  driverCandidates: [candidate("nvgrace_gpu_vfio_pci", "VFIO_VARIANT", "vfio_pci:v000010DEd00002342sv*sd*bc*sc*i*"), GENERIC],
};

export const GB200: SimulatedFacts = {
  ...GRACE,
  subsystem: { vendorId: 0x10de, deviceId: 0x2046 },
  names: { ...DISPLAY, subclass: "3D controller", vendor: "NVIDIA Corporation", device: "GB100 [HGX GB200]" },
  driverCandidates: [candidate("nvgrace_gpu_vfio_pci", "VFIO_VARIANT", "vfio_pci:v000010DEd00002941sv*sd*bc*sc*i*"), GENERIC],
};

export const ACCELERATOR: SimulatedFacts = {
  ...COMMON,
  subsystem: { vendorId: 0x1e98, deviceId: 0x0002 },
  names: { ...NO_NAMES, baseClass: "Processing accelerators", vendor: "CXL Consortium", device: "CXL type-2 accelerator (made up)" },
  driverCandidates: [GENERIC],
  link: link(32_000, 16),
  interrupts: interrupts(0, 0, 8),
  msix: msix(8, 0, 0x8000n, 0xc000n),
  addressTranslation: { ats: true, pri: true, pasid: true, pasidBits: 20 },
};
