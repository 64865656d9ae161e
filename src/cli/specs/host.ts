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
];
