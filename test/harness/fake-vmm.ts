// A program that passes for a VMM: asked for its version it says one, started it tells its arguments, what its descriptors are, and its limit of locked memory, and ends.
// It is copied under a VMM's name, because exec asks only such for a version. FAKE_VERSION: what --version prints; "never": it says nothing and does not end.

import { readdirSync, readFileSync, readlinkSync } from "node:fs";

const [, , ...argv] = process.argv;

function descriptors(): Record<string, string> {
  const all: Record<string, string> = {};
  for (const fd of readdirSync("/proc/self/fd")) {
    try {
      if (Number(fd) > 2) all[fd] = readlinkSync(`/proc/self/fd/${fd}`);
    } catch {
      // The one of the folder itself.
    }
  }
  return all;
}

function memlock(): string {
  return /^Max locked memory\s+(\S+)\s+(\S+)/m.exec(readFileSync("/proc/self/limits", "latin1"))?.slice(1, 3).join(" ") ?? "";
}

const version = process.env["FAKE_VERSION"] ?? "";
if (argv[0] === "--version" && version === "never") setInterval(() => undefined, 1 << 30);
else if (argv[0] === "--version") process.stdout.write(`${version}\n`);
else process.stdout.write(`${JSON.stringify({ argv, fds: descriptors(), memlock: memlock() })}\n`);
