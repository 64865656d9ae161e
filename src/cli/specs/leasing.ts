// The commands that take, hold and end leases.

import type { CommandSpec, OptionSpec } from "../command.js";
import { PLACEHOLDERS } from "../placeholder.js";

const REGIONS: OptionSpec = {
  name: "regions",
  value: "LIST",
  summary: "lease only these VFIO regions of one device, for example 2,4",
};

export const LEASING_COMMANDS: readonly CommandSpec[] = [
  {
    name: "exec",
    operands: "ADDRESS... -- COMMAND [ARG...]",
    leastOperands: 1,
    mostOperands: 16,
    words: "leasable address",
    takesCommand: true,
    printsData: false,
    summary: "lease devices and run a command that inherits their descriptors",
    description: [
      `In COMMAND's arguments these words become the number of an inherited descriptor, also inside a word such as fd=@device: ${PLACEHOLDERS.map(({ text }) => `\`${text}\``).join(", ")}. ` +
        "Write @@ for a plain @ before one of them. A word that is nearly one of them is refused; mail addresses stay what they are.",
      "COMMAND's environment gets APERTURE_LEASE and, for each descriptor, APERTURE_FD_IOMMUFD, APERTURE_FD_DEVICE_0000_01_00_0, APERTURE_FD_REGION_0000_01_00_0_2 and so on.",
      "Signals are passed on: SIGTERM, SIGHUP, SIGINT, SIGQUIT, SIGUSR1, SIGUSR2, SIGALRM, SIGWINCH, SIGCONT, SIGTSTP. What a terminal sends to its foreground job (Ctrl-C, Ctrl-\\, Ctrl-Z, a new size) " +
        "reaches COMMAND by itself. Job control works as without aperturectl.",
      "The lease ends with COMMAND, whose exit status becomes this command's: 128 + N when signal N ended it. When aperturectl itself is killed the lease ends too, but COMMAND keeps its descriptors, " +
        "and the devices stay in quarantine until it has closed them.",
    ],
    options: [REGIONS],
    examples: [
      {
        line: "aperturectl exec 0000:01:00.0 -- qemu-system-x86_64 -object iommufd,id=iommufd0,fd=@iommufd -device vfio-pci,id=gpu0,iommufd=iommufd0,fd=@device",
        does: "give a device to QEMU 9.0 or later",
      },
      { line: "aperturectl exec 0000:01:00.0 --regions 4 -- ./reader @region:4", does: "give a program one aperture" },
    ],
  },
  {
    name: "acquire",
    operands: "ADDRESS...",
    leastOperands: 1,
    mostOperands: 16,
    words: "leasable address",
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
    name: "leases",
    operands: "",
    leastOperands: 0,
    mostOperands: 0,
    words: "nothing",
    takesCommand: false,
    printsData: true,
    summary: "list your leases; root and the daemon's user see all",
    description: ["Leases that have not ended, oldest first."],
    options: [],
    examples: [
      { line: "aperturectl leases", does: "who has what" },
      { line: "aperturectl leases -o jsonl", does: "one JSON object a lease" },
    ],
  },
  {
    name: "release",
    operands: "LEASE",
    leastOperands: 1,
    mostOperands: 1,
    words: "lease",
    takesCommand: false,
    printsData: true,
    summary: "end a lease of yours by its id",
    description: [
      "The broker cannot take descriptors back: a device that somebody still holds a descriptor or a mapping of goes into quarantine until that process closes it or ends.",
    ],
    options: [],
    examples: [{ line: "aperturectl release 6f9619ff-8b86-4d01-b42d-00cf4fc964ff", does: "end one lease" }],
  },
];
