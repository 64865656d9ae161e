// What a device is besides its regions. Each type is the message of the same name in proto/aperture/v1/facts.proto, where units, ranges and sources stand; null is "the
// kernel does not say".

import type { Address } from "./address.js";

/** Words of the PCI ID list; empty: it has none. */
export interface Names {
  readonly baseClass: string;
  readonly subclass: string;
  readonly programmingInterface: string;
  readonly vendor: string;
  readonly device: string;
  readonly subsystemVendor: string;
  readonly subsystem: string;
  /** The file that was read. */
  readonly source: string;
}

export interface DriverCandidate {
  /** As below /sys/bus/pci/drivers. */
  readonly driver: string;
  /** Empty when the source is REGISTERED. */
  readonly module: string;
  readonly kind: "VFIO_VARIANT" | "VFIO_GENERIC" | "HOST";
  readonly source: "MODULES_ALIAS" | "MODULES_BUILTIN" | "REGISTERED";
  /** Empty when the source is REGISTERED. */
  readonly alias: string;
}

export interface Link {
  /** Megatransfers per second and lane. */
  readonly currentSpeedMts: number | null;
  readonly currentWidth: number | null;
  readonly maxSpeedMts: number | null;
  readonly maxWidth: number | null;
}

export interface PciePlace {
  /** `pci0000:00`. */
  readonly root: string;
  /** Bridges and ports from the root to the device, outermost first. */
  readonly ports: readonly Address[];
  readonly link: Link | null;
}

export interface VirtualFunctions {
  readonly total: number;
  readonly addresses: readonly Address[];
}

/** What one hot reset takes down together, with the device itself. */
export interface ResetSet {
  readonly addresses: readonly Address[];
  readonly source: "KERNEL" | "TOPOLOGY";
}

export interface Interrupt {
  readonly index: number;
  readonly kind: "INTX" | "MSI" | "MSIX" | "ERROR" | "REQUEST" | "UNSPECIFIED";
  readonly count: number;
  readonly eventfd: boolean;
  readonly maskable: boolean;
  readonly automasked: boolean;
  readonly noresize: boolean;
}

export interface MsixPart {
  readonly bar: number;
  readonly offset: bigint;
  readonly size: bigint;
}

export interface Msix {
  readonly vectors: number;
  readonly table: MsixPart;
  readonly pending: MsixPart;
}

export interface DmaBufExport {
  readonly supported: boolean;
  /** Regions whose export was tried and succeeded. */
  readonly regions: readonly number[];
}

export interface Migration {
  readonly stopCopy: boolean;
  readonly peerToPeer: boolean;
  readonly preCopy: boolean;
  readonly dmaLogging: boolean;
}

export interface LowPower {
  readonly entry: boolean;
  readonly entryWithWakeup: boolean;
  readonly exit: boolean;
}

export interface AddressTranslation {
  readonly ats: boolean;
  readonly pri: boolean;
  readonly pasid: boolean;
  readonly pasidBits: number | null;
}

export interface IommuHardware {
  readonly kind: "UNSPECIFIED" | "INTEL_VTD" | "ARM_SMMUV3" | "TEGRA241_CMDQV" | "AMD";
  readonly rawKind: number;
  readonly dirtyTracking: boolean;
  readonly pasidExecute: boolean;
  readonly pasidPrivileged: boolean;
  readonly pasidBits: number | null;
  readonly inputAddressBits: number | null;
  readonly iommuPasidBits: number | null;
  readonly ats: boolean | null;
  readonly rangeInvalidation: boolean | null;
  readonly vendorData: Uint8Array;
}

/** Nodes of memory or processors that the kernel gives to nothing else than this device (ACPI SRAT generic initiators). */
export interface GenericInitiators {
  /** Ascending. */
  readonly nodes: readonly number[];
  /** How they were found, and by which rule they are this device's. */
  readonly source: string;
}

/** Memory of the host that its GPUs reach over their own link (nvgrace-egm). */
export interface ExtendedGpuMemory {
  /** egmN, below /dev and /sys/class/egm. */
  readonly name: string;
  /** Bytes. */
  readonly size: bigint | null;
  /** GPUs that share it, ordered, with the device itself. */
  readonly gpus: readonly Address[];
}

export interface NumaDistance {
  readonly node: number;
  readonly distance: number;
}

/** One NUMA node of the host. */
export interface NumaNode {
  readonly id: number;
  readonly hasCpus: boolean | null;
  readonly hasMemory: boolean | null;
  /** null: the kernel has no has_generic_initiator. */
  readonly genericInitiator: boolean | null;
  /** To every node that is online, itself included, ordered by node. Empty: not readable. */
  readonly distances: readonly NumaDistance[];
}
