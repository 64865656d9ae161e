// What a device is besides its regions, in groups for people, each fact with who says it: the sources are those that the comments of the proto files name.

import type { Device, DriverCandidate, Interrupt, IommuHardware, MsixPart } from "../client/index.js";
import { leasability, stateCell } from "./device-state.js";
import type { Fact, FactGroup } from "./fact-sheet.js";
import { hex, humanSize } from "./size.js";
import type { Cell } from "./table.js";

const DAEMON = "the daemon";
const PROBE = "the daemon's probe";

export function factGroups(device: Device): readonly FactGroup[] {
  return [
    { title: "Device", facts: identity(device) },
    { title: "Lease", facts: leasing(device) },
    { title: "Driver", facts: drivers(device) },
    { title: "Isolation", facts: isolation(device) },
    { title: "Reset", facts: resets(device) },
    { title: "Place", facts: place(device) },
    { title: "Interrupts", facts: [...device.interrupts.map(interrupt), ...msix(device)] },
    { title: "Features", facts: features(device) },
  ];
}

/** `10de:2342`. */
export function ids(device: Device): string {
  return pair(device.vendorId, device.deviceId);
}

/** What the PCI ID list calls it; empty when it does not know it. */
export function deviceName({ names }: Device): string {
  if (names === null) return "";
  const kind = names.subclass || names.baseClass;
  return [names.vendor, names.device].filter((word) => word !== "").join(" ") || kind;
}

function identity(device: Device): readonly Fact[] {
  const { names } = device;
  const list = names?.source ?? "";
  const listName = list.slice(list.lastIndexOf("/") + 1);
  const board = device.subsystemVendorId === null ? "" : pair(device.subsystemVendorId, device.subsystemDeviceId ?? 0);
  const boardName = [names?.subsystemVendor ?? "", names?.subsystem ?? ""].filter((word) => word !== "").join(" ");
  const words = [names?.baseClass ?? "", names?.subclass ?? "", names?.programmingInterface ?? ""].filter((word) => word !== "");
  return [
    ...when(names !== null && deviceName(device) !== "", "name", deviceName(device), list),
    {
      name: "ids",
      value: `${ids(device)}${device.revisionId === null ? "" : `, revision ${hex(device.revisionId, 2)}`}`,
      source: "sysfs vendor, device",
    },
    {
      name: "class",
      value: [hex(device.classCode, 6), words.join(", ")].join(" ").trimEnd(),
      source: ["sysfs class", ...(words.length > 0 ? [listName] : [])].join(", "),
    },
    ...when(
      board !== "",
      "board",
      `${board} ${boardName}`.trimEnd(),
      ["sysfs subsystem_*", ...(boardName === "" ? [] : [listName])].join(", "),
    ),
  ];
}

function leasing(device: Device): readonly Fact[] {
  return [
    { name: "state", value: stateCell(device), source: DAEMON },
    ...when(device.stateDetail !== "", "", device.stateDetail, ""),
    { name: "can be leased", value: leasability(device), source: DAEMON },
    { name: "back ends", value: device.backends.join(", ") || "none", source: DAEMON },
    ...when(device.readiness !== "UNSPECIFIED", "memory", readiness(device), PROBE),
    ...when(device.readinessDetail !== "", "", device.readinessDetail, ""),
  ];
}

function readiness({ readiness: state }: Device): Cell {
  return state === "READY" ? "ready" : { text: "NOT ready", colour: "red" };
}

const CANDIDATE_KIND: Readonly<Record<DriverCandidate["kind"], string>> = {
  VFIO_VARIANT: "VFIO, for this device",
  VFIO_GENERIC: "VFIO, for any device",
  HOST: "the host's: not leasable with it",
  UNSPECIFIED: "of a kind that this aperturectl does not know",
};

const CANDIDATE_SOURCE: Readonly<Record<DriverCandidate["source"], string>> = {
  MODULES_ALIAS: "modules.alias",
  MODULES_BUILTIN: "modules.builtin.modinfo",
  REGISTERED: "sysfs bus/pci/drivers",
  UNSPECIFIED: "",
};

function drivers(device: Device): readonly Fact[] {
  return [
    { name: "bound", value: device.driver === "" ? "none" : device.driver, source: "sysfs driver" },
    ...when(device.driverOverride !== "", "override", device.driverOverride, "sysfs driver_override"),
    ...device.driverCandidates.map((candidate, index) => ({
      name: index === 0 ? "candidates" : "",
      value: `${candidate.driver} (${CANDIDATE_KIND[candidate.kind]})`,
      source: CANDIDATE_SOURCE[candidate.source],
    })),
  ];
}

