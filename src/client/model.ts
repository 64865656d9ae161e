// What callers see: plain objects, bigint for every 64-bit number, enum values without their protobuf prefix, null for what is absent. Sources and
// units of each field are those of the messages of the same name in proto/aperture/v1.

import type { Availability__Output } from "../generated/aperture/v1/Availability.js";
import type { Backend__Output } from "../generated/aperture/v1/Backend.js";
import type { DescriptorKind__Output } from "../generated/aperture/v1/DescriptorKind.js";
import type { DeviceEventKind__Output } from "../generated/aperture/v1/DeviceEventKind.js";
import type { DeviceState__Output } from "../generated/aperture/v1/DeviceState.js";
import type { EndCause__Output } from "../generated/aperture/v1/EndCause.js";
import type { LeaseEventKind__Output } from "../generated/aperture/v1/LeaseEventKind.js";
import type { LeaseKind__Output } from "../generated/aperture/v1/LeaseKind.js";
import type { LeaseMode__Output } from "../generated/aperture/v1/LeaseMode.js";
import type { LeaseState__Output } from "../generated/aperture/v1/LeaseState.js";
import type { MemoryType__Output } from "../generated/aperture/v1/MemoryType.js";
import type { RegionKind__Output } from "../generated/aperture/v1/RegionKind.js";
import type { Scope__Output } from "../generated/aperture/v1/Scope.js";
import type { Bare } from "./bare.js";
import type { DeviceFacts, NumaNode } from "./facts.js";

// A value that is newer than this library reads as UNSPECIFIED.
export type Backend = Bare<Backend__Output, "BACKEND_">;
export type DeviceState = Bare<DeviceState__Output, "DEVICE_STATE_">;
export type RegionKind = Bare<RegionKind__Output, "REGION_KIND_">;
export type MemoryType = Bare<MemoryType__Output, "MEMORY_TYPE_">;
export type LeaseEventKind = Bare<LeaseEventKind__Output, "LEASE_EVENT_KIND_">;
export type LeaseKind = Bare<LeaseKind__Output, "LEASE_KIND_">;
export type LeaseMode = Bare<LeaseMode__Output, "LEASE_MODE_">;
export type LeaseState = Bare<LeaseState__Output, "LEASE_STATE_">;
export type DescriptorKind = Bare<DescriptorKind__Output, "DESCRIPTOR_KIND_">;
export type Scope = Bare<Scope__Output, "SCOPE_">;
export type EndCause = Bare<EndCause__Output, "END_CAUSE_">;
export type Availability = Bare<Availability__Output, "AVAILABILITY_">;
export type DeviceEventKind = Bare<DeviceEventKind__Output, "DEVICE_EVENT_KIND_">;

/** One range of a region that the driver lets a process map; bytes from the start of the region. */
export interface Area {
  readonly offset: bigint;
  readonly size: bigint;
}

/** One VFIO region as its driver reports it. */
export interface Region {
  readonly index: number;
  /** null: the region is no BAR. */
  readonly bar: number | null;
  readonly kind: RegionKind;
  /** Bytes: the padded, BAR-shaped size (vfio_region_info.size). */
  readonly size: bigint;
  /** Bytes from 0 to the end of the last backed area; size - backedSize is the tail: reads give 0xFF, writes are dropped. */
  readonly backedSize: bigint;
  readonly areas: readonly Area[];
  /** The broker's own table by driver and region, because no VFIO interface reports it. */
  readonly memoryType: MemoryType;
  /** Kernel file and function behind memoryType, or why it is unspecified. */
  readonly memoryTypeSource: string;
  readonly prefetchable: boolean;
  readonly is64bit: boolean;
  readonly readable: boolean;
  readonly writable: boolean;
  readonly mappable: boolean;
  /** Bytes: where the region lies in a device descriptor (vfio_region_info.offset). */
  readonly offset: bigint;
  /** Device-specific regions only (VFIO_REGION_INFO_CAP_TYPE). */
  readonly type: { readonly type: number; readonly subtype: number } | null;
}

export interface GroupMember {
  readonly address: string;
  /** Empty: none bound. */
  readonly driver: string;
  /** It keeps the group from being used through VFIO. */
  readonly spoils: boolean;
}

export interface IommuGroup {
  readonly id: number;
  readonly members: readonly GroupMember[];
  readonly viable: boolean;
  /** Members that are no PCI functions and keep the group from VFIO. */
  readonly otherSpoilers: readonly string[];
}

export interface IneligibleReason {
  /** Stable code of docs/REASONS.md. */
  readonly reason: string;
  /** What is in the way. */
  readonly message: string;
  /** What to do about it. */
  readonly next: string;
}

