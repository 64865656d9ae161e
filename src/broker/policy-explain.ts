// A decision with its reasons: every rule that was tried, and the first thing about it that did not fit. For people, before they need it; decide() is what counts,
// and a property test holds the two together.

import { type SelectableDevice, selectorWords } from "./device-selector.js";
import { type Asked, type Caller, decide, mismatch, type PolicyRule, shortfall } from "./policy.js";
import type { Refusal } from "./refusal.js";

export interface PolicyStep {
  /** From 1. */
  readonly position: number;
  readonly rule: string;
  readonly matched: boolean;
  readonly explanation: string;
}

export interface Explanation {
  /** The rule that decided. null: none matched, which denies. */
  readonly rule: PolicyRule | null;
  /** null: allowed. */
  readonly refusal: Refusal | null;
  readonly steps: readonly PolicyStep[];
}

export function explain(rules: readonly PolicyRule[], caller: Caller, device: SelectableDevice, asked: Asked): Explanation {
  const steps: PolicyStep[] = [];
  const { refusal } = decide(rules, caller, device, asked);
  for (const [index, rule] of rules.entries()) {
    const part = mismatch(rule, caller, device);
    const matched = part === null;
    const explanation = matched ? verdict(rule, asked) : difference(part, rule, caller, device);
    steps.push({ position: index + 1, rule: rule.name, matched, explanation });
    if (matched) return { rule, refusal, steps };
  }
  return { rule: null, refusal, steps };
}

function difference(part: Exclude<ReturnType<typeof mismatch>, null>, rule: PolicyRule, caller: Caller, device: SelectableDevice): string {
  switch (part) {
    case "uid":
      return `uid ${caller.uid} is not ${oneOf(rule.uids ?? [])}`;
    case "gid": {
      const groups = caller.groups === null ? " (it has too many supplementary groups for them to count)" : "";
      const own = [...new Set([...(caller.gid === null ? [] : [caller.gid]), ...(caller.groups ?? [])])];
      return `${own.length === 0 ? "no group of it" : `none of its groups ${few(own)}`} is ${oneOf(rule.gids ?? [])}${groups}`;
    }
    case "executable":
      return `${pathWords("executable", caller.executable)} ${none(rule.executables ?? [])}`;
    case "cgroup":
      return `${pathWords("cgroup", caller.cgroup)} ${none(rule.cgroups ?? [])}`;
    case "device":
      return `${device.address} is not ${oneOf(rule.devices.map(selectorWords))}`;
  }
}

function verdict(rule: PolicyRule, asked: Asked): string {
  const words = (list: readonly string[]): string => list.join(" and ").toLowerCase();
  if (rule.kinds.length === 0) return "matches, and denies: its kind is empty";
  switch (shortfall(rule, asked)) {
    case null:
      return "matches, and allows it";
    case "kind":
      return `matches, and allows ${words(rule.kinds)} leases only, not ${asked.kind.toLowerCase()}`;
    case "mode":
      return `matches, and allows mode ${words(rule.modes)} only, not ${asked.mode.toLowerCase()}`;
    case "delegate":
      return "matches, and does not allow a lease for another process (delegate = false)";
  }
}

function pathWords(what: "executable" | "cgroup", path: string | null): string {
  return path === null ? `its ${what} is not known, and` : `${what} ${JSON.stringify(path)}`;
}

/** A directory of users can make these lists long; the reader needs the beginning. */
const SHOWN = 16;

function few(list: readonly (number | string)[]): string {
  return list.length > SHOWN ? `${list.slice(0, SHOWN).join(", ")} and ${list.length - SHOWN} more` : list.join(", ");
}

function oneOf(list: readonly (number | string)[]): string {
  return list.length === 1 ? few(list) : `one of ${few(list)}`;
}

function none(list: readonly string[]): string {
  return list.length === 1 ? `does not match ${few(list)}` : `matches none of ${few(list)}`;
}