function isolation(device: Device): readonly Fact[] {
  const { iommuHardware: iommu, addressTranslation: translation } = device;
  return [
    { name: "IOMMU group", value: group(device), source: "sysfs iommu_group" },
    ...(iommu === null ? [] : [{ name: "IOMMU", value: iommuWords(iommu), source: "IOMMU_GET_HW_INFO" }]),
    ...(translation === null
      ? []
      : [
          {
            name: "translation",
            value: flags({ ATS: translation.ats, PRI: translation.pri, PASID: translation.pasid }, translation.pasidBits),
            source: "PCI config space",
          },
        ]),
    ...device.peerSets.map(({ name, addresses }, index) => ({
      name: index === 0 ? "peers" : "",
      value: `${addresses.join(" ")} ("${name}"); locked together`,
      source: "configuration, [[peers]]",
    })),
  ];
}

function group(device: Device): Cell {
  if (device.iommuGroup === null) return { text: "none: no IOMMU, or it is switched off", colour: "red" };
  const { id, viable, members, otherSpoilers } = device.iommuGroup;
  const others = members.length === 1 ? "this device alone" : `${members.length} devices`;
  const more = otherSpoilers.length === 0 ? "" : `, with ${otherSpoilers.join(", ")}`;
  return viable ? `${id}, viable, ${others}${more}` : { text: `${id}, NOT viable, ${others}${more}`, colour: "red" };
}

const IOMMU_KIND: Readonly<Record<IommuHardware["kind"], string>> = {
  INTEL_VTD: "Intel VT-d",
  ARM_SMMUV3: "Arm SMMUv3",
  TEGRA241_CMDQV: "NVIDIA Tegra241 CMDQV (SMMUv3)",
  AMD: "AMD IOMMU",
  UNSPECIFIED: "",
};

function iommuWords(iommu: IommuHardware): string {
  const bits = [
    iommu.inputAddressBits === null ? null : `${iommu.inputAddressBits}-bit device addresses`,
    iommu.pasidBits === null ? null : `${iommu.pasidBits}-bit PASID`,
    iommu.ats === true ? "ATS" : null,
    iommu.dirtyTracking ? "tracks dirty memory" : null,
    iommu.rangeInvalidation === true ? "range invalidation" : null,
  ].filter((word) => word !== null);
  return [IOMMU_KIND[iommu.kind] || `kind ${iommu.rawKind}`, ...bits].join(", ");
}

function resets(device: Device): readonly Fact[] {
  const { resetSet: set, resetSupported: supported } = device;
  return [
    {
      name: "methods",
      value: device.resetMethods.length === 0 ? { text: "none", colour: "yellow" } : device.resetMethods.join(", "),
      source: "sysfs reset_method",
    },
    ...(supported === null
      ? []
      : [
          {
            name: "before reuse",
            value: supported ? "can be reset" : ({ text: "cannot be reset alone", colour: "yellow" } as const),
            source: "VFIO device info",
          },
        ]),
    ...(set === null
      ? []
      : [
          {
            name: "hot reset",
            value: `takes down ${set.addresses.length === 1 ? "this device alone" : set.addresses.join(" ")}${set.leasedTogether ? "; leased together" : ""}`,
            source: set.source === "KERNEL" ? "VFIO hot reset info" : "sysfs paths",
          },
        ]),
  ];
}

function place(device: Device): readonly Fact[] {
  const { place: at, virtualFunctions: vfs } = device;
  const link = at?.link ?? null;
  return [
    { name: "NUMA node", value: device.numaNode === null ? "unknown to the kernel" : String(device.numaNode), source: "sysfs numa_node" },
    ...numa(device),
    ...(at === null ? [] : [{ name: "PCIe path", value: [at.root, ...at.ports].join(" > "), source: "sysfs path" }]),
    ...(link === null
      ? []
      : [
          {
            name: "link",
            value: `${speed(link.currentSpeedMts, link.currentWidth)} of at most ${speed(link.maxSpeedMts, link.maxWidth)}`,
            source: "sysfs *_link_*",
          },
        ]),
    ...when(
      device.physicalFunction !== null,
      "SR-IOV",
      `virtual function ${device.vfIndex ?? "?"} of ${device.physicalFunction ?? ""}`,
      "sysfs physfn",
    ),
    ...(vfs === null
      ? []
      : [
          {
            name: "SR-IOV",
            value: `${vfs.addresses.length} of ${vfs.total} virtual functions${vfs.addresses.length === 0 ? "" : `: ${vfs.addresses.join(" ")}`}`,
            source: "sysfs sriov_*",
          },
        ]),
  ];
}

