// On what it was measured.

import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { cpus, release, totalmem } from "node:os";
import { twoProcessors } from "./processors.js";
import type { MachineFacts } from "./results.js";

function firstLine(command: string, args: readonly string[]): string {
  try {
    return execFileSync(command, args, { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }).split("\n")[0] ?? "";
  } catch {
    return "unknown";
  }
}

export function machineFacts(): MachineFacts {
  return {
    date: new Date().toISOString().slice(0, 16),
    kernel: release(),
    processor: cpus()[0]?.model ?? "unknown",
    processors: cpus().length,
    memoryGib: Math.round(totalmem() / 2 ** 30),
    node: process.version,
    hypervisor: /^flags\s*:.*\bhypervisor\b/m.test(readFileSync("/proc/cpuinfo", "utf8")),
    compiler: firstLine("g++", ["--version"]),
    apart: twoProcessors,
    revision: firstLine("git", ["describe", "--always", "--dirty"]),
  };
}
