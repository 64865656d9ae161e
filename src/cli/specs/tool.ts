// The commands about aperturectl itself.

import type { CommandSpec } from "../command.js";
import { SHELLS } from "../completion-scripts.js";

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
    name: "completion",
    operands: "SHELL",
    leastOperands: 1,
    mostOperands: 1,
    words: SHELLS,
    takesCommand: false,
    printsData: false,
    summary: "print the completion script of a shell: bash, zsh or fish",
    description: [
      "Commands, options and values come from this aperturectl; addresses and lease ids are asked of the daemon at each TAB, for a second at most. Without a daemon there are none, and no error.",
    ],
    options: [],
    examples: [
      { line: "source <(aperturectl completion bash)", does: "bash: now; put the line into ~/.bashrc for always" },
      { line: "source <(aperturectl completion zsh)", does: "zsh, after compinit" },
      { line: "aperturectl completion fish > ~/.config/fish/completions/aperturectl.fish", does: "fish, for always" },
    ],
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
