// What the broker knows of a device and its regions: plain facts, as a host implementation reports them.

import type { Address } from "./address.js";
import type {
  AddressTranslation,
  DmaBufExport,
  DriverCandidate,
  ExtendedGpuMemory,
  GenericInitiators,
  Interrupt,
  IommuHardware,
  LowPower,
  Migration,
  Msix,
  Names,
  PciePlace,
  ResetSet,
  VirtualFunctions,
} from "./facts.js";

export { type Address, parseAddress } from "./address.js";

export type BackendName = "IOMMUFD" | "LEGACY" | "SIMULATED";
export type RegionKind = "BAR" | "ROM" | "CONFIG" | "VGA" | "DEVICE_SPECIFIC";
export type MemoryType = "UNSPECIFIED" | "WRITE_BACK" | "WRITE_COMBINE" | "DEVICE";

/** One range of a region that the driver lets a process map. Bytes from the start of the region. */
export interface Area {
  readonly offset: bigint;
  readonly size: bigint;
}

/** One region as its VFIO driver reports it; the fields are those of aperture.v1.Region. */
export interface Region {
  readonly index: number;
  readonly bar: number | null;
  readonly kind: RegionKind;
  readonly size: bigint;
  readonly backedSize: bigint;
  readonly areas: readonly Area[];
  readonly memoryType: MemoryType;
  readonly memoryTypeSource: string;
  readonly prefetchable: boolean;
  readonly is64bit: boolean;
  readonly readable: boolean;
  readonly writable: boolean;
  readonly mappable: boolean;
  readonly offset: bigint;
  readonly type: { readonly type: number; readonly subtype: number } | null;
}

export interface GroupMember {
  readonly address: Address;
  readonly driver: string;
  readonly spoils: boolean;
}

export interface IommuGroup {
  readonly id: number;
  readonly members: readonly GroupMember[];
  readonly viable: boolean;
  /** Members that are no PCI functions and whose driver keeps the group from VFIO: `arm-thing.0 (driver)`. */
  readonly otherSpoilers: readonly string[];
}

/** What a scan of the machine says of a device, without opening it. */
export interface DeviceFacts {
  readonly address: Address;
  readonly vendorId: number;
  readonly deviceId: number;
  readonly classCode: number;
  /** Empty when no driver is bound. */
  readonly driver: string;
  /** driver_override as set in sysfs; empty when not set, and while a VFIO driver has the device (then nobody needs it, and reading it takes the device's lock). */
  readonly driverOverride: string;
  readonly iommuGroup: IommuGroup | null;
  readonly resetMethods: readonly string[];
  readonly numaNode: number | null;
  readonly physicalFunction: Address | null;
  /** True when the bound driver is a VFIO driver, so that the device can be opened. */
  readonly vfioBound: boolean;
  /**
   * True while its VFIO driver is letting it go (unbind, hot-unplug) and waits until the last descriptor and mapping of it is closed. vfioBound is false then, and
   * driver still names the driver. The device, or its driver, is gone as soon as the wait is over.
   */
  readonly leaving: boolean;
  /** Changes whenever the device is bound anew: what was probed before no longer holds. */
  readonly bindKey: string;
  readonly revisionId: number | null;
  readonly subsystem: { readonly vendorId: number; readonly deviceId: number } | null;
  readonly names: Names | null;
  /** VFIO variants, vfio-pci, the host's own; within a kind the alias that says most first. */
  readonly driverCandidates: readonly DriverCandidate[];
  readonly place: PciePlace | null;
  /** Of a physical function. */
  readonly virtualFunctions: VirtualFunctions | null;
  /** Of a virtual function, among those of its physical one. */
  readonly vfIndex: number | null;
  /** null: it has none, or which ones are its cannot be known. */
  readonly genericInitiators: GenericInitiators | null;
  /** null: the host has none for it. */
  readonly extendedMemory: ExtendedGpuMemory | null;
  /** By topology; the probe knows it better. null: no hot reset can reach it. */
  readonly resetSet: ResetSet | null;
}

/** What opening the device told: the result of one probe cycle. */
export interface DeviceProbe {
  readonly resetSupported: boolean;
  readonly regions: readonly Region[];
  /** Set when the driver says that the device's memory is not ready for use (ETIME, ENODEV on first access); words for people. */
  readonly notReady: string | null;
  /** What was asked of its readiness and what came back, in words. */
  readonly readiness: string;
  /** null: no hot reset can reach it. */
  readonly resetSet: ResetSet | null;
  /** Those with at least one vector, ordered by index. */
  readonly interrupts: readonly Interrupt[];
  readonly msix: Msix | null;
  readonly dmaBufExport: DmaBufExport;
  /** null: its driver cannot migrate it. */
  readonly migration: Migration | null;
  readonly lowPower: LowPower;
  /** null: extended config space could not be read. */
  readonly addressTranslation: AddressTranslation | null;
  /** null: the back end cannot ask. */
  readonly iommuHardware: IommuHardware | null;
}
