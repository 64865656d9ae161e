// libvirt, from 12.2: parts of a domain's XML. It takes one descriptor, the iommufd, by virDomainFDAssociate; it opens /dev/vfio/devices/vfioN itself, and so does nothing with ours.

import type { Address } from "../broker/device.js";
import type { KnownDevice } from "../broker/ports.js";
import type { VmmFragment, VmmHost, VmmNote, VmmOptions } from "../broker/vmm.js";
import { sizeWord, window64 } from "./bars.js";
import { type GuestNodes, nodeValues, range } from "./guest-nodes.js";
import { libvirtAlias } from "./ids.js";
import { DEFAULT_WINDOW, machineFor, windowValue } from "./qemu.js";

const FD_GROUP = "iommu";
const KIB = 1024n;

export function libvirtParts(
  options: VmmOptions,
  devices: readonly KnownDevice[],
  host: VmmHost,
  nodes: GuestNodes,
): { readonly leastVersion: string; readonly fragments: readonly VmmFragment[]; readonly notes: readonly VmmNote[] } {
  const window = window64(devices);
  return {
    leastVersion: "12.2",
    fragments: [
      {
        place: "<domain>",
        lines: [`<iommufd enabled='yes' fdgroup='${FD_GROUP}'/>`],
        values: [{ name: "fdgroup", value: FD_GROUP, source: "the name under which the application associates the lease's iommufd" }],
      },
      ...(window > DEFAULT_WINDOW[options.machine ?? machineFor(devices, host)] ? [windowFragment(window, devices)] : []),
      ...devices.map(({ facts: { address } }, index) =>
        hostdev(
          address,
          (nodes.initiators[index] ?? []).map(({ guest }) => guest),
        ),
      ),
      ...cells(devices, nodes),
    ],
    notes: notes(nodes),
  };
}

function windowFragment(window: bigint, devices: readonly KnownDevice[]): VmmFragment {
  const kib = String(window / KIB);
  return {
    place: "<domain><devices>",
    lines: ["<controller type='pci' index='0' model='pcie-root'>", `  <pcihole64 unit='KiB'>${kib}</pcihole64>`, "</controller>"],
    values: [windowValue("pcihole64", `${kib} KiB (${sizeWord(window)})`, devices)],
  };
}

function hostdev(address: Address, guests: readonly number[]): VmmFragment {
  const [domain, bus, slot = ""] = address.split(":");
  const [device, fn] = slot.split(".");
  return {
    place: "<domain><devices>",
    lines: [
      "<hostdev mode='subsystem' type='pci' managed='no'>",
      "  <driver name='vfio' iommufd='yes'/>",
      "  <source>",
      `    <address domain='0x${domain}' bus='0x${bus}' slot='0x${device}' function='0x${fn}'/>`,
      "  </source>",
      `  <alias name='${libvirtAlias(address)}'/>`,
      ...(guests.length === 0 ? [] : [`  <acpi nodeset='${range(guests)}'/>`]),
      "</hostdev>",
    ],
    values: [{ name: "alias", value: libvirtAlias(address), source: "made of the address: the same in every VM" }],
  };
}

function cells(devices: readonly KnownDevice[], nodes: GuestNodes): readonly VmmFragment[] {
  const guests = nodes.initiators.flat().map(({ guest }) => guest);
  if (guests.length === 0) return [];
  const { distances } = nodes;
  return [
    {
      place: "<domain><cpu><numa>",
      lines: guests.flatMap((guest) => [
        `<cell id='${guest}' memory='0' unit='KiB'${distances === null ? "/>" : ">"}`,
        ...(distances === null
          ? []
          : [
              "  <distances>",
              ...distances.nodes.map((to) => `    <sibling id='${to}' value='${distances.between(guest, to)}'/>`),
              "  </distances>",
              "</cell>",
            ]),
      ]),
      values: nodeValues(devices, nodes),
    },
  ];
}

function notes(nodes: GuestNodes): readonly VmmNote[] {
  const all: VmmNote[] = [
    {
      kind: "TO_DO",
      text: `the application acquires the lease, and before virDomainCreate gives libvirt the iommufd: virDomainFDAssociate(domain, "${FD_GROUP}", 1, &iommufd, 0)`,
    },
    {
      kind: "TO_DO",
      text: "libvirt opens the device's node /dev/vfio/devices/vfioN itself (N: /sys/bus/pci/devices/ADDRESS/vfio-dev): QEMU's user must be able to open it, and the lease's own device descriptor must be closed, unused",
    },
    { kind: "TO_DO", text: "managed='no': binding drivers and resetting is Aperture's; libvirt must not do it too" },
  ];
  if (nodes.whyNoDistances !== null) all.push({ kind: "LEFT_OUT", text: `distances: ${nodes.whyNoDistances}` });
  return all;
}