function numa({ genericInitiators: initiators, extendedMemory: memory }: Device): readonly Fact[] {
  return [
    ...(initiators === null
      ? []
      : [
          { name: "initiators", value: `nodes ${nodeRange(initiators.nodes)}`, source: "sysfs node" },
          // A sentence: as a source it would take the room of all values.
          { name: "", value: initiators.source, source: "" },
        ]),
    ...(memory === null
      ? []
      : [
          {
            name: "EGM",
            value: `${memory.name}${memory.size === null ? "" : `, ${humanSize(memory.size)}`}, with ${memory.gpus.join(" ")}`,
            source: "sysfs class/egm",
          },
        ]),
  ];
}

/** `2-9`, or `2, 5`. */
function nodeRange(nodes: readonly number[]): string {
  const [first = 0] = nodes;
  const last = nodes.at(-1) ?? first;
  return nodes.length > 1 && last - first === nodes.length - 1 ? `${first}-${last}` : nodes.join(", ");
}

function speed(mts: number | null, width: number | null): string {
  return mts === null || width === null ? "down" : `${mts / 1000} GT/s x${width}`;
}

const INTERRUPT: Readonly<Record<Interrupt["kind"], string>> = {
  INTX: "INTx",
  MSI: "MSI",
  MSIX: "MSI-X",
  ERROR: "error",
  REQUEST: "request",
  UNSPECIFIED: "",
};

const INTERRUPT_MEANS: Partial<Readonly<Record<Interrupt["kind"], string>>> = {
  ERROR: "signals that the device has failed",
  REQUEST: "signals that the host wants the device back",
};

function interrupt({ index, kind, count }: Interrupt): Fact {
  const value = INTERRUPT_MEANS[kind] ?? `${count} ${count === 1 ? "vector" : "vectors"}`;
  return { name: INTERRUPT[kind] || `index ${index}`, value, source: "VFIO irq info" };
}

function msix(device: Device): readonly Fact[] {
  if (device.msix === null) return [];
  const { table, pending } = device.msix;
  return [
    { name: "MSI-X table", value: part(table), source: "PCI config space" },
    { name: "MSI-X pending", value: part(pending), source: "PCI config space" },
  ];
}

function part({ bar, offset, size }: MsixPart): string {
  return `BAR ${bar} at ${hex(offset)}, ${humanSize(size)}`;
}

function features(device: Device): readonly Fact[] {
  const { dmaBufExport: exported, migration, lowPower } = device;
  return [
    ...(exported === null ? [] : [{ name: "dma-buf", value: dmaBuf(exported), source: "VFIO feature DMA_BUF" }]),
    ...(migration === null
      ? []
      : [
          {
            name: "migration",
            value: flags({
              "stop and copy": migration.stopCopy,
              "pre-copy": migration.preCopy,
              "peer-to-peer": migration.peerToPeer,
              "logs its DMA": migration.dmaLogging,
            }),
            source: "VFIO feature MIGRATION",
          },
        ]),
    ...(lowPower === null
      ? []
      : [
          {
            name: "low power",
            value: flags({ entry: lowPower.entry, "entry with wake-up": lowPower.entryWithWakeup, exit: lowPower.exit }),
            source: "VFIO feature LOW_POWER",
          },
        ]),
  ];
}

function dmaBuf({ supported, regions }: { readonly supported: boolean; readonly regions: readonly number[] }): string {
  if (!supported) return "no export";
  return regions.length === 0 ? "export, but of no region of it" : `export of region ${regions.join(", ")}`;
}

/** Those that are so; pasidBits stand behind PASID. */
function flags(words: Readonly<Record<string, boolean>>, pasidBits: number | null = null): string {
  const there = Object.entries(words).flatMap(([word, so]) =>
    so ? [word === "PASID" && pasidBits !== null ? `PASID of ${pasidBits} bits` : word] : [],
  );
  return there.join(", ") || "none";
}

function pair(vendor: number, device: number): string {
  return `${vendor.toString(16).padStart(4, "0")}:${device.toString(16).padStart(4, "0")}`;
}

function when(holds: boolean, name: string, value: Cell, source: string): readonly Fact[] {
  return holds ? [{ name, value, source }] : [];
}
