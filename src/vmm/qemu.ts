// QEMU: arguments that stand behind whatever starts the rest of the machine. 9.0 is the first that takes an iommufd and an unbound device by descriptor; it binds the device itself.

import type { KnownDevice } from "../broker/ports.js";
import type { GuestMachine, VmmFragment, VmmHost, VmmNote, VmmOptions, VmmValue } from "../broker/vmm.js";
import { sizeWord, window64 } from "./bars.js";
import { isGrace } from "./grace.js";
import type { GuestNodes } from "./guest-nodes.js";
import { nodeValues, range } from "./guest-nodes.js";
import { deviceId, IOMMUFD_ID, initiatorId, rootPortId } from "./ids.js";

/** The 64-bit window of each machine when nobody asks for more (hw/arm/virt.c, hw/pci-host/q35.c). */
export const DEFAULT_WINDOW: Readonly<Record<GuestMachine, bigint>> = { VIRT: 512n << 30n, Q35: 32n << 30n };

/** Ports are told apart by chassis and slot. Counted from here, because who numbers by hand starts at 0. */
const FIRST_CHASSIS = 101;

export function qemuParts(
  options: VmmOptions,
  devices: readonly KnownDevice[],
  host: VmmHost,
  nodes: GuestNodes,
): { readonly leastVersion: string; readonly fragments: readonly VmmFragment[]; readonly notes: readonly VmmNote[] } {
  const machine = options.machine ?? machineFor(devices, host);
  const window = window64(devices);
  const wide = window > DEFAULT_WINDOW[machine];
  const numa = machine === "VIRT" ? numaFragments(devices, nodes) : [];
  return {
    leastVersion: wide && machine === "VIRT" ? "10.0" : "9.0",
    fragments: [
      iommufd(),
      ...devices.map(({ facts: { address } }, index) => deviceFragment(address, index)),
      ...(wide ? [windowFragment(machine, window, devices)] : []),
      ...numa,
    ],
    notes: notes(devices, machine, nodes),
  };
}

/** Grace GPUs are for arm64 guests; else the guest is of the host's kind. */
export function machineFor(devices: readonly KnownDevice[], host: VmmHost): GuestMachine {
  return host.architecture === "arm64" || devices.some(isGrace) ? "VIRT" : "Q35";
}

function iommufd(): VmmFragment {
  return {
    place: "one iommufd for the whole VM",
    lines: ["-object", `iommufd,id=${IOMMUFD_ID},fd=@iommufd`],
    values: [{ name: "fd", value: "@iommufd", source: "descriptor IOMMUFD of the lease" }],
  };
}

function deviceFragment(address: KnownDevice["facts"]["address"], index: number): VmmFragment {
  const [id, port] = [deviceId(address), rootPortId(address)];
  return {
    place: `${address} behind a root port of its own`,
    lines: [
      "-device",
      `pcie-root-port,id=${port},bus=pcie.0,chassis=${FIRST_CHASSIS + index}`,
      "-device",
      `vfio-pci,id=${id},iommufd=${IOMMUFD_ID},fd=@device:${address},bus=${port}`,
    ],
    values: [
      { name: "id", value: id, source: "made of the address: the same in every VM" },
      { name: "fd", value: `@device:${address}`, source: "descriptor DEVICE_UNBOUND of the lease: QEMU binds it itself" },
    ],
  };
}

function windowFragment(machine: GuestMachine, window: bigint, devices: readonly KnownDevice[]): VmmFragment {
  const size = sizeWord(window);
  return {
    place: "room for the 64-bit BARs",
    lines: machine === "VIRT" ? ["-machine", `highmem-mmio-size=${size}`] : ["-global", `q35-pcihost.pci-hole64-size=${size}`],
    values: [windowValue(machine === "VIRT" ? "highmem-mmio-size" : "pci-hole64-size", size, devices)],
  };
}

/** Also for libvirt and KubeVirt. */
export function windowValue(name: string, size: string, devices: readonly KnownDevice[]): VmmValue {
  const addresses = devices.map(({ facts }) => facts.address).join(", ");
  return {
    name,
    value: size,
    source: `VFIO region info: padded 64-bit BARs of ${addresses}, each device aligned to its largest, rounded up to a power of two`,
  };
}

