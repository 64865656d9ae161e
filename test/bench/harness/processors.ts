// Which processor the server runs on and which the client: apart where there are two, so that throughput is that of one core and nobody takes the other's time.

import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";

export interface Placement {
  readonly server: number;
  readonly client: number;
}

/** The processors that this process may use. */
function allowed(): readonly number[] {
  const list = /^Cpus_allowed_list:\s*(.+)$/m.exec(readFileSync("/proc/self/status", "utf8"))?.[1] ?? "0";
  return list.split(",").flatMap((range) => {
    const [first = 0, last = first] = range.split("-").map(Number);
    return Array.from({ length: last - first + 1 }, (_, i) => first + i);
  });
}

const cpus = allowed();

/** Client on the first, server on the last. */
export const apart: Placement = { client: cpus[0] ?? 0, server: cpus.at(-1) ?? 0 };
export const together: Placement = { client: apart.server, server: apart.server };
export const twoProcessors = apart.client !== apart.server;

/** The words before a command that keep it on a processor. */
export function pinned(cpu: number): readonly string[] {
  return ["taskset", "--cpu-list", String(cpu)];
}

function idleTicks(): ReadonlyMap<number, { readonly idle: number; readonly all: number }> {
  const ticks = new Map<number, { idle: number; all: number }>();
  for (const [, cpu, rest] of readFileSync("/proc/stat", "utf8").matchAll(/^cpu(\d+) (.+)$/gm)) {
    const numbers = (rest ?? "").split(" ").map(Number);
    ticks.set(Number(cpu), { idle: (numbers[3] ?? 0) + (numbers[4] ?? 0), all: numbers.reduce((sum, n) => sum + n, 0) });
  }
  return ticks;
}

/** Waits until both processors were idle to 85 % for 100 ms, at most so long: somebody else's work would be measured as ours. False: they were not. */
export async function idle(atMostMs: number): Promise<boolean> {
  const deadline = performance.now() + atMostMs;
  for (;;) {
    const before = idleTicks();
    await sleep(100);
    const after = idleTicks();
    const free = [apart.client, apart.server].every((cpu) => {
      const [a, b] = [before.get(cpu), after.get(cpu)];
      return a === undefined || b === undefined || b.idle - a.idle >= 0.85 * (b.all - a.all);
    });
    if (free) return true;
    if (performance.now() > deadline) return false;
  }
}
