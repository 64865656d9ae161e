// Rules that can never decide anything, because an earlier one matches whatever they match. Compares one rule with one other: a rule that several earlier ones cover
// together is not found, and a pattern counts as covered only where that is certain.

import type { DeviceSelector } from "./device-selector.js";
import { globMatches } from "./glob.js";
import type { PolicyRule } from "./policy.js";

/** The first of the earlier rules that covers the one at index; null: none does. */
export function coveredBy(rules: readonly PolicyRule[], index: number): PolicyRule | null {
  const later = rules[index];
  if (!later) return null;
  return rules.slice(0, index).find((earlier) => covers(earlier, later)) ?? null;
}

/** It names nobody or nothing: an empty list. */
export function matchesNobody(rule: PolicyRule): boolean {
  return [rule.uids, rule.gids, rule.executables, rule.cgroups].some((list) => list !== null && list.length === 0);
}

function covers(earlier: PolicyRule, later: PolicyRule): boolean {
  return (
    includes(earlier.uids, later.uids, (a, b) => a === b) &&
    includes(earlier.gids, later.gids, (a, b) => a === b) &&
    includes(earlier.executables, later.executables, patternCovers) &&
    includes(earlier.cgroups, later.cgroups, patternCovers) &&
    later.devices.every((small) => earlier.devices.some((large) => selectorCovers(large, small)))
  );
}

function includes<T>(large: readonly T[] | null, small: readonly T[] | null, contains: (large: T, small: T) => boolean): boolean {
  if (large === null) return true;
  return small !== null ? small.every((one) => large.some((other) => contains(other, one))) : false;
}

function patternCovers(large: string, small: string): boolean {
  if (large === small || large === "**" || large === "/**") return true;
  return !small.includes("*") && globMatches(large, small);
}

function selectorCovers(large: DeviceSelector, small: DeviceSelector): boolean {
  if (large.by === "any") return true;
  if (large.by === "id" && small.by === "id")
    return large.vendorId === small.vendorId && (large.deviceId === null || large.deviceId === small.deviceId);
  if (large.by === "class" && small.by === "class") return small.digits.startsWith(large.digits);
  return JSON.stringify(large) === JSON.stringify(small);
}
