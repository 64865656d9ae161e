// The commands for those who run virtual machines.

import type { CommandSpec } from "../command.js";
import { FOR_VMM, GUEST_OPTIONS } from "../vmm-options.js";

export const VMM_COMMANDS: readonly CommandSpec[] = [
  {
    name: "args",
    operands: "[ADDRESS...]",
    leastOperands: 0,
    mostOperands: 16,
    words: "address",
    takesCommand: false,
    printsData: true,
    summary: "print what a stock VMM is started with to have devices: arguments, XML or YAML, each value with its source",
    description: [
      "Takes nothing and opens nothing. @iommufd and @device:ADDRESS stand where numbers of descriptors go: `exec --for VMM` puts both in, the arguments and the numbers.",
      "Sizes are the padded ones that a guest's BARs must have; NUMA nodes and distances are the host's. What cannot be known is left out, and said. docs/vmm/ has a page for each VMM.",
      "-o name prints the lines alone; of a command line one argument a line, not quoted.",
    ],
    options: [
      { ...FOR_VMM, summary: `${FOR_VMM.summary} (required)` },
      { name: "lease", value: "LEASE", words: "lease", summary: "the devices of this lease instead of ADDRESSes" },
      ...GUEST_OPTIONS,
      {
        name: "resource",
        value: "NAME",
        summary: "KubeVirt: the resource name of the cluster's device plugin, for example example.com/gpu",
      },
    ],
    examples: [
      { line: "aperturectl args --for qemu 0000:01:00.0", does: "what QEMU is started with" },
      { line: "aperturectl args --for libvirt 0009:01:00.0", does: "parts of a domain's XML for a Grace GPU, with its NUMA nodes" },
      { line: "aperturectl args --for qemu 0000:01:00.0 --guest-memory 16G -o json | jq .memlock", does: "how much a VMM has to lock" },
    ],
  },
];
