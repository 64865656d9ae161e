// KubeVirt, from 1.9 (alpha gate IOMMUFD): parts of its configuration and of a VirtualMachine. It takes the iommufd from a one-shot socket in the pod; devices come as nodes, by a device
// plugin, whose resource name only the cluster's operator knows.

import type { KnownDevice } from "../broker/ports.js";
import type { VmmFragment, VmmNote, VmmOptions } from "../broker/vmm.js";
import { sizeWord, window64 } from "./bars.js";
import { isGrace } from "./grace.js";
import { deviceId } from "./ids.js";
import { windowValue } from "./qemu.js";

/** Where virt-launcher looks for the socket. */
const SOCKET = "/var/run/kubevirt/iommufd.sock";

export function kubevirtParts(
  options: VmmOptions,
  devices: readonly KnownDevice[],
): { readonly leastVersion: string; readonly fragments: readonly VmmFragment[]; readonly notes: readonly VmmNote[] } {
  const grace = devices.some(isGrace);
  const resource = options.resourceName;
  return {
    leastVersion: "1.9",
    fragments: [gates(grace), ...(resource === "" ? [] : [permitted(devices, resource), machine(devices, resource, grace)])],
    notes: notes(devices, resource, grace),
  };
}

function gates(grace: boolean): VmmFragment {
  const names = ["IOMMUFD", ...(grace ? ["PCINUMAAwareTopology", "GraceIOVirtualization"] : [])];
  return {
    place: "KubeVirt",
    lines: ["spec:", "  configuration:", "    developerConfiguration:", "      featureGates:", ...names.map((name) => `      - ${name}`)],
    values: names.map((name) => ({
      name: "feature gate",
      value: name,
      source: name === "IOMMUFD" ? "KubeVirt VEP 266" : "KubeVirt VEP 199, for a Grace GPU",
    })),
  };
}

function permitted(devices: readonly KnownDevice[], resource: string): VmmFragment {
  const selectors = [...new Set(devices.map(selector))];
  return {
    place: "KubeVirt",
    lines: [
      ...["spec:", "  configuration:", "    permittedHostDevices:", "      pciHostDevices:"],
      ...selectors.flatMap((ids) => [
        `      - pciVendorSelector: "${ids}"`,
        `        resourceName: ${resource}`,
        "        externalResourceProvider: true",
      ]),
    ],
    values: [
      ...selectors.map((ids) => ({ name: "pciVendorSelector", value: ids, source: "sysfs vendor, device" })),
      { name: "resourceName", value: resource, source: "the request" },
    ],
  };
}

function machine(devices: readonly KnownDevice[], resource: string, grace: boolean): VmmFragment {
  const ids = devices.map(({ facts }) => deviceId(facts.address));
  return {
    place: "VirtualMachineInstance",
    lines: [
      ...["spec:", ...(grace ? ["  architecture: arm64"] : []), "  domain:"],
      ...(grace ? ["    cpu:", "      dedicatedCpuPlacement: true"] : []),
      ...["    devices:", "      hostDevices:"],
      ...ids.flatMap((id) => [`      - name: ${id}`, `        deviceName: ${resource}`]),
    ],
    values: [
      ...ids.map((id) => ({ name: "name", value: id, source: "made of the address: the same in every VM" })),
      { name: "deviceName", value: resource, source: "the request" },
    ],
  };
}

/** `10DE:2342`, as KubeVirt writes it. */
function selector({ facts: { vendorId, deviceId: device } }: KnownDevice): string {
  return [vendorId, device].map((id) => id.toString(16).toUpperCase().padStart(4, "0")).join(":");
}

function notes(devices: readonly KnownDevice[], resource: string, grace: boolean): readonly VmmNote[] {
  const window = windowValue("", sizeWord(window64(devices)), devices);
  const all: VmmNote[] = [
    {
      kind: "TO_DO",
      text: `serve the lease's iommufd at ${SOCKET} in the pod, once: one byte 0x00 with the one descriptor, then wait for one byte of acknowledgement; one socket for each VM`,
    },
    {
      kind: "TO_DO",
      text: "the device plugin puts the node /dev/vfio/devices/vfioN of each device into the pod: virt-launcher's libvirt opens it itself",
    },
  ];
  if (resource === "")
    all.push({
      kind: "LEFT_OUT",
      text: "permittedHostDevices and hostDevices: the resource name of the cluster's device plugin is not known; name it in the request",
    });
  if (grace)
    all.push({
      kind: "LEFT_OUT",
      text: `nodes, distances and pcihole64: KubeVirt makes them by itself, from sysfs, where this GPU's BARs are not; the BARs need ${window.value} (${window.source})`,
    });
  return all;
}
