// Every command and option, once: the parser, the help and the suggestions read this table, and whatever completion or manual page comes later.

import type { CommandSpec, OptionSpec } from "./command.js";

export const GLOBAL_OPTIONS: readonly OptionSpec[] = [
  { name: "socket", value: "PATH", summary: "the daemon's socket (default: $APERTURE_SOCKET, else the system's daemon, else this user's)" },
  { name: "timeout", value: "SECONDS", summary: "longest wait for one call (default 10; acquire and release 60)" },
  { name: "output", short: "o", value: "FORMAT", summary: "table (default), json, jsonl or name" },
  { name: "help", short: "h", value: null, summary: "this help, or that of the command" },
  { name: "version", value: null, summary: "the version of aperturectl" },
];

const REGIONS: OptionSpec = {
  name: "regions",
  value: "LIST",
  summary: "lease only these VFIO regions of one device, for example 2,4",
};

export const COMMANDS: readonly CommandSpec[] = [
  {
    name: "devices",
    operands: "[ADDRESS...]",
    leastOperands: 0,
    mostOperands: 64,
    takesCommand: false,
    printsData: true,
    summary: "list the devices of this host and whether they can be leased",
    description: ["One line a device. A device that cannot be leased says why with a code; `aperturectl device ADDRESS` says it in words."],
    options: [
      { name: "leasable", value: null, summary: "only devices that could be leased now" },
      { name: "id", value: "VENDOR[:DEVICE]", summary: "only devices with these PCI ids, hexadecimal" },
    ],
    examples: [
      { line: "aperturectl devices --leasable -o name", does: "addresses that are free, one a line" },
      { line: "aperturectl devices --id 10de", does: "every NVIDIA device" },
    ],
  },
  {
    name: "device",
    operands: "ADDRESS",
    leastOperands: 1,
    mostOperands: 1,
    takesCommand: false,
    printsData: true,
    summary: "show one device: regions, group, reset methods, why it cannot be leased",
    description: [
      "SIZE is what the driver reports: the padded size, which a guest's BAR must have. BACKED is what can really be mapped. What lies between is the TAIL: it reads 0xFF, " +
        "writes to it are dropped, and it cannot be mapped.",
      "MEMORY is what a CPU mapping is. No kernel interface reports it: it is the broker's table, and the source is shown beside it.",
    ],
    options: [],
    examples: [{ line: "aperturectl device 0000:01:00.0", does: "everything about one device" }],
  },
  {
    name: "acquire",
    operands: "ADDRESS...",
    leastOperands: 1,
    mostOperands: 16,
    takesCommand: false,
    printsData: true,
    summary: "lease devices and hold them until this command is interrupted",
    description: [
      "Stays in the foreground and holds the lease until SIGINT or SIGTERM. Descriptor numbers are those of this process: to give descriptors to a program, use `exec`.",
    ],
    options: [REGIONS],
    examples: [
      { line: "aperturectl acquire 0000:01:00.0", does: "keep everybody else away from a device" },
      { line: "aperturectl acquire 0000:01:00.0 --regions 2,4", does: "lease two apertures of it" },
    ],
  },
  {
    name: "release",
    operands: "LEASE",
    leastOperands: 1,
    mostOperands: 1,
    takesCommand: false,
    printsData: true,
    summary: "end a lease of yours by its id",
    description: [
      "The broker cannot take descriptors back: a device that somebody still holds a descriptor or a mapping of goes into quarantine until that process closes it or ends.",
    ],
    options: [],
    examples: [{ line: "aperturectl release 6f9619ff-8b86-4d01-b42d-00cf4fc964ff", does: "end one lease" }],
  },
  {
    name: "leases",
    operands: "",
    leastOperands: 0,
    mostOperands: 0,
    takesCommand: false,
    printsData: true,
    summary: "list your leases; root and the daemon's user see all",
    description: ["Leases that have not ended, oldest first."],
    options: [],
    examples: [{ line: "aperturectl leases -o jsonl", does: "one JSON object a lease" }],
  },
  {
    name: "exec",
    operands: "ADDRESS... -- COMMAND [ARG...]",
    leastOperands: 1,
    mostOperands: 16,
    takesCommand: true,
    printsData: false,
    summary: "lease devices and run a command that inherits their descriptors",
    description: [
      "In COMMAND's arguments these become the number of an inherited descriptor: @iommufd, @device, @device:ADDRESS, @container, @group, @group:NUMBER, @region, @region:INDEX, " +
        "@region:ADDRESS:INDEX. Write @@ for a plain @ before one of these words.",
      "COMMAND's environment gets APERTURE_LEASE and, for each descriptor, APERTURE_FD_IOMMUFD, APERTURE_FD_DEVICE_0000_01_00_0, APERTURE_FD_REGION_0000_01_00_0_2 and so on.",
      "SIGINT, SIGTERM and SIGHUP are passed on (SIGINT from the keyboard of a terminal reaches COMMAND by itself). The lease ends with COMMAND, whose exit status becomes " +
        "this command's: 128 + N when signal N ended it.",
    ],
    options: [REGIONS],
    examples: [
      {
        line: "aperturectl exec 0000:01:00.0 -- qemu-system-x86_64 -object iommufd,id=iommufd0,fd=@iommufd -device vfio-pci,iommufd=iommufd0,fd=@device",
        does: "give a device to QEMU 9.0 or later",
      },
      { line: "aperturectl exec 0000:01:00.0 --regions 4 -- ./reader @region:4", does: "give a program one aperture" },
    ],
  },
  {
    name: "host",
    operands: "",
    leastOperands: 0,
    mostOperands: 0,
    takesCommand: false,
    printsData: true,
    summary: "show the daemon, its back end, what the kernel can do, and the limits",
    description: ["Capabilities were asked of the running kernel, never assumed from its version."],
    options: [],
    examples: [{ line: "aperturectl host", does: "which back end is in use, and why" }],
  },
  {
    name: "watch",
    operands: "[ADDRESS...]",
    leastOperands: 0,
    mostOperands: 64,
    takesCommand: false,
    printsData: true,
    summary: "print every change of the devices as it happens",
    description: ["First every device as it is (SNAPSHOT), then SYNCED, then CHANGED and REMOVED until interrupted."],
    options: [],
    examples: [{ line: "aperturectl watch -o jsonl", does: "events for a program" }],
  },
  {
    name: "help",
    operands: "[COMMAND]",
    leastOperands: 0,
    mostOperands: 1,
    takesCommand: false,
    printsData: false,
    summary: "show this help, or that of a command",
    description: [],
    options: [],
    examples: [],
  },
  {
    name: "version",
    operands: "",
    leastOperands: 0,
    mostOperands: 0,
    takesCommand: false,
    printsData: false,
    summary: "print the version of aperturectl",
    description: ["The daemon's version is shown by `aperturectl host`."],
    options: [],
    examples: [],
  },
];

export const COMMAND_NAMES: readonly string[] = COMMANDS.map(({ name }) => name);

export function findCommand(name: string): CommandSpec | null {
  return COMMANDS.find((command) => command.name === name) ?? null;
}
