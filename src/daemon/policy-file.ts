// [[policy]] tables: each key checked, each mistake told at its line.

import { type DeviceSelector, parseDeviceSelector, SELECTOR_FORMS } from "../broker/device-selector.js";
import { globProblem } from "../broker/glob.js";
import type { LeaseKind, LeaseMode, PolicyRule } from "../broker/policy.js";

/** Each key of a rule, with the words of docs/CONFIG.md. */
export const POLICY_KEYS = {
  name: { form: "text", missing: "`rule N of FILE`", help: "named in every denial and log line; each rule needs its own" },
  uid: { form: 'list of numbers, or `"*"`', missing: "any", help: "users" },
  gid: { form: 'list of numbers, or `"*"`', missing: "any", help: "groups: primary or supplementary, at connect time" },
  executable: { form: "pattern, or list of them", missing: "any", help: "path of the program that the process runs" },
  cgroup: { form: "pattern, or list of them", missing: "any", help: "path of its cgroup in the v2 hierarchy" },
  device: { form: "selector, or list of them", missing: "an error", help: "devices" },
  kind: { form: "`device`, `region`, or list of them", missing: "both", help: "kinds of lease; the empty list denies" },
  mode: { form: "`hand_off`, `retain`, or list of them", missing: "`hand_off`", help: "modes of a device lease" },
  delegate: { form: "true or false", missing: "false", help: "leases for another process: by ticket, and to a successor of another user" },
  allow_device_scope: {
    ...{ form: "true or false", missing: "false" },
    help: "a region lease may be given a descriptor of the whole device where the kernel has nothing narrower: every ioctl, every region, its DMA",
  },
  allow_unreset: {
    ...{ form: "true or false", missing: "false" },
    help: "a device that cannot be reset may come from another user, with whatever it still holds of theirs",
  },
  max_leases: {
    form: "count, 0 to 65,536",
    missing: "`limits.leases_per_uid` alone",
    help: "leases that one user may hold at once under this rule",
  },
  max_duration: {
    form: "seconds, 1 to 31,536,000",
    missing: "no end",
    help: "longest time from AcquireLease until the daemon asks for the lease back",
  },
} as const satisfies Record<string, { readonly form: string; readonly missing: string; readonly help: string }>;

export const POLICY_KEY_NAMES = Object.keys(POLICY_KEYS);

/** A year: the longest that a request may ask for. */
const LONGEST_DURATION_S = 31_536_000;
const MOST_LEASES = 65_536;
const LONGEST_NAME = 1_024;
/** (uid_t)-1 is "no change" to the kernel, and nobody's number. */
const NO_ID = 0xffffffff;

/** Says what is wrong with a key. */
type Wrong = (key: string, what: string) => void;
type Table = Readonly<Record<string, unknown>>;

export function readRule(table: Table, nameless: string, wrong: Wrong): PolicyRule {
  const name = table["name"] ?? nameless;
  if (typeof name !== "string" || name === "" || name.length > LONGEST_NAME)
    wrong("name", `expected a string of 1 to ${LONGEST_NAME} characters`);
  const duration = count(table, "max_duration", { least: 1, most: LONGEST_DURATION_S, unit: "seconds" }, wrong);
  return {
    name: String(name),
    uids: ids(table, "uid", wrong),
    gids: ids(table, "gid", wrong),
    executables: globs(table, "executable", wrong),
    cgroups: globs(table, "cgroup", wrong),
    devices: selectors(table["device"], wrong),
    kinds: kinds(table["kind"], wrong),
    modes: modes(table["mode"], wrong),
    delegate: flag(table, "delegate", wrong),
    allowDeviceScope: flag(table, "allow_device_scope", wrong),
    allowUnreset: flag(table, "allow_unreset", wrong),
    maxLeases: count(table, "max_leases", { least: 0, most: MOST_LEASES, unit: "leases" }, wrong),
    maxDurationMs: duration === null ? null : duration * 1000,
  };
}

function ids(table: Table, key: string, wrong: Wrong): readonly number[] | null {
  const value = table[key];
  if (value === undefined || value === "*") return null;
  const list: readonly unknown[] = Array.isArray(value) ? value : [value];
  if (list.every((id) => Number.isSafeInteger(id) && (id as number) >= 0 && (id as number) < NO_ID)) return list as readonly number[];
  wrong(key, 'expected a list of numbers, or "*" for any; names are not looked up');
  return [];
}

function globs(table: Table, key: string, wrong: Wrong): readonly string[] | null {
  const value = table[key];
  if (value === undefined || value === "*") return null;
  const list: readonly unknown[] = Array.isArray(value) ? value : [value];
  return list.flatMap((item) => {
    const problem = typeof item === "string" ? globProblem(item) : "is no string";
    if (problem !== null) wrong(key, `${JSON.stringify(item)} ${problem}`);
    return typeof item === "string" ? [item] : [];
  });
}

function flag(table: Table, key: string, wrong: Wrong): boolean {
  const value = table[key] ?? false;
  if (typeof value !== "boolean") wrong(key, "expected true or false");
  return value === true;
}

function count(
  table: Table,
  key: string,
  bounds: { readonly least: number; readonly most: number; readonly unit: string },
  wrong: Wrong,
): number | null {
  const value = table[key] ?? null;
  if (value === null) return null;
  if (typeof value === "number" && Number.isSafeInteger(value) && value >= bounds.least && value <= bounds.most) return value;
  wrong(key, `expected a whole number of ${bounds.unit}, ${bounds.least} to ${bounds.most}`);
  return null;
}

function selectors(value: unknown, wrong: Wrong): readonly DeviceSelector[] {
  const list: readonly unknown[] = Array.isArray(value) ? value : value === undefined ? [] : [value];
  if (list.length === 0) wrong("device", `a rule names its devices: ${SELECTOR_FORMS}`);
  return list.flatMap((item) => {
    const selector = typeof item === "string" ? parseDeviceSelector(item) : null;
    if (selector === null) wrong("device", `${JSON.stringify(item)} names no device; write ${SELECTOR_FORMS}`);
    return selector === null ? [] : [selector];
  });
}

function kinds(value: unknown, wrong: Wrong): readonly LeaseKind[] {
  const list: readonly unknown[] = Array.isArray(value) ? value : value === undefined ? ["device", "region"] : [value];
  return list.flatMap((item): LeaseKind[] => {
    if (item === "device") return ["DEVICE"];
    if (item === "region") return ["REGION"];
    wrong("kind", `${JSON.stringify(item)} is neither "device" nor "region"; an empty list denies`);
    return [];
  });
}

function modes(value: unknown, wrong: Wrong): readonly LeaseMode[] {
  const list: readonly unknown[] = Array.isArray(value) ? value : value === undefined ? ["hand_off"] : [value];
  if (list.length === 0) wrong("mode", 'name at least one of "hand_off" and "retain"; to deny, leave kind empty');
  return list.flatMap((item): LeaseMode[] => {
    if (item === "hand_off") return ["HAND_OFF"];
    if (item === "retain") return ["RETAIN"];
    wrong("mode", `${JSON.stringify(item)} is neither "hand_off" nor "retain"`);
    return [];
  });
}
