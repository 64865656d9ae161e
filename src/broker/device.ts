// What the broker knows of a device and its regions: plain facts, as a host implementation reports them.

/** DOMAIN:BUS:DEVICE.FUNCTION, lower case, checked by parseAddress: the only form in which an address lives inside the daemon. */
export type Address = string & { readonly __brand: "Address" };

// Domains of more than 16 bits are real: VMD and some arm64 hosts number them from 0x10000.
const ADDRESS = /^[0-9a-f]{4,8}:[0-9a-f]{2}:[01][0-9a-f]\.[0-7]$/;

/** The address in text, or null when text is not one. Upper case is not accepted: sysfs never writes it. */
export function parseAddress(text: string): Address | null {
  return ADDRESS.test(text) ? (text as Address) : null;
}

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
  /** Changes whenever the device is bound anew: what was probed before no longer holds. */
  readonly bindKey: string;
}

/** What opening the device told: the result of one probe cycle. */
export interface DeviceProbe {
  readonly resetSupported: boolean;
  readonly regions: readonly Region[];
  /** Set when the driver says that the device's memory is not ready for use (ETIME, ENODEV on first access); words for people. */
  readonly notReady: string | null;
}
