// The facts of facts.proto: what decode.ts does for the rest.

import type { Device__Output } from "../generated/aperture/v1/Device.js";
import type { ExtendedGpuMemory__Output } from "../generated/aperture/v1/ExtendedGpuMemory.js";
import type { IommuHardware__Output } from "../generated/aperture/v1/IommuHardware.js";
import type { MsixPart__Output } from "../generated/aperture/v1/MsixPart.js";
import type { NumaNode__Output } from "../generated/aperture/v1/NumaNode.js";
import type { PciePlace__Output } from "../generated/aperture/v1/PciePlace.js";
import { bare } from "./bare.js";
import type { DeviceFacts, ExtendedGpuMemory, IommuHardware, MsixPart, NumaNode, PciePlace } from "./facts.js";

export function decodeFacts(wire: Device__Output): DeviceFacts {
  return {
    revisionId: wire.revisionId ?? null,
    subsystemVendorId: wire.subsystemVendorId ?? null,
    subsystemDeviceId: wire.subsystemDeviceId ?? null,
    names: wire.names === null ? null : { ...wire.names },
    driverOverride: wire.driverOverride,
    driverCandidates: wire.driverCandidates.map(({ driver, module, kind, source, alias }) => ({
      ...{ driver, module, alias },
      ...{ kind: bare(kind, "DRIVER_KIND_"), source: bare(source, "DRIVER_SOURCE_") },
    })),
    place: wire.place === null ? null : decodePlace(wire.place),
    virtualFunctions:
      wire.virtualFunctions === null ? null : { total: wire.virtualFunctions.total, addresses: wire.virtualFunctions.addresses },
    vfIndex: wire.vfIndex ?? null,
    genericInitiators:
      wire.genericInitiators === null ? null : { nodes: wire.genericInitiators.nodes, source: wire.genericInitiators.source },
    extendedMemory: wire.extendedMemory === null ? null : decodeExtendedMemory(wire.extendedMemory),
    resetSet:
      wire.resetSet === null
        ? null
        : {
            addresses: wire.resetSet.addresses,
            source: bare(wire.resetSet.source, "RESET_SET_SOURCE_"),
            leasedTogether: wire.resetSet.leasedTogether,
          },
    interrupts: wire.interrupts.map((interrupt) => ({ ...interrupt, kind: bare(interrupt.kind, "INTERRUPT_KIND_") })),
    msix:
      wire.msix === null
        ? null
        : { vectors: wire.msix.vectors, table: decodePart(wire.msix.table), pending: decodePart(wire.msix.pending) },
    dmaBufExport: wire.dmaBufExport === null ? null : { supported: wire.dmaBufExport.supported, regions: wire.dmaBufExport.regions },
    migration: wire.migration === null ? null : { ...wire.migration },
    lowPower: wire.lowPower === null ? null : { ...wire.lowPower },
    addressTranslation:
      wire.addressTranslation === null
        ? null
        : {
            ats: wire.addressTranslation.ats,
            pri: wire.addressTranslation.pri,
            pasid: wire.addressTranslation.pasid,
            pasidBits: wire.addressTranslation.pasidBits ?? null,
          },
    iommuHardware: wire.iommuHardware === null ? null : decodeIommu(wire.iommuHardware),
    readiness: bare(wire.readiness, "READINESS_"),
    readinessDetail: wire.readinessDetail,
  };
}

function decodePlace({ root, ports, link }: PciePlace__Output): PciePlace {
  return {
    root,
    ports,
    link:
      link === null
        ? null
        : {
            currentSpeedMts: link.currentSpeedMts ?? null,
            currentWidth: link.currentWidth ?? null,
            maxSpeedMts: link.maxSpeedMts ?? null,
            maxWidth: link.maxWidth ?? null,
          },
  };
}

function decodeExtendedMemory({ name, size, gpus }: ExtendedGpuMemory__Output): ExtendedGpuMemory {
  return { name, size: size === undefined ? null : BigInt(size), gpus };
}

export function decodeNumaNode(wire: NumaNode__Output): NumaNode {
  return {
    id: wire.id,
    hasCpus: wire.hasCpus ?? null,
    hasMemory: wire.hasMemory ?? null,
    genericInitiator: wire.genericInitiator ?? null,
    distances: wire.distances.map(({ node, distance }) => ({ node, distance })),
  };
}

function decodePart(wire: MsixPart__Output | null): MsixPart {
  return { bar: wire?.bar ?? 0, offset: BigInt(wire?.offset ?? 0), size: BigInt(wire?.size ?? 0) };
}

function decodeIommu(wire: IommuHardware__Output): IommuHardware {
  return {
    kind: bare(wire.kind, "IOMMU_KIND_"),
    rawKind: wire.rawKind,
    dirtyTracking: wire.dirtyTracking,
    pasidExecute: wire.pasidExecute,
    pasidPrivileged: wire.pasidPrivileged,
    pasidBits: wire.pasidBits ?? null,
    inputAddressBits: wire.inputAddressBits ?? null,
    iommuPasidBits: wire.iommuPasidBits ?? null,
    ats: wire.ats ?? null,
    rangeInvalidation: wire.rangeInvalidation ?? null,
    vendorData: Uint8Array.from(wire.vendorData),
  };
}
