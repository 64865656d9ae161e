// Cloud Hypervisor, from v53.0: external descriptors at boot. Each of its options is given once and takes several values, so a device of another origin has to join these.

import type { KnownDevice } from "../broker/ports.js";
import type { VmmFragment, VmmNote, VmmValue } from "../broker/vmm.js";
import { type GuestNodes, nodeValues } from "./guest-nodes.js";
import { deviceId } from "./ids.js";

export function cloudHypervisorParts(
  devices: readonly KnownDevice[],
  nodes: GuestNodes,
): { readonly leastVersion: string; readonly fragments: readonly VmmFragment[]; readonly notes: readonly VmmNote[] } {
  return {
    leastVersion: "53.0",
    fragments: [platform(devices), deviceFragment(devices), ...numa(devices, nodes)],
    notes: notes(nodes),
  };
}

/** BARs can be mapped into an iommufd, for DMA between devices, only as DMA buffers: where a device exports none, the attempt fails with EFAULT and the VM does not start. */
function platform(devices: readonly KnownDevice[]): VmmFragment {
  const without = devices.filter(({ probe }) => !probe.dmaBufExport.supported).map(({ facts }) => facts.address);
  const values: VmmValue[] = [{ name: "iommufd_fd", value: "@iommufd", source: "descriptor IOMMUFD of the lease" }];
  if (without.length > 0)
    values.push({ name: "vfio_p2p_dma", value: "off", source: `VFIO feature DMA_BUF: not exported by ${without.join(", ")}` });
  return {
    place: "one iommufd for the whole VM",
    lines: ["--platform", values.map(({ name, value }) => `${name}=${value}`).join(",")],
    values,
  };
}

function deviceFragment(devices: readonly KnownDevice[]): VmmFragment {
  const addresses = devices.map(({ facts }) => facts.address);
  return {
    place: "the devices",
    lines: ["--device", ...addresses.map((address) => `fd=@device:${address},id=${deviceId(address)}`)],
    values: addresses.flatMap((address) => [
      { name: "fd", value: `@device:${address}`, source: "descriptor DEVICE_UNBOUND of the lease: Cloud Hypervisor binds it itself" },
      { name: "id", value: deviceId(address), source: "made of the address: the same in every VM" },
    ]),
  };
}

function numa(devices: readonly KnownDevice[], nodes: GuestNodes): readonly VmmFragment[] {
  const lines = devices.flatMap(({ facts }, index) =>
    (nodes.initiators[index] ?? []).map(({ guest }) =>
      [`guest_numa_id=${guest}`, `device_id=${deviceId(facts.address)}`, ...distances(nodes, guest)].join(","),
    ),
  );
  if (lines.length === 0) return [];
  return [
    { place: "generic initiators: nodes without processors and memory", lines: ["--numa", ...lines], values: nodeValues(devices, nodes) },
  ];
}

function distances({ distances: all }: GuestNodes, from: number): readonly string[] {
  if (all === null) return [];
  return [
    `distances=[${all.nodes
      .filter((to) => to !== from)
      .map((to) => `${to}@${all.between(from, to)}`)
      .join(",")}]`,
  ];
}

function notes(nodes: GuestNodes): readonly VmmNote[] {
  const all: VmmNote[] = [];
  if (nodes.initiators.some((guests) => guests.length > 0))
    all.push({
      kind: "TO_DO",
      text: "--numa is given once, with all nodes: put the guest's own (guest_numa_id=0,cpus=[0-N],memory_zones=[...]) in front of these values",
    });
  if (nodes.whyNoDistances !== null) all.push({ kind: "LEFT_OUT", text: `distances: ${nodes.whyNoDistances}` });
  all.push({ kind: "TO_DO", text: "start it with these arguments: vm.create over its API takes no descriptors" });
  return all;
}