/** One PCI function; facts.ts has what it is besides its regions. */
export interface Device extends DeviceFacts {
  /** DOMAIN:BUS:DEVICE.FUNCTION, lower-case hexadecimal. */
  readonly address: string;
  readonly vendorId: number;
  readonly deviceId: number;
  /** 24 bits: base class, subclass, programming interface. */
  readonly classCode: number;
  /** Empty: none bound. */
  readonly driver: string;
  readonly iommuGroup: IommuGroup | null;
  /** The kernel's order of preference. */
  readonly resetMethods: readonly string[];
  /** VFIO_DEVICE_FLAGS_RESET; null: not probed. */
  readonly resetSupported: boolean | null;
  readonly numaNode: number | null;
  readonly regions: readonly Region[];
  readonly state: DeviceState;
  readonly stateDetail: string;
  /** Empty: it can be leased. Each entry is sufficient alone. */
  readonly ineligibleReasons: readonly IneligibleReason[];
  readonly backends: readonly Backend[];
  /** Of an SR-IOV virtual function; else null. */
  readonly physicalFunction: string | null;
  /** Those that the operator declares and that name it: a lease of one member keeps all others from everybody else. */
  readonly peerSets: readonly PeerSet[];
  /** Grows by one with every change of this device. */
  readonly generation: bigint;
}

/** Devices that belong together by a tie that the kernel does not tell. */
export interface PeerSet {
  readonly name: string;
  /** Some may not be in the machine. */
  readonly addresses: readonly string[];
}

/** Fields are combined with AND; an absent one selects all. */
export interface DeviceFilter {
  /** At most 64. */
  readonly addresses?: readonly string[];
  readonly vendorId?: number;
  readonly deviceId?: number;
  /** Only what could be leased now by somebody; not for watch. */
  readonly leasableOnly?: boolean;
}

/** One step of a watch. */
export interface DeviceEvent {
  readonly kind: DeviceEventKind;
  /** null for SYNCED. */
  readonly device: Device | null;
  /** Inventory revision after the batch that brought this event. */
  readonly revision: bigint;
}

/** What one descriptor of a lease is and what it is worth. */
export interface DescriptorInfo {
  readonly kind: DescriptorKind;
  readonly scope: Scope;
  /** null for IOMMUFD, CONTAINER and GROUP. */
  readonly address: string | null;
  /** REGION only. */
  readonly region: number | null;
  /** GROUP only. */
  readonly group: number | null;
  /** Bytes: where the region starts in the descriptor. */
  readonly offset: bigint;
  /** Bytes of the region, padded; 0 for what is no REGION. */
  readonly size: bigint;
}

export interface LeasedDevice {
  readonly address: string;
  readonly regions: readonly Region[];
  /**
   * 16 bytes: what VFIO_DEVICE_BIND_IOMMUFD of this device wants to be shown (VFIO_DEVICE_BIND_FLAG_TOKEN); HeldLease.bind does. Only the process that holds the lease is told; left out
   * where the kernel wants none. A secret: not for logs.
   */
  readonly vfToken?: Uint8Array;
}

/** A lease as the daemon's book has it. */
export interface Lease {
  readonly id: string;
  readonly kind: LeaseKind;
  readonly mode: LeaseMode;
  readonly state: LeaseState;
  readonly devices: readonly LeasedDevice[];
  readonly descriptors: readonly DescriptorInfo[];
  readonly backend: Backend;
  /** As the daemon's pid namespace numbers it. */
  readonly holderPid: number;
  readonly holderUid: number;
  readonly createTime: Date | null;
  readonly ackDeadline: Date | null;
  readonly endTime: Date | null;
  readonly endCause: EndCause;
  /** Devices that did not come free when it ended. */
  readonly quarantined: readonly string[];
  /** User that acquired it, whose quota is charged. */
  readonly ownerUid: number;
  /** When the daemon asks for it back; null: no end is set. */
  readonly expireTime: Date | null;
  /** Set while a ticket is out for it. */
  readonly ticketExpireTime: Date | null;
  /** Set once the daemon has asked for it back. */
  readonly recall: LeaseRecall | null;
  /** Name of the policy rule that allowed it; empty when several did. */
  readonly policyRule: string;
}

/** The daemon has asked for a lease back. */
export interface LeaseRecall {
  readonly cause: EndCause;
  /** When the daemon ends it by itself. */
  readonly deadline: Date | null;
}

/** One step of a watch of leases. */
export interface LeaseEvent {
  readonly kind: LeaseEventKind;
  /** null for SYNCED. */
  readonly lease: Lease | null;
}

export interface Capability {
  readonly name: string;
  readonly availability: Availability;
  /** How it was asked and what the kernel answered. */
  readonly detail: string;
}

export interface Limit {
  readonly name: string;
  readonly value: bigint;
  /** count, bytes or milliseconds. */
  readonly unit: string;
}

export interface HostInfo {
  readonly version: string;
  readonly kernelRelease: string;
  readonly backend: Backend;
  /** Everything shown is made of memory; nothing of it says anything of real hardware. */
  readonly simulated: boolean;
  readonly backendReason: string;
  readonly capabilities: readonly Capability[];
  readonly limits: readonly Limit[];
  /** UUID of this run of the daemon. */
  readonly instanceId: string;
  readonly startTime: Date | null;
  readonly channelPath: string;
  /** Ordered by number. */
  readonly numaNodes: readonly NumaNode[];
}