function numaFragments(devices: readonly KnownDevice[], nodes: GuestNodes): readonly VmmFragment[] {
  const initiators = devices.flatMap(({ facts }, index): readonly VmmFragment[] => {
    const guests = nodes.initiators[index] ?? [];
    if (guests.length === 0) return [];
    const id = deviceId(facts.address);
    return [
      {
        place: `generic initiators of ${facts.address}: nodes without processors and memory`,
        lines: [
          ...guests.flatMap(({ guest }) => ["-numa", `node,nodeid=${guest}`]),
          ...guests.flatMap(({ guest }, at) => [
            "-object",
            `acpi-generic-initiator,id=${initiatorId(facts.address, at)},pci-dev=${id},node=${guest}`,
          ]),
        ],
        values: nodeValues(devices.slice(index, index + 1), { ...nodes, initiators: [guests], distances: null }),
      },
    ];
  });
  const { distances } = nodes;
  if (distances === null) return initiators;
  // QEMU takes one direction for both as long as all pairs are alike, and wants both of every pair as soon as one is not (hw/core/numa.c validate_numa_distance).
  const pairs = distances.nodes.flatMap((from) =>
    distances.nodes.filter((to) => (distances.symmetrical ? from < to : from !== to)).map((to) => [from, to] as const),
  );
  return [
    ...initiators,
    {
      place: "distances between all nodes of the guest",
      lines: pairs.flatMap(([from, to]) => ["-numa", `dist,src=${from},dst=${to},val=${distances.between(from, to)}`]),
      values: nodeValues([], nodes),
    },
  ];
}

function notes(devices: readonly KnownDevice[], machine: GuestMachine, nodes: GuestNodes): readonly VmmNote[] {
  const notes: VmmNote[] = [];
  const has = nodes.initiators.some((guests) => guests.length > 0);
  if (has && machine === "Q35")
    notes.push({ kind: "LEFT_OUT", text: "generic initiators: a Grace GPU is for an arm64 guest (machine virt)" });
  if (has && machine === "VIRT") {
    const own = nodes.own.length === 0 ? "0" : range(nodes.own.map(({ guest }) => guest));
    notes.push({
      kind: "TO_DO",
      text: `declare the guest's own nodes (${own}) before these arguments, with their processors: -object memory-backend-ram,id=m0,size=... -numa node,nodeid=0,cpus=0-N,memdev=m0`,
    });
  }
  if (nodes.whyNoDistances !== null) notes.push({ kind: "LEFT_OUT", text: `distances: ${nodes.whyNoDistances}` });
  if (devices.some(isGrace) && machine === "VIRT")
    notes.push({
      kind: "TO_DO",
      text: "start the machine as NVIDIA's guests expect it: -machine virt,accel=kvm,gic-version=3,ras=on,hmat=on",
    });
  return [...notes, ...smmuNotes(devices)];
}

/** An accelerated SMMUv3 for the guest (arm-smmuv3,accel=on) has to be like the host's: what is known of that. */
function smmuNotes(devices: readonly KnownDevice[]): readonly VmmNote[] {
  return devices.flatMap(({ facts, probe }): readonly VmmNote[] => {
    const iommu = probe.iommuHardware;
    if (iommu === null || (iommu.kind !== "ARM_SMMUV3" && iommu.kind !== "TEGRA241_CMDQV")) return [];
    const known = [
      iommu.rangeInvalidation === null ? null : `ril=${iommu.rangeInvalidation ? "on" : "off"}`,
      iommu.iommuPasidBits === null
        ? null
        : iommu.iommuPasidBits === 0
          ? "no SubstreamIDs"
          : `SubstreamIDs of ${iommu.iommuPasidBits} bits`,
      iommu.inputAddressBits === null ? null : `input addresses of ${iommu.inputAddressBits} bits`,
    ].filter((word) => word !== null);
    return [
      {
        kind: "LEFT_OUT",
        text:
          `an SMMUv3 of the guest's own for ${facts.address}: the host's has ${known.join(", ") || "nothing that could be read"} (IOMMU_GET_HW_INFO); ` +
          "oas and ats are not among what the kernel lets user space read of it",
      },
    ];
  });
}
