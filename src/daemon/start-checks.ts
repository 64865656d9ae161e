// What must hold before the daemon serves anybody: found at start and said with what to do, not at the first lease.

import { readFileSync } from "node:fs";
import type { HostCapability } from "../broker/ports.js";
import { native } from "../native.js";
import type { Settings } from "./settings.js";

/** Descriptors that Node, the addon, logs and metrics use by themselves; measured 25 to 30, with room. */
const BASE_DESCRIPTORS = 64;
/** A lease of a device: container, group and device, or iommufd and device, while they are open; regions of one: up to 16. */
const DESCRIPTORS_PER_LEASE = 4;

/** Why the daemon cannot run with this RLIMIT_NOFILE, or null. Beyond it Node accepts and closes connections without a word, and no device opens. */
export function checkDescriptorLimit(settings: Readonly<Settings>): string | null {
  const limit = native.nofileLimit();
  if (limit.error) return `RLIMIT_NOFILE cannot be read: ${limit.error.code}`;
  const [soft, hard] = limit.value;
  // A connection costs its socket and, for a process not seen before, its pidfd.
  const needed =
    BASE_DESCRIPTORS +
    3 * settings["limits.connections"] +
    DESCRIPTORS_PER_LEASE * 2 * settings["limits.leases_per_uid"] +
    settings["limits.descriptors_in_flight"];
  if (soft >= BigInt(needed)) return null;
  return (
    `RLIMIT_NOFILE is ${soft} (hard limit ${hard}), and the configured limits need ${needed} descriptors. ` +
    `Raise it (ulimit -n, or LimitNOFILE= in the unit), or lower limits.connections`
  );
}

/** What this kernel tells about peers, asked of a socket pair's end: here, of our own process. */
export function peerCapabilities(): readonly HostCapability[] {
  const self = native.pidfdOpen(process.pid);
  if (self.error) {
    const detail = `pidfd_open: ${self.error.code}`;
    return [
      { name: "peer_pidfd", availability: "UNAVAILABLE", detail },
      { name: "pidfd_inode", availability: "UNAVAILABLE", detail },
    ];
  }
  const inode = native.pidfdInode(self.value);
  native.closeDescriptor(self.value);
  const [major = 0, minor = 0] = kernelVersion();
  const peer = major > 6 || (major === 6 && minor >= 5);
  return [
    {
      name: "peer_pidfd",
      availability: peer ? "AVAILABLE" : "UNAVAILABLE",
      detail: `SO_PEERPIDFD is in Linux 6.5 and later; this is ${major}.${minor}`,
    },
    {
      name: "pidfd_inode",
      availability: inode === null ? "UNAVAILABLE" : "AVAILABLE",
      detail: inode === null ? "pidfds have no inode numbers of their own (before 6.9)" : "pidfs: fstat of a pidfd",
    },
  ];
}

export function checkPeerIdentity(settings: Readonly<Settings>, capabilities: readonly HostCapability[]): string | null {
  if (settings.peer_identity === "pid") return null;
  const found = capabilities.find((capability) => capability.name === "peer_pidfd");
  if (found?.availability === "AVAILABLE") return null;
  return (
    `this kernel cannot say beyond doubt which process is behind a socket (${found?.detail ?? "unknown"}). ` +
    'Use Linux 6.6 or later, or set peer_identity = "pid" and accept that a pid reused at the wrong moment goes unnoticed'
  );
}

function kernelVersion(): readonly number[] {
  return readFileSync("/proc/sys/kernel/osrelease", "utf8").split(/[.-]/).map(Number);
}
