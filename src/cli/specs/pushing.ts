// The commands that give devices to VMs that somebody else has started.

import type { CommandSpec } from "../command.js";
import { MAX_DURATION, TICKET } from "./leasing.js";

export const PUSHING_COMMANDS: readonly CommandSpec[] = [
  {
    name: "plug",
    operands: "[ADDRESS...]",
    leastOperands: 0,
    mostOperands: 16,
    words: "leasable address",
    takesCommand: false,
    printsData: true,
    summary: "lease devices and plug them into a running VM, until this command is interrupted",
    description: [
      "With --qmp into a QEMU (9.0 or later), with --cloud-hypervisor into a Cloud Hypervisor (53.0 or later) that was started with --platform iommufd_fd=. The VMM needs no path to the devices. Several devices are one lease, and all or none.",
      "Stays in the foreground and holds the lease. SIGINT, SIGTERM and SIGHUP take the devices out of the VM again, wait until the VMM has let go, and end the lease; a second one does not wait. The same happens when the daemon asks for the " +
        "lease back. When the VM ends, or its guest lets go of the devices by itself, the lease ends and so does this command, with 0.",
      "A QMP socket serves one client at a time, and this command stays connected to it: give QEMU a monitor of its own for it (a second -qmp).",
      "The lease is this process's, and the descriptors are the VMM's: when this command is killed, the lease ends, and the devices stay in quarantine until the VMM has closed them.",
    ],
    options: [
      { name: "qmp", value: "SOCKET", summary: "the VM is the QEMU with this QMP socket", words: "file" },
      { name: "cloud-hypervisor", value: "SOCKET", summary: "the VM is the Cloud Hypervisor with this API socket", words: "file" },
      {
        name: "bus",
        value: "LIST",
        summary: "QEMU's bus for each device in order, for example rp1,rp2: a PCI Express port takes one (default: QEMU chooses)",
      },
      { name: "id", value: "LIST", summary: "the VMM's name for each device in order (default: vfio-0000-01-00-0 and so on)" },
      { name: "unplug-timeout", value: "SECONDS", summary: "how long the guest may take to let go of a device (default 60)" },
      MAX_DURATION,
      TICKET,
    ],
    examples: [
      { line: "aperturectl plug 0000:01:00.0 --qmp /run/vm1/qmp-aperture --bus rp1", does: "give a device to a running QEMU" },
      { line: "aperturectl plug 0000:01:00.0 --cloud-hypervisor /run/vm1/api", does: "give a device to a running Cloud Hypervisor" },
    ],
  },
  {
    name: "serve-iommufd",
    operands: "[ADDRESS...]",
    leastOperands: 0,
    mostOperands: 16,
    words: "leasable address",
    takesCommand: false,
    printsData: true,
    summary: "lease devices and give their iommufd to the one process that asks for it at a socket (KubeVirt)",
    description: [
      "Makes the socket that KubeVirt's virt-launcher looks for at /var/run/kubevirt/iommufd.sock in its pod: who connects first gets one byte and one descriptor, answers one byte, and the socket is gone. One VM, one socket.",
      "Then holds the lease in the foreground until SIGINT, SIGTERM or SIGHUP. When nobody comes in time, or who comes does not answer as it should, the lease is given back.",
    ],
    options: [
      { name: "at", value: "PATH", summary: "where the socket is made; nothing may be there", words: "file" },
      { name: "owner", value: "UID", summary: "user who owns the socket and so may connect (default: the one who runs this command)" },
      { name: "permissions", value: "OCTAL", summary: "mode of the socket (default 600)" },
      { name: "wait", value: "SECONDS", summary: "how long to wait for somebody to come (default 900)" },
      MAX_DURATION,
      TICKET,
    ],
    examples: [
      {
        line: "aperturectl serve-iommufd 0000:01:00.0 --at /run/aperture/vm1.sock --owner 107",
        does: "a socket to be mounted into one pod, for virt-launcher's user",
      },
    ],
  },
];
