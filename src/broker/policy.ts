// Who may lease what. First match wins; without a match the answer is no. Pure: a decision is a function of the caller, the device, what is asked and the rules.
//
// A rule matches by who calls and which device it is about. What is asked (kind, mode, delegation) does not choose the rule: the rule that matches judges it. So a
// narrow rule stays narrow: a wider one further down never lends it what it leaves out.

import { type DeviceSelector, type SelectableDevice, selects } from "./device-selector.js";
import { globMatches } from "./glob.js";
import { granted, type Outcome, refuse } from "./refusal.js";

export type LeaseKind = "DEVICE" | "REGION";

/** What the broker keeps of a device lease: nothing, or the open files, for a successor of its holder. */
export type LeaseMode = "HAND_OFF" | "RETAIN";

export interface PolicyRule {
  /** Named in every denial and log line. */
  readonly name: string;
  /** null: any user. */
  readonly uids: readonly number[] | null;
  /** Primary or supplementary group at connect time. null: any. */
  readonly gids: readonly number[] | null;
  /** Patterns (glob.ts) of the process's executable. null: any. */
  readonly executables: readonly string[] | null;
  /** Patterns (glob.ts) of the process's cgroup. null: any. */
  readonly cgroups: readonly string[] | null;
  readonly devices: readonly DeviceSelector[];
  /** Kinds that are allowed; empty: the rule denies. */
  readonly kinds: readonly LeaseKind[];
  /** Modes that are allowed for a device lease. */
  readonly modes: readonly LeaseMode[];
  /** A lease may be made for another process (a ticket), and pass to a successor of another user. */
  readonly delegate: boolean;
  /** A region lease may be given a descriptor of the whole device when the kernel has nothing narrower. */
  readonly allowDeviceScope: boolean;
  /** A device that cannot be reset may pass from another user to this one, with whatever it still holds. */
  readonly allowUnreset: boolean;
  /** Leases a user may hold at once under this rule. null: the general limit only. */
  readonly maxLeases: number | null;
  /** Longest time from AcquireLease until the lease is recalled, milliseconds. null: no end. */
  readonly maxDurationMs: number | null;
}

/** Who calls. */
export interface Caller {
  readonly uid: number;
  /** null: none was told (a caller made of words). */
  readonly gid: number | null;
  /** Supplementary groups. null: the process has too many to keep, and none of them counts. */
  readonly groups: readonly number[] | null;
  /** null: it cannot be known, and matches no pattern. */
  readonly executable: string | null;
  /** null: it cannot be known, and matches no pattern. */
  readonly cgroup: string | null;
}

/** What is asked. */
export interface Asked {
  readonly kind: LeaseKind;
  readonly mode: LeaseMode;
  /** For another process: with a ticket. */
  readonly delegate: boolean;
}

/** The safe default: the daemon's own user, everything but the two permissions that weaken isolation. */
export function defaultPolicy(daemonUid: number): readonly PolicyRule[] {
  return [
    {
      ...{ name: "default: the daemon's own user", uids: [daemonUid], gids: null, executables: null, cgroups: null },
      ...{ devices: [{ by: "any" }], kinds: ["DEVICE", "REGION"], modes: ["HAND_OFF", "RETAIN"], delegate: true },
      ...{ allowDeviceScope: false, allowUnreset: false, maxLeases: null, maxDurationMs: null },
    },
  ];
}

/** The first thing about a rule that does not fit; null: the rule matches. */
export function mismatch(
  rule: PolicyRule,
  caller: Caller,
  device: SelectableDevice,
): "uid" | "gid" | "executable" | "cgroup" | "device" | null {
  if (rule.uids !== null && !rule.uids.includes(caller.uid)) return "uid";
  if (rule.gids !== null && !rule.gids.some((gid) => gid === caller.gid || caller.groups?.includes(gid))) return "gid";
  if (rule.executables !== null && !fits(rule.executables, caller.executable)) return "executable";
  if (rule.cgroups !== null && !fits(rule.cgroups, caller.cgroup)) return "cgroup";
  return rule.devices.some((selector) => selects(selector, device)) ? null : "device";
}

function fits(patterns: readonly string[], path: string | null): boolean {
  return path !== null && patterns.some((pattern) => globMatches(pattern, path));
}

/** What a rule that matches does not allow of what is asked; null: nothing. */
export function shortfall(rule: PolicyRule, asked: Asked): "kind" | "mode" | "delegate" | null {
  if (!rule.kinds.includes(asked.kind)) return "kind";
  if (asked.kind === "DEVICE" && !rule.modes.includes(asked.mode)) return "mode";
  return asked.delegate && !rule.delegate ? "delegate" : null;
}

/** The rule that allows it, or POLICY_DENIED naming the rule that denies it. */
export function decide(rules: readonly PolicyRule[], caller: Caller, device: SelectableDevice, asked: Asked): Outcome<PolicyRule> {
  const rule = rules.find((candidate) => mismatch(candidate, caller, device) === null);
  const metadata = { address: device.address, uid: String(caller.uid) };
  if (!rule) return refuse("POLICY_DENIED", `${wish(caller, device, asked)}: no policy rule covers it`, metadata);
  const short = shortfall(rule, asked);
  if (short === null) return granted(rule);
  const what = rule.kinds.length === 0 ? "denied" : `${SHORTFALL_WORDS[short](asked)} is not allowed`;
  const message = `${wish(caller, device, asked)}: ${what} by policy rule "${rule.name}"`;
  return refuse("POLICY_DENIED", message, { ...metadata, rule: rule.name });
}

const SHORTFALL_WORDS: Readonly<Record<"kind" | "mode" | "delegate", (asked: Asked) => string>> = {
  kind: ({ kind }) => `a ${kind.toLowerCase()} lease`,
  mode: ({ mode }) => `mode ${mode.toLowerCase()}`,
  delegate: () => "a lease for another process",
};

function wish(caller: Caller, device: SelectableDevice, asked: Asked): string {
  const forOther = asked.delegate ? " for another process" : "";
  return `uid ${caller.uid} may not take a ${asked.kind.toLowerCase()} lease of ${device.address}${forOther}`;
}
