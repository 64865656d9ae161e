// The machine of the lab as a QEMU command line. Both worlds get the same one; only the kernel differs.

import {
  edu,
  graceHopper,
  groupSpoiler,
  heldResetPort,
  hotplugPort,
  ivshmem,
  nvme,
  slotOf,
  spoiledEdu,
  testdev,
  type World,
} from "./devices.js";
import { guestRam, kernelArgument } from "./grace-hopper.js";

export interface Machine {
  readonly world: World;
  /** Files. */
  readonly kernel: string;
  readonly initrd: string;
  readonly acpiTable: string;
  /** The folder that the guest sees, writable, as /results. */
  readonly results: string;
  readonly qmpSocket: string;
  /** A file, or the terminal of this process. */
  readonly console: { readonly file: string } | "terminal";
  readonly cpus: number;
}

function share(tag: string, path: string, slot: string, options: string): string[] {
  return [
    "-fsdev",
    `local,id=${tag},path=${path},security_model=none${options}`,
    "-device",
    `virtio-9p-pci,fsdev=${tag},mount_tag=${tag},addr=${slot}`,
  ];
}

function kernelCommandLine(world: World): string {
  return [
    "console=ttyS0 quiet loglevel=4",
    "intel_iommu=on iommu=nopt",
    // The kernel checks its timer against a delay loop, and panics when a busy host makes either late. So can its lockup detectors err.
    "no_timer_check nowatchdog",
    // A guest that oopses ends at once, and -no-reboot turns its end into QEMU's.
    "oops=panic panic=-1",
    // Under emulation the processor's flaws cannot be exploited and their remedies cost 15 % of the time.
    "mitigations=off",
    ...(world === "iommufd" ? [kernelArgument] : []),
  ].join(" ");
}

export function qemuArguments(machine: Machine): string[] {
  return [
    // The remapping of interrupts, without which VFIO refuses to hand out a device, exists only with QEMU's own interrupt chips.
    ...["-M", "q35,kernel-irqchip=off", "-device", "intel-iommu,intremap=on"],
    // Never KVM: nested virtualization crashes guests on build machines. Nehalem is all that Debian's programs need, and emulates faster
    // than "max", whose five-level page tables make each miss of the address cache longer.
    ...["-accel", "tcg,thread=multi", "-cpu", "Nehalem", "-smp", String(machine.cpus), "-m", guestRam],
    ...["-nodefaults", "-display", "none", "-no-reboot"],
    ...["-serial", machine.console === "terminal" ? "mon:stdio" : `file:${machine.console.file}`],
    ...["-qmp", `unix:${machine.qmpSocket},server=on,wait=off`],
    ...["-kernel", machine.kernel, "-initrd", machine.initrd, "-append", kernelCommandLine(machine.world)],
    ...["-acpitable", `file=${machine.acpiTable}`],
    // Without remap, files of different host file systems share inode numbers, and a mount in the guest lands on both.
    ...share("host", "/", "2.0", ",readonly=on,multidevs=remap"),
    ...share("results", machine.results, "3.0", ""),
    ...["-device", `edu,addr=${slotOf(edu)}`],
    ...["-device", `pci-testdev,membar=256M,addr=${slotOf(testdev)}`],
    ...["-object", "memory-backend-ram,id=ivshmem,size=64M,share=on", "-device", `ivshmem-plain,memdev=ivshmem,addr=${slotOf(ivshmem)}`],
    ...["-device", `nvme,serial=lab0,addr=${slotOf(nvme)}`],
    ...["-device", `bochs-display,addr=${slotOf(graceHopper)}`],
    // SR-IOV and hot-plug need a PCI Express port. Ports get their bus numbers in slot order: 1, 2 and 3.
    ...["-device", "pcie-root-port,id=igb-port,addr=15.0,chassis=1,slot=1", "-device", "igb,bus=igb-port,romfile="],
    ...["-device", `pcie-root-port,id=${hotplugPort.id},addr=${slotOf(hotplugPort)},chassis=2,slot=2`],
    ...["-device", `pcie-root-port,id=${heldResetPort.id},addr=${slotOf(heldResetPort)},chassis=3,slot=3`],
    ...["-device", `nvme,serial=lab1,multifunction=on,addr=${slotOf(groupSpoiler)}`, "-device", `edu,addr=${slotOf(spoiledEdu)}`],
  ];
}
