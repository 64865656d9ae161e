// The commands about policy.

import type { CommandSpec } from "../command.js";

export const POLICY_COMMANDS: readonly CommandSpec[] = [
  {
    name: "policy test",
    operands: "",
    leastOperands: 0,
    mostOperands: 0,
    words: "nothing",
    takesCommand: false,
    printsData: true,
    summary: "ask what policy would answer to a lease, and why",
    description: [
      "Shows every rule that is tried, in order, with the first thing about it that does not fit. The rule that matches decides; without one the answer is no. Only policy is asked: `explain` tells whether the device itself can be leased.",
      "Root and the daemon's user may ask about anybody, everybody else about their own uid. The exit status is 4 when policy denies it.",
    ],
    options: [
      { name: "device", value: "ADDRESS", words: "address", summary: "the device (required)" },
      { name: "uid", value: "N", summary: "user that would ask (default: your own)" },
      { name: "gid", value: "N[,N...]", summary: "groups of the process, primary and supplementary (default: your own, when uid is)" },
      { name: "executable", value: "PATH", words: "file", summary: "program that the process would run (default: not known)" },
      { name: "cgroup", value: "PATH", summary: "its cgroup in the v2 hierarchy, as in /proc/PID/cgroup (default: not known)" },
      { name: "kind", value: "KIND", words: ["device", "region"], summary: "device (default) or region" },
      { name: "mode", value: "MODE", words: ["hand_off", "retain"], summary: "hand_off (default) or retain" },
      { name: "delegate", value: null, summary: "for another process, with a ticket" },
    ],
    examples: [
      {
        line: "aperturectl policy test --uid 1000 --device 0000:01:00.0",
        does: "whether a user may have a device, and which rule says so",
      },
      { line: "aperturectl policy test --device 0000:01:00.0 --kind region", does: "whether you may have regions of it" },
    ],
  },
  {
    name: "policy reload",
    operands: "",
    leastOperands: 0,
    mostOperands: 0,
    words: "nothing",
    takesCommand: false,
    printsData: true,
    summary: "make the daemon read its configuration again",
    description: [
      "Policy and the settings that can change at run time are applied, all or nothing: with a mistake in any file everything stays as it was, the mistakes are printed and the exit status is 1. What needs a restart is told. Leases that are held are not touched. `apertured config check` finds the mistakes before.",
      "For root and the daemon's user.",
    ],
    options: [],
    examples: [{ line: "apertured config check && aperturectl policy reload", does: "a new policy, if it is a good one" }],
  },
];
