// The commands that take, hold and end leases.

import type { CommandSpec, OptionSpec } from "../command.js";
import { PLACEHOLDERS } from "../placeholder.js";
import { FOR_VMM, GUEST_OPTIONS } from "../vmm-options.js";

const REGIONS: OptionSpec = {
  name: "regions",
  value: "LIST",
  summary: "lease only these VFIO regions of one device, for example 2,4",
};

export const MAX_DURATION: OptionSpec = {
  name: "max-duration",
  value: "SECONDS",
  summary: "the daemon asks for the lease back after so long (default: as long as policy allows)",
};

const TERMS: readonly OptionSpec[] = [
  {
    name: "mode",
    value: "MODE",
    summary: "hand_off (default), or retain: the lease can pass to a successor process",
    words: ["hand_off", "retain"],
  },
  MAX_DURATION,
];

export const TICKET: OptionSpec = {
  name: "ticket",
  value: "FROM",
  summary: "take the lease of a ticket instead of naming devices: a file, `-` for stdin, or `env` for $APERTURE_TICKET",
  words: "file",
};

const FOR_WHOM: readonly OptionSpec[] = [
  { name: "uid", value: "UID", summary: "only a process of this user may use the ticket (default: any that knows it)" },
  {
    name: "lifetime",
    value: "SECONDS",
    summary: "how long the ticket can be used: 1 to 900 (default 60), unless the daemon is configured otherwise",
  },
];

export const LEASING_COMMANDS: readonly CommandSpec[] = [
  {
    name: "exec",
    operands: "[ADDRESS...] -- COMMAND [ARG...]",
    leastOperands: 0,
    mostOperands: 16,
    words: "leasable address",
    takesCommand: true,
    printsData: false,
    summary: "lease devices and run a command that inherits their descriptors",
    description: [
      `In COMMAND's arguments these words become the number of an inherited descriptor, also inside a word such as fd=@device: ${PLACEHOLDERS.map(({ text }) => `\`${text}\``).join(", ")}. ` +
        "Write @@ for a plain @ before one of them. A word that is nearly one of them is refused; mail addresses stay what they are.",
      "COMMAND's environment gets APERTURE_LEASE and, for each descriptor, APERTURE_FD_IOMMUFD, APERTURE_FD_DEVICE_0000_01_00_0, APERTURE_FD_REGION_0000_01_00_0_2 and so on.",
      "With --for, the word @args, as a whole argument, becomes all arguments that VMM (qemu, cloud-hypervisor) needs for the devices, as `args` prints them. A VMM that is too old is refused before anything is " +
        "leased (exit status 126), and RLIMIT_MEMLOCK is raised as far as this process may: to what --guest-memory says, or the command's own -m or --memory when it is plain. What it may not raise is said on stderr.",
      "Signals are passed on: SIGTERM, SIGHUP, SIGINT, SIGQUIT, SIGUSR1, SIGUSR2, SIGALRM, SIGWINCH, SIGCONT, SIGTSTP. What a terminal sends to its foreground job (Ctrl-C, Ctrl-\\, Ctrl-Z, a new size) " +
        "reaches COMMAND by itself. Job control works as without aperturectl.",
      "The lease ends with COMMAND, whose exit status becomes this command's: 128 + N when signal N ended it. When aperturectl itself is killed the lease ends too, but COMMAND keeps its descriptors, " +
        "and the devices stay in quarantine until it has closed them.",
      "When the daemon asks for the lease back (a device is leaving the machine, or its time is over), this is said on stderr, and COMMAND goes on: only it knows how to let go of a device.",
      "A ticket is a secret, and every user can read the arguments of a process: so --ticket names where it is read from, and never is the ticket itself.",
    ],
    options: [REGIONS, ...TERMS, TICKET, FOR_VMM, ...GUEST_OPTIONS],
    examples: [
      {
        line: "aperturectl exec 0000:01:00.0 --for qemu -- qemu-system-x86_64 -M q35 -m 4G @args",
        does: "give a device to QEMU 9.0 or later",
      },
      {
        line: "aperturectl exec 0000:01:00.0 -- ./vmm --iommufd @iommufd --device @device",
        does: "give it to a VMM of one's own",
      },
      { line: "aperturectl exec 0000:01:00.0 --regions 4 -- ./reader @region:4", does: "give a program one aperture" },
      { line: "APERTURE_TICKET=... aperturectl exec --ticket env -- ./vmm @device", does: "take what somebody else has reserved" },
    ],
  },
  {
    name: "acquire",
    operands: "[ADDRESS...]",
    leastOperands: 0,
    mostOperands: 16,
    words: "leasable address",
    takesCommand: false,
    printsData: true,
    summary: "lease devices and hold them until this command is interrupted",
    description: [
      "Stays in the foreground and holds the lease until SIGINT or SIGTERM. Descriptor numbers are those of this process: to give descriptors to a program, use `exec`.",
    ],
    options: [REGIONS, ...TERMS, TICKET],
    examples: [
      { line: "aperturectl acquire 0000:01:00.0", does: "keep everybody else away from a device" },
      { line: "aperturectl acquire 0000:01:00.0 --regions 2,4", does: "lease two apertures of it" },
    ],
  },
  {
    name: "reserve",
    operands: "ADDRESS...",
    leastOperands: 1,
    mostOperands: 16,
    words: "leasable address",
    takesCommand: false,
    printsData: true,
    summary: "lock devices for another process, and print the ticket with which it takes them",
    description: [
      "The ticket is 32 hexadecimal digits, a secret, and works once. Nothing is opened before it is used; when nobody uses it in time the devices are free again. This command ends at once.",
      "Policy must allow it (delegate = true). The lease counts as yours; it ends with the process that takes it, and by `aperturectl release`.",
    ],
    options: [REGIONS, ...TERMS, ...FOR_WHOM],
    examples: [
      {
        line: "aperturectl reserve 0000:01:00.0 --uid 64055 -o name | sudo -u '#64055' aperturectl exec --ticket - -- ./vmm @device",
        does: "give a device to a VMM of another user, which needs no rule of its own",
      },
    ],
  },
  {
    name: "successor",
    operands: "LEASE",
    leastOperands: 1,
    mostOperands: 1,
    words: "lease",
    takesCommand: false,
    printsData: true,
    summary: "print a ticket with which another process takes a lease over (mode retain)",
    description: [
      "Until the ticket is used or too old, the exit of the holder does not end the lease. The successor gets the same open files: on iommufd they are bound already.",
    ],
    options: FOR_WHOM,
    examples: [
      {
        line: "aperturectl successor 6f9619ff-8b86-4d01-b42d-00cf4fc964ff -o name",
        does: "let a new VMM process take over from the old one",
      },
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
    options: [
      { name: "watch", value: null, summary: "go on: every lease as it is (SNAPSHOT), SYNCED, then CHANGED and ENDED until interrupted" },
    ],
    examples: [
      { line: "aperturectl leases", does: "who has what" },
      { line: "aperturectl leases --watch", does: "see leases come and go" },
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
