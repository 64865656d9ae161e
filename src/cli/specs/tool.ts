// The commands about aperturectl itself.

import type { CommandSpec } from "../command.js";

export const TOOL_COMMANDS: readonly CommandSpec[] = [
  {
    name: "help",
    operands: "[COMMAND]",
    leastOperands: 0,
    mostOperands: 2,
    words: "command",
    takesCommand: false,
    printsData: false,
    summary: "show this help, or that of a command",
    description: [],
    options: [],
    examples: [{ line: "aperturectl help exec", does: "how a command is given descriptors" }],
  },
  {
    name: "version",
    operands: "",
    leastOperands: 0,
    mostOperands: 0,
    words: "nothing",
    takesCommand: false,
    printsData: false,
    summary: "print the version of aperturectl",
    description: ["The daemon's version is shown by `aperturectl host`."],
    options: [],
    examples: [],
  },
];
