// What each VMM is given, from the devices' facts and the host's. Pure: no descriptor is touched here, and placeholders (@iommufd, @device:ADDRESS) stand where their numbers go.

import type { KnownDevice } from "../broker/ports.js";
import { granted, type Outcome, refuse } from "../broker/refusal.js";
import type { MakeVmmArguments, Memlock, Vmm, VmmArguments, VmmForm, VmmFragment, VmmHost, VmmOptions } from "../broker/vmm.js";
import { checkBars, mappedBytes } from "./bars.js";
import { cloudHypervisorParts } from "./cloud-hypervisor.js";
import { type GuestNodes, guestNodes } from "./guest-nodes.js";
import { deviceId } from "./ids.js";
import { kubevirtParts } from "./kubevirt.js";
import { libvirtParts } from "./libvirt.js";
import { openvmmParts } from "./openvmm.js";
import { qemuParts } from "./qemu.js";

const NAMES: Readonly<Record<Vmm, string>> = {
  QEMU: "QEMU",
  CLOUD_HYPERVISOR: "Cloud Hypervisor",
  LIBVIRT: "libvirt",
  KUBEVIRT: "KubeVirt",
  OPENVMM: "OpenVMM",
};

const FORMS: Readonly<Record<Vmm, VmmForm>> = {
  QEMU: "ARGUMENTS",
  CLOUD_HYPERVISOR: "ARGUMENTS",
  LIBVIRT: "XML",
  KUBEVIRT: "YAML",
  OPENVMM: "FIELDS",
};

export const vmmArguments: MakeVmmArguments = (options, devices, host) => {
  if (host.backend === "LEGACY") return refuseLegacy(options.vmm);
  const bars = checkBars(devices);
  if (bars.refusal) return bars;
  const nodes = guestNodes(options, devices, host);
  if (nodes.refusal) return nodes;
  const parts = partsOf(options, devices, host, nodes.value);
  const made: VmmArguments = {
    ...{ vmm: options.vmm, form: FORMS[options.vmm] },
    ...parts,
    devices: devices.map(({ facts: { address } }, index) => ({
      ...{ address, id: deviceId(address) },
      guestNodes: parts.fragments.some(usesNodes) ? (nodes.value.initiators[index] ?? []).map(({ guest }) => guest) : [],
    })),
    memlock: memlock(options, devices),
  };
  return granted(made);
};

function partsOf(
  options: VmmOptions,
  devices: readonly KnownDevice[],
  host: VmmHost,
  nodes: GuestNodes,
): Pick<VmmArguments, "leastVersion" | "fragments" | "notes"> {
  switch (options.vmm) {
    case "QEMU":
      return qemuParts(options, devices, host, nodes);
    case "CLOUD_HYPERVISOR":
      return cloudHypervisorParts(devices, nodes);
    case "LIBVIRT":
      return libvirtParts(options, devices, host, nodes);
    case "KUBEVIRT":
      return kubevirtParts(options, devices);
    case "OPENVMM":
      return openvmmParts(devices);
  }
}

/** KubeVirt numbers nodes by itself, OpenVMM and a guest on x86 have none. */
function usesNodes({ lines }: VmmFragment): boolean {
  return lines.some((line) => /^(node,nodeid=|guest_numa_id=|<cell )/.test(line));
}

/** None of them takes a container or its group: QEMU, Cloud Hypervisor and libvirt have no such option, and OpenVMM would put the group into a container of its own, which the kernel refuses while it is in ours. */
function refuseLegacy(vmm: Vmm): Outcome<never> {
  return refuse(
    "VMM_NEEDS_IOMMUFD",
    `${NAMES[vmm]} takes descriptors of iommufd only, and this host owns its devices through the legacy container`,
    { vmm },
  );
}

/** All of a guest's memory is pinned. One part in ten more for what else a VMM locks, as Kata reckons; the BARs, because some kernels count their pages too (NVIDIA's do). */
function memlock({ guestMemory }: VmmOptions, devices: readonly KnownDevice[]): Memlock | null {
  if (guestMemory === null) return null;
  const mapped = mappedBytes(devices);
  return {
    bytes: guestMemory + guestMemory / 10n + mapped,
    source: `guest memory ${guestMemory} + 10 % + ${mapped} bytes of BARs, which some kernels count (VFIO region info)`,
  };
}
