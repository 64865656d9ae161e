// The commands about the daemon and its host.

import type { CommandSpec } from "../command.js";

export const HOST_COMMANDS: readonly CommandSpec[] = [
  {
    name: "host",
    operands: "",
    leastOperands: 0,
    mostOperands: 0,
    words: "nothing",
    takesCommand: false,
    printsData: true,
    summary: "show the daemon, its back end, what the kernel can do, and the limits",
    description: ["Capabilities were asked of the running kernel, never assumed from its version."],
    options: [],
    examples: [
      { line: "aperturectl host", does: "which back end is in use, and why" },
      { line: "aperturectl host -o json | jq .simulated", does: "whether these are real devices" },
    ],
  },
  {
    name: "rescan",
    operands: "",
    leastOperands: 0,
    mostOperands: 0,
    words: "nothing",
    takesCommand: false,
    printsData: true,
    summary: "make the daemon look at the machine's devices now",
    description: [
      "Answers when that is done. A device that is new is still being read then: `aperturectl watch` shows when it is ready. For root and the daemon's user; nobody has to do it, the daemon looks by itself.",
    ],
    options: [],
    examples: [{ line: "aperturectl rescan && aperturectl devices", does: "what is there, after having bound a driver" }],
  },
  {
    name: "doctor",
    operands: "",
    leastOperands: 0,
    mostOperands: 0,
    words: "nothing",
    takesCommand: false,
    printsData: true,
    summary: "check the way to the daemon, this process's limits and the host, and say what to do",
    description: [
      "Each check is ok, a note (worth knowing, perhaps intended) or a PROBLEM. The exit status is 0 without a problem, 1 with one, 4 or 5 when the daemon cannot be reached.",
      "Limits are those that a command started from here would inherit: run it as the user, and in the shell or the unit, from which the VMM is started.",
    ],
    options: [],
    examples: [
      { line: "aperturectl doctor", does: "the first thing to run when something does not work" },
      { line: "sudo -u vmm aperturectl doctor", does: "the same for the user that runs VMMs" },
    ],
  },
];
