// Descriptors of a process, seen from outside. Compared for equality: a leak of one is a failure, and the list says what leaked.

import assert from "node:assert/strict";
import { readdirSync, readlinkSync } from "node:fs";
import { until } from "./until.js";

/** What each descriptor of the process is, sorted. Inode numbers of sockets and pipes are left out: they differ although nothing leaked. */
export function descriptorsOf(pid: number): readonly string[] {
  const folder = `/proc/${pid}/fd`;
  const targets = readdirSync(folder).flatMap((number) => {
    try {
      return [readlinkSync(`${folder}/${number}`).replace(/:\[\d+\]$/, "")];
    } catch {
      // Closed between the two calls.
      return [];
    }
  });
  return targets.sort();
}

/** Waits until the process has exactly these descriptors again. */
export async function settlesAt(pid: number, before: readonly string[], deadlineMs = 10_000): Promise<void> {
  const same = (now: readonly string[]): boolean => now.length === before.length && now.every((target, i) => target === before[i]);
  try {
    await until("descriptors", () => descriptorsOf(pid), same, deadlineMs);
  } catch {
    assert.deepEqual(descriptorsOf(pid), before, "the daemon's descriptors are not what they were");
  }
}
