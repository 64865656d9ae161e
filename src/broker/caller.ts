// From a process to what policy knows of it. What it runs and where is read only when a rule looks at that.

import { globMatches } from "./glob.js";
import type { Caller, PolicyRule } from "./policy.js";
import type { Peer } from "./ports.js";
import { granted, type Outcome, refuse } from "./refusal.js";

export function needsProgram(rules: readonly PolicyRule[]): boolean {
  return rules.some((rule) => rule.executables !== null || rule.cgroups !== null);
}

/** For rules that do not look at the program. */
export function callerOf({ uid, gid, groups }: Peer): Caller {
  return { uid, gid, groups, executable: null, cgroup: null };
}

/** With its program, for the rules as they are when it is known. Refusal PEER_GONE: the process has exited, and what was read may be another's. */
export async function identify(peer: Peer, rulesNow: () => readonly PolicyRule[]): Promise<Outcome<Caller>> {
  for (;;) {
    const rules = rulesNow();
    const named = (path: string): boolean => rules.some((rule) => rule.executables?.some((pattern) => globMatches(pattern, path)));
    const program = await peer.program(named);
    if (!peer.isAlive()) return refuse("PEER_GONE", `process ${peer.pid} has exited`);
    // A policy that came meanwhile may name other executables.
    if (rulesNow() === rules) return granted({ ...callerOf(peer), ...program });
  }
}
