// From the broker's words to the API's. One direction only: requests are read by validate.ts.

import type { Region as DomainRegion, MemoryType, RegionKind } from "../broker/device.js";
import type { DeviceView } from "../broker/inventory.js";
import { REASONS } from "../broker/refusal.js";
import type { Device } from "../generated/aperture/v1/Device.js";
import type { Region } from "../generated/aperture/v1/Region.js";
import type { Timestamp } from "../generated/google/protobuf/Timestamp.js";
import { addFacts } from "./translate-facts.js";

export function toDevice(view: DeviceView, backend: "IOMMUFD" | "LEGACY" | "SIMULATED"): Device {
  const { facts, probe } = view;
  const device: Device = {
    address: facts.address,
    vendorId: facts.vendorId,
    deviceId: facts.deviceId,
    classCode: facts.classCode,
    driver: facts.driver,
    resetMethods: [...facts.resetMethods],
    regions: (probe?.regions ?? []).map(toRegion),
    state: `DEVICE_STATE_${view.state}`,
    stateDetail: view.stateDetail,
    ineligibleReasons: view.ineligibleReasons.map(({ reason, message }) => ({ reason, message, next: REASONS[reason].next })),
    backends: facts.vfioBound ? [`BACKEND_${backend}`] : [],
    physicalFunction: facts.physicalFunction ?? "",
    generation: view.generation.toString(),
    peerSets: view.peerSets.map(({ name, devices }) => ({ name, addresses: [...devices] })),
  };
  if (facts.iommuGroup) {
    const { id, members, viable, otherSpoilers } = facts.iommuGroup;
    device.iommuGroup = { id, members: members.map((member) => ({ ...member })), viable, otherSpoilers: [...otherSpoilers] };
  }
  if (probe) device.resetSupported = probe.resetSupported;
  if (facts.numaNode !== null) device.numaNode = facts.numaNode;
  addFacts(device, view);
  return device;
}

const REGION_KIND: Readonly<Record<RegionKind, `REGION_KIND_${RegionKind}`>> = {
  BAR: "REGION_KIND_BAR",
  ROM: "REGION_KIND_ROM",
  CONFIG: "REGION_KIND_CONFIG",
  VGA: "REGION_KIND_VGA",
  DEVICE_SPECIFIC: "REGION_KIND_DEVICE_SPECIFIC",
};

const MEMORY_TYPE: Readonly<Record<MemoryType, `MEMORY_TYPE_${MemoryType}`>> = {
  UNSPECIFIED: "MEMORY_TYPE_UNSPECIFIED",
  WRITE_BACK: "MEMORY_TYPE_WRITE_BACK",
  WRITE_COMBINE: "MEMORY_TYPE_WRITE_COMBINE",
  DEVICE: "MEMORY_TYPE_DEVICE",
};

export function toRegion(region: DomainRegion): Region {
  const message: Region = {
    index: region.index,
    kind: REGION_KIND[region.kind],
    size: region.size.toString(),
    backedSize: region.backedSize.toString(),
    areas: region.areas.map((area) => ({ offset: area.offset.toString(), size: area.size.toString() })),
    memoryType: MEMORY_TYPE[region.memoryType],
    memoryTypeSource: region.memoryTypeSource,
    prefetchable: region.prefetchable,
    is_64bit: region.is64bit,
    readable: region.readable,
    writable: region.writable,
    mappable: region.mappable,
    offset: region.offset.toString(),
  };
  if (region.bar !== null) message.bar = region.bar;
  if (region.type) message.type = { ...region.type };
  return message;
}

export function toTimestamp(milliseconds: number): Timestamp {
  const whole = Math.floor(milliseconds);
  return { seconds: Math.floor(whole / 1000).toString(), nanos: (whole % 1000) * 1_000_000 };
}
