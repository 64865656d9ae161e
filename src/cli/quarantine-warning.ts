// What a person must know when a lease ended and a device did not come free with it.

import type { Lease } from "../client/index.js";
import { printable } from "./printable.js";
import type { Terminal } from "./terminal.js";

export function warnQuarantined(lease: Lease, terminal: Terminal): void {
  for (const address of lease.quarantined) {
    terminal.message(
      `aperturectl: ${printable(address)} is in quarantine: a process still holds a descriptor or a mapping of it, or its reset failed; ` +
        `\`aperturectl device ${printable(address)}\` tells which`,
      "yellow",
    );
  }
}
