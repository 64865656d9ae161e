// The edge between the generated message types and model.ts: strings of 64-bit numbers become bigint here, and nowhere else.

import type { Descriptor__Output } from "../generated/aperture/v1/Descriptor.js";
import type { Device__Output } from "../generated/aperture/v1/Device.js";
import type { GetHostInfoResponse__Output } from "../generated/aperture/v1/GetHostInfoResponse.js";
import type { Lease__Output } from "../generated/aperture/v1/Lease.js";
import type { Region__Output } from "../generated/aperture/v1/Region.js";
import type { WatchDevicesResponse__Output } from "../generated/aperture/v1/WatchDevicesResponse.js";
import type { WatchLeasesResponse__Output } from "../generated/aperture/v1/WatchLeasesResponse.js";
import type { Timestamp__Output } from "../generated/google/protobuf/Timestamp.js";
import { bare } from "./bare.js";
import { decodeFacts, decodeNumaNode } from "./decode-facts.js";
import type { DescriptorInfo, Device, DeviceEvent, HostInfo, Lease, LeaseEvent, Region } from "./model.js";

function dateOf(time: Timestamp__Output | null): Date | null {
  return time === null ? null : new Date(Number(time.seconds) * 1000 + Math.floor(time.nanos / 1_000_000));
}

export function decodeRegion(wire: Region__Output): Region {
  return {
    index: wire.index,
    bar: wire.bar ?? null,
    kind: bare(wire.kind, "REGION_KIND_"),
    size: BigInt(wire.size),
    backedSize: BigInt(wire.backedSize),
    areas: wire.areas.map((area) => ({ offset: BigInt(area.offset), size: BigInt(area.size) })),
    memoryType: bare(wire.memoryType, "MEMORY_TYPE_"),
    memoryTypeSource: wire.memoryTypeSource,
    prefetchable: wire.prefetchable,
    is64bit: wire.is_64bit,
    readable: wire.readable,
    writable: wire.writable,
    mappable: wire.mappable,
    offset: BigInt(wire.offset),
    type: wire.type === null ? null : { type: wire.type.type, subtype: wire.type.subtype },
  };
}

export function decodeDevice(wire: Device__Output): Device {
  const group = wire.iommuGroup;
  return {
    address: wire.address,
    vendorId: wire.vendorId,
    deviceId: wire.deviceId,
    classCode: wire.classCode,
    driver: wire.driver,
    iommuGroup:
      group === null
        ? null
        : {
            id: group.id,
            members: group.members.map(({ address, driver, spoils }) => ({ address, driver, spoils })),
            viable: group.viable,
            otherSpoilers: group.otherSpoilers,
          },
    resetMethods: wire.resetMethods,
    resetSupported: wire.resetSupported ?? null,
    numaNode: wire.numaNode ?? null,
    regions: wire.regions.map(decodeRegion),
    state: bare(wire.state, "DEVICE_STATE_"),
    stateDetail: wire.stateDetail,
    ineligibleReasons: wire.ineligibleReasons.map(({ reason, message, next }) => ({ reason, message, next })),
    backends: wire.backends.map((backend) => bare(backend, "BACKEND_")),
    physicalFunction: wire.physicalFunction === "" ? null : wire.physicalFunction,
    generation: BigInt(wire.generation),
    peerSets: wire.peerSets.map(({ name, addresses }) => ({ name, addresses })),
    ...decodeFacts(wire),
  };
}

export function decodeEvents(wire: WatchDevicesResponse__Output): readonly DeviceEvent[] {
  const revision = BigInt(wire.revision);
  return wire.events.map((event) => ({
    kind: bare(event.kind, "DEVICE_EVENT_KIND_"),
    device: event.device === null ? null : decodeDevice(event.device),
    revision,
  }));
}

function decodeDescriptor(wire: Descriptor__Output): DescriptorInfo {
  return {
    kind: bare(wire.kind, "DESCRIPTOR_KIND_"),
    scope: bare(wire.scope, "SCOPE_"),
    address: wire.address === "" ? null : wire.address,
    region: wire.region ?? null,
    group: wire.group ?? null,
    offset: BigInt(wire.offset),
    size: BigInt(wire.size),
  };
}

export function decodeLease(wire: Lease__Output): Lease {
  return {
    id: wire.id,
    kind: bare(wire.kind, "LEASE_KIND_"),
    mode: bare(wire.mode, "LEASE_MODE_"),
    state: bare(wire.state, "LEASE_STATE_"),
    devices: wire.devices.map(({ address, regions, vfToken }) => ({
      address,
      regions: regions.map(decodeRegion),
      ...(vfToken.length === 0 ? {} : { vfToken }),
    })),
    descriptors: wire.descriptors.map(decodeDescriptor),
    backend: bare(wire.backend, "BACKEND_"),
    holderPid: wire.holderPid,
    holderUid: wire.holderUid,
    createTime: dateOf(wire.createTime),
    ackDeadline: dateOf(wire.ackDeadline),
    endTime: dateOf(wire.endTime),
    endCause: bare(wire.endCause, "END_CAUSE_"),
    quarantined: wire.quarantined,
    ownerUid: wire.ownerUid,
    expireTime: dateOf(wire.expireTime),
    ticketExpireTime: dateOf(wire.ticketExpireTime),
    recall: wire.recall === null ? null : { cause: bare(wire.recall.cause, "END_CAUSE_"), deadline: dateOf(wire.recall.deadline) },
    policyRule: wire.policyRule,
  };
}

export function decodeLeaseEvents(wire: WatchLeasesResponse__Output): readonly LeaseEvent[] {
  return wire.events.map(({ kind, lease }) => ({
    kind: bare(kind, "LEASE_EVENT_KIND_"),
    lease: lease === null ? null : decodeLease(lease),
  }));
}

export function decodeHostInfo(wire: GetHostInfoResponse__Output): HostInfo {
  return {
    version: wire.version,
    kernelRelease: wire.kernelRelease,
    backend: bare(wire.backend, "BACKEND_"),
    simulated: wire.simulated,
    backendReason: wire.backendReason,
    capabilities: wire.capabilities.map(({ name, availability, detail }) => ({
      name,
      availability: bare(availability, "AVAILABILITY_"),
      detail,
    })),
    limits: wire.limits.map(({ name, value, unit }) => ({ name, value: BigInt(value), unit })),
    instanceId: wire.instanceId,
    startTime: dateOf(wire.startTime),
    channelPath: wire.channelPath,
    numaNodes: wire.numaNodes.map(decodeNumaNode),
  };
}
