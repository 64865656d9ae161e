// The facts of facts.proto from the broker's words to the API's.

import type { NumaNode } from "../broker/facts.js";
import type { DeviceView } from "../broker/inventory.js";
import { isLeasedTogether, resetSetOf } from "../broker/reset-set.js";
import type { Device } from "../generated/aperture/v1/Device.js";
import type { IommuHardware } from "../generated/aperture/v1/IommuHardware.js";
import type { Link } from "../generated/aperture/v1/Link.js";
import type { Msix } from "../generated/aperture/v1/Msix.js";
import type { NumaNode as WireNode } from "../generated/aperture/v1/NumaNode.js";

type Facts = DeviceView["facts"];
type Probe = NonNullable<DeviceView["probe"]>;

type Present<T> = { [Key in keyof T]?: Exclude<T[Key], null> };

/** What is null is left out: absent, on the wire. */
function present<T extends object>(value: T): Present<T> {
  return Object.fromEntries(Object.entries(value).filter(([, member]) => member !== null)) as Present<T>;
}

/** Adds all facts to a device's message. */
export function addFacts(device: Device, view: DeviceView): void {
  addScanned(device, view.facts);
  const resetSet = resetSetOf(view);
  if (resetSet !== null) {
    device.resetSet = {
      addresses: [...resetSet.addresses],
      source: `RESET_SET_SOURCE_${resetSet.source}`,
      leasedTogether: isLeasedTogether(view),
    };
  }
  if (view.probe !== null) addProbed(device, view.probe);
}

function addScanned(device: Device, facts: Facts): void {
  device.driverOverride = facts.driverOverride;
  device.driverCandidates = facts.driverCandidates.map(({ driver, module, kind, source, alias }) => ({
    ...{ driver, module, alias },
    ...{ kind: `DRIVER_KIND_${kind}` as const, source: `DRIVER_SOURCE_${source}` as const },
  }));
  if (facts.revisionId !== null) device.revisionId = facts.revisionId;
  if (facts.subsystem !== null) {
    device.subsystemVendorId = facts.subsystem.vendorId;
    device.subsystemDeviceId = facts.subsystem.deviceId;
  }
  if (facts.names !== null) device.names = { ...facts.names };
  if (facts.place !== null) {
    const { root, ports, link } = facts.place;
    device.place = { root, ports: [...ports], ...(link === null ? {} : { link: present(link) satisfies Link }) };
  }
  if (facts.virtualFunctions !== null) {
    device.virtualFunctions = { total: facts.virtualFunctions.total, addresses: [...facts.virtualFunctions.addresses] };
  }
  if (facts.vfIndex !== null) device.vfIndex = facts.vfIndex;
  const { genericInitiators, extendedMemory } = facts;
  if (genericInitiators !== null) device.genericInitiators = { nodes: [...genericInitiators.nodes], source: genericInitiators.source };
  if (extendedMemory !== null) {
    const { name, size, gpus } = extendedMemory;
    device.extendedMemory = { name, gpus: [...gpus], ...(size === null ? {} : { size: size.toString() }) };
  }
}

function addProbed(device: Device, probe: Probe): void {
  device.interrupts = probe.interrupts.map((interrupt) => ({ ...interrupt, kind: `INTERRUPT_KIND_${interrupt.kind}` as const }));
  if (probe.msix !== null) device.msix = toMsix(probe.msix);
  device.dmaBufExport = { supported: probe.dmaBufExport.supported, regions: [...probe.dmaBufExport.regions] };
  if (probe.migration !== null) device.migration = { ...probe.migration };
  device.lowPower = { ...probe.lowPower };
  if (probe.addressTranslation !== null) device.addressTranslation = present(probe.addressTranslation);
  if (probe.iommuHardware !== null) {
    const { kind, ...numbers } = probe.iommuHardware;
    device.iommuHardware = { ...present(numbers), kind: `IOMMU_KIND_${kind}` } satisfies IommuHardware;
  }
  device.readiness = probe.notReady === null ? "READINESS_READY" : "READINESS_NOT_READY";
  device.readinessDetail = probe.readiness;
}

export function toNumaNode({ id, distances, ...known }: NumaNode): WireNode {
  return { id, distances: distances.map((entry) => ({ ...entry })), ...present(known) };
}

function toMsix({ vectors, table, pending }: NonNullable<Probe["msix"]>): Msix {
  const part = ({ bar, offset, size }: typeof table) => ({ bar, offset: offset.toString(), size: size.toString() });
  return { vectors, table: part(table), pending: part(pending) };
}
