// What a device is besides its regions. Units, ranges and sources of each field are those of the messages of the same name in proto/aperture/v1/facts.proto; null: the kernel
// does not say.

import type { DriverKind__Output } from "../generated/aperture/v1/DriverKind.js";
import type { DriverSource__Output } from "../generated/aperture/v1/DriverSource.js";
import type { InterruptKind__Output } from "../generated/aperture/v1/InterruptKind.js";
import type { IommuKind__Output } from "../generated/aperture/v1/IommuKind.js";
import type { Readiness__Output } from "../generated/aperture/v1/Readiness.js";
import type { ResetSetSource__Output } from "../generated/aperture/v1/ResetSetSource.js";
import type { Bare } from "./bare.js";

// A value that is newer than this library reads as UNSPECIFIED.
export type DriverKind = Bare<DriverKind__Output, "DRIVER_KIND_">;
export type DriverSource = Bare<DriverSource__Output, "DRIVER_SOURCE_">;
export type InterruptKind = Bare<InterruptKind__Output, "INTERRUPT_KIND_">;
export type IommuKind = Bare<IommuKind__Output, "IOMMU_KIND_">;
export type Readiness = Bare<Readiness__Output, "READINESS_">;
export type ResetSetSource = Bare<ResetSetSource__Output, "RESET_SET_SOURCE_">;

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

/** A driver that the running kernel has for the device. */
export interface DriverCandidate {
  /** For driver_override. */
  readonly driver: string;
  readonly module: string;
  readonly kind: DriverKind;
  readonly source: DriverSource;
  readonly alias: string;
}

/** As it was when the device appeared or was last bound. */
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
  readonly ports: readonly string[];
  readonly link: Link | null;
}

export interface VirtualFunctions {
  readonly total: number;
  readonly addresses: readonly string[];
}

/** What one hot reset takes down together. */
export interface ResetSet {
  readonly addresses: readonly string[];
  readonly source: ResetSetSource;
  /** The device has no reset of its own: all of these are locked by one lease. */
  readonly leasedTogether: boolean;
}

export interface Interrupt {
  readonly index: number;
  readonly kind: InterruptKind;
  readonly count: number;
  readonly eventfd: boolean;
  readonly maskable: boolean;
  readonly automasked: boolean;
  readonly noresize: boolean;
}

export interface MsixPart {
  readonly bar: number;
  /** Bytes from the start of the BAR. */
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
  readonly kind: IommuKind;
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

/** NUMA nodes of the host that stand for the device. */
export interface GenericInitiators {
  readonly nodes: readonly number[];
  /** How they were found, and by which rule they are this device's. */
  readonly source: string;
}

/** Memory of the host that the GPUs of one socket reach as their own. */
export interface ExtendedGpuMemory {
  /** `egm4` */
  readonly name: string;
  /** Bytes. */
  readonly size: bigint | null;
  readonly gpus: readonly string[];
}

/** One NUMA node of the host. */
export interface NumaNode {
  readonly id: number;
  readonly hasCpus: boolean | null;
  readonly hasMemory: boolean | null;
  readonly genericInitiator: boolean | null;
  /** To every node that is online, itself included; 10 is local. Empty: not readable. */
  readonly distances: readonly { readonly node: number; readonly distance: number }[];
}

/** What Device (model.ts) has of these. */
export interface DeviceFacts {
  readonly revisionId: number | null;
  readonly subsystemVendorId: number | null;
  readonly subsystemDeviceId: number | null;
  readonly names: Names | null;
  /** Empty: not set. */
  readonly driverOverride: string;
  /** VFIO variants, vfio-pci, the host's own; the closest match of each kind first. */
  readonly driverCandidates: readonly DriverCandidate[];
  readonly place: PciePlace | null;
  /** Of a physical function. */
  readonly virtualFunctions: VirtualFunctions | null;
  /** Of a virtual function. */
  readonly vfIndex: number | null;
  /** null: it has none, or which are its cannot be known. */
  readonly genericInitiators: GenericInitiators | null;
  readonly extendedMemory: ExtendedGpuMemory | null;
  readonly resetSet: ResetSet | null;
  readonly interrupts: readonly Interrupt[];
  readonly msix: Msix | null;
  /** null: not probed. */
  readonly dmaBufExport: DmaBufExport | null;
  /** null: not probed, or its driver cannot migrate it. */
  readonly migration: Migration | null;
  /** null: not probed. */
  readonly lowPower: LowPower | null;
  readonly addressTranslation: AddressTranslation | null;
  /** null: not probed, or not through iommufd. */
  readonly iommuHardware: IommuHardware | null;
  /** UNSPECIFIED: not probed. */
  readonly readiness: Readiness;
  readonly readinessDetail: string;
}
