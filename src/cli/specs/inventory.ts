// The commands that look at devices.

import type { CommandSpec } from "../command.js";

export const INVENTORY_COMMANDS: readonly CommandSpec[] = [
  {
    name: "devices",
    operands: "[ADDRESS...]",
    leastOperands: 0,
    mostOperands: 64,
    words: "address",
    takesCommand: false,
    printsData: true,
    summary: "list the devices of this host and whether they can be leased",
    description: [
      "One line a device. A device that cannot be leased says why with a code: `aperturectl explain ADDRESS` says it in words, with what to do about it.",
      "LARGEST is the largest region as its driver reports it: the padded size, not the memory behind it.",
    ],
    options: [
      { name: "leasable", value: null, summary: "only devices that could be leased now" },
      { name: "id", value: "VENDOR[:DEVICE]", summary: "only devices with these PCI ids, hexadecimal" },
    ],
    examples: [
      { line: "aperturectl devices", does: "everything that this host has" },
      { line: "aperturectl devices --leasable -o name", does: "addresses that are free, one a line" },
      { line: "aperturectl devices --id 10de", does: "every NVIDIA device" },
      {
        line: "aperturectl devices -o json | jq -r '.[] | select(.numaNode == 1) | .address'",
        does: "the devices of one NUMA node, by jq",
      },
    ],
  },
  {
    name: "device",
    operands: "ADDRESS",
    leastOperands: 1,
    mostOperands: 1,
    words: "address",
    takesCommand: false,
    printsData: true,
    summary: "show one device: its facts with their sources, its regions, its apertures drawn to scale",
    description: [
      "SIZE is what the driver reports: the padded size, which a guest's BAR must have. BACKED is what can really be mapped. What lies between is the TAIL: it reads 0xFF, " +
        "writes to it are dropped, and it cannot be mapped.",
      "MEMORY is what a CPU mapping is. No kernel interface reports it: it is the broker's table, and the source is shown beside it.",
      "Each aperture is drawn to its own scale over the whole of its padded size; any part, however small, has at least one cell. Without a UTF-8 locale the drawing is ASCII.",
    ],
    options: [],
    examples: [
      { line: "aperturectl device 0000:01:00.0", does: "everything about one device" },
      {
        line: "aperturectl device 0000:01:00.0 -o json | jq '.regions[] | {index, size, backedSize}'",
        does: "padded and real sizes, in bytes, for a program",
      },
    ],
  },
  {
    name: "explain",
    operands: "ADDRESS",
    leastOperands: 1,
    mostOperands: 1,
    words: "address",
    takesCommand: false,
    printsData: true,
    summary: "tell whether you can lease a device now, why not, and what to do next",
    description: [
      "The answer first, then everything that is in the way with its reason (docs/REASONS.md) and the next step; where root has to bind a driver, the lines to type.",
      "The exit status is what `acquire` would say now: 0 when you can have the device, 6 when nobody can, 4 when policy denies it to you. `-o name` prints YES, NOT_NOW, NO or DENIED.",
      "Policy is asked for your user and groups; a rule that looks at the program or the cgroup of the process that leases counts as one that does not match. `policy test` asks about those.",
    ],
    options: [],
    examples: [
      { line: "aperturectl explain 0000:01:00.0", does: "why can I not have it?" },
      { line: "aperturectl explain 0000:01:00.0 > /dev/null && echo free", does: "a test for scripts" },
    ],
  },
  {
    name: "watch",
    operands: "[ADDRESS...]",
    leastOperands: 0,
    mostOperands: 64,
    words: "address",
    takesCommand: false,
    printsData: true,
    summary: "print every change of the devices as it happens",
    description: ["First every device as it is (SNAPSHOT), then SYNCED, then CHANGED and REMOVED until interrupted."],
    options: [],
    examples: [
      { line: "aperturectl watch", does: "what happens on this host, line by line" },
      { line: "aperturectl watch -o jsonl 0000:01:00.0", does: "events of one device for a program" },
    ],
  },
];
