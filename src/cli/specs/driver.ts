// The commands that change which driver has a device.

import type { CommandSpec } from "../command.js";

const FOR_WHOM = "For root and the daemon's user.";

export const DRIVER_COMMANDS: readonly CommandSpec[] = [
  {
    name: "driver bind",
    operands: "ADDRESS",
    leastOperands: 1,
    mostOperands: 1,
    words: "address",
    takesCommand: false,
    printsData: true,
    summary: "give a device to its VFIO driver, so that it can be leased",
    description: [
      "Chooses the variant driver made for the device before plain vfio-pci, loads its module, and remembers what the device had before. Only devices that nobody holds are touched: a leased one is refused, and so is one that a process, a file system or a route uses, after `limits.driver_ms` of waiting for them to let go.",
      "The kernel gives an IOMMU group away as a whole. Where other members are not on VFIO the command says which, and does nothing without --whole-group. When one member cannot be moved, those that were go back.",
      FOR_WHOM,
    ],
    options: [
      { name: "driver", value: "NAME", summary: "this VFIO driver instead of the best" },
      { name: "whole-group", value: null, summary: "take the other members of its IOMMU group from their drivers too" },
    ],
    examples: [
      { line: "aperturectl driver bind 0000:01:00.0", does: "make a device leasable" },
      { line: "aperturectl driver bind 0000:31:00.0 --whole-group", does: "a GPU with the audio function beside it" },
    ],
  },
  {
    name: "driver restore",
    operands: "ADDRESS",
    leastOperands: 1,
    mostOperands: 1,
    words: "address",
    takesCommand: false,
    printsData: true,
    summary: "give a device back to the driver that it had before `driver bind`",
    description: [
      "driver_override is put back too, and members of its IOMMU group that the daemon has taken go back with it. What a device had before is remembered over a restart of the daemon; what somebody else has bound is not touched.",
      FOR_WHOM,
    ],
    options: [],
    examples: [{ line: "aperturectl driver restore 0000:01:00.0", does: "the host has its disk again" }],
  },
  {
    name: "vfs",
    operands: "ADDRESS COUNT",
    leastOperands: 2,
    mostOperands: 2,
    words: "address",
    takesCommand: false,
    printsData: true,
    summary: "make COUNT virtual functions of a physical one, or destroy them with 0",
    description: [
      "Nobody may hold the physical function, nor, when they are destroyed, any of its virtual ones. New ones have no driver: `driver bind` gives them to VFIO. From one number to another the way is over 0.",
      FOR_WHOM,
    ],
    options: [],
    examples: [
      { line: "aperturectl vfs 0000:41:00.0 2 -o name", does: "the addresses of two new functions" },
      { line: "aperturectl vfs 0000:41:00.0 0", does: "none any more" },
    ],
  },
];
