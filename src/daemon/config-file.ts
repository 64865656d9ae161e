// The configuration file: TOML, every key checked against the table, every mistake told with file, line and the key that was probably meant.

import { parse, TomlError } from "smol-toml";
import { type DeviceSelector, parseDeviceSelector, SELECTOR_FORMS } from "../broker/device-selector.js";
import { globProblem } from "../broker/glob.js";
import type { LeaseKind, LeaseMode, PolicyRule } from "../broker/policy.js";
import { nearest } from "../nearest.js";
import { checkSetting, SETTING_NAMES, type SettingName, type Settings } from "./settings.js";

export interface FileConfig {
  readonly settings: Partial<Settings>;
  /** null: the file says nothing of policy, and the safe default holds. */
  readonly policy: readonly PolicyRule[] | null;
}

export type FileOutcome =
  | { readonly config: FileConfig; readonly problems: null }
  | { readonly config: null; readonly problems: readonly string[] };

const POLICY_KEYS = [
  ...["name", "uid", "gid", "executable", "cgroup", "device", "kind", "mode", "delegate"],
  ...["allow_device_scope", "allow_unreset", "max_leases", "max_duration"],
];

/** A year: the longest that a request may ask for. */
const LONGEST_DURATION_S = 31_536_000;

export function readConfig(file: string, source: string): FileOutcome {
  let document: Record<string, unknown>;
  try {
    document = parse(source);
  } catch (error) {
    if (!(error instanceof TomlError)) throw error;
    const [what] = error.message.split("\n");
    return { config: null, problems: [`${file}:${error.line}: ${(what ?? "").replace(/^Invalid TOML document: /, "")}`] };
  }
  const reader = new Reader(file, source);
  const settings: Partial<Record<SettingName, unknown>> = {};
  let policy: readonly PolicyRule[] | null = null;
  for (const [key, value] of Object.entries(document)) {
    if (key === "policy") policy = reader.policy(value);
    else if (isTable(value))
      for (const [inner, innerValue] of Object.entries(value)) reader.setting(settings, `${key}.${inner}`, innerValue);
    else reader.setting(settings, key, value);
  }
  if (reader.problems.length > 0) return { config: null, problems: reader.problems };
  return { config: { settings: settings as Partial<Settings>, policy }, problems: null };
}

function isTable(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value) && !(value instanceof Date);
}

class Reader {
  readonly problems: string[] = [];
  readonly #file: string;
  readonly #lines: readonly string[];

  constructor(file: string, source: string) {
    this.#file = file;
    this.#lines = source.split("\n");
  }

  setting(into: Partial<Record<SettingName, unknown>>, name: string, value: unknown): void {
    if (!(SETTING_NAMES as readonly string[]).includes(name)) {
      this.#unknown(name, [...SETTING_NAMES, "policy"]);
      return;
    }
    const problem = checkSetting(name as SettingName, value);
    if (problem) this.#problem(this.#lineOf(name), `${name}: ${problem}`);
    else into[name as SettingName] = value;
  }

  policy(value: unknown): readonly PolicyRule[] {
    if (!Array.isArray(value) || !value.every(isTable)) {
      this.#problem(this.#lineOf("policy"), "policy: write each rule as a [[policy]] table");
      return [];
    }
    return value.map((rule, i) => this.#rule(rule, i));
  }

  #rule(rule: Record<string, unknown>, index: number): PolicyRule {
    const at = (key: string): number => this.#lineInRule(index, key);
    const wrong = (key: string, what: string): void => this.#problem(at(key), `policy.${key}: ${what}`);
    for (const key of Object.keys(rule)) if (!POLICY_KEYS.includes(key)) this.#unknown(key, POLICY_KEYS, at(key), "policy.");
    const name = rule["name"] ?? `rule ${index + 1}`;
    if (typeof name !== "string" || name === "") wrong("name", "expected a string");
    const ids = (key: string): readonly number[] | null => {
      const list = rule[key];
      if (list === undefined || list === "*") return null;
      if (Array.isArray(list) && list.every((id) => Number.isSafeInteger(id) && id >= 0 && id < 0xffffffff)) return list as number[];
      wrong(key, 'expected a list of numbers, or "*" for any');
      return [];
    };
    const flag = (key: string): boolean => {
      const value = rule[key] ?? false;
      if (typeof value !== "boolean") wrong(key, "expected true or false");
      return value === true;
    };
    const count = (key: string, least: number, most: number, unit: string): number | null => {
      const value = rule[key] ?? null;
      if (value === null || (typeof value === "number" && Number.isSafeInteger(value) && value >= least && value <= most)) return value;
      wrong(key, `expected a whole number of ${unit}, ${least} to ${most}`);
      return null;
    };
    const duration = count("max_duration", 1, LONGEST_DURATION_S, "seconds");
    const globs = (key: string): readonly string[] | null => {
      const value = rule[key];
      if (value === undefined || value === "*") return null;
      const list: readonly unknown[] = Array.isArray(value) ? value : [value];
      return list.flatMap((item) => {
        const problem = typeof item === "string" ? globProblem(item) : "is no string";
        if (problem) wrong(key, `${JSON.stringify(item)} ${problem}`);
        return typeof item === "string" ? [item] : [];
      });
    };
    return {
      name: String(name),
      uids: ids("uid"),
      gids: ids("gid"),
      executables: globs("executable"),
      cgroups: globs("cgroup"),
      devices: this.#selectors(rule["device"], wrong),
      kinds: this.#kinds(rule["kind"], wrong),
      modes: this.#modes(rule["mode"], wrong),
      delegate: flag("delegate"),
      allowDeviceScope: flag("allow_device_scope"),
      allowUnreset: flag("allow_unreset"),
      maxLeases: count("max_leases", 0, 65_536, "leases"),
      maxDurationMs: duration === null ? null : duration * 1000,
    };
  }

  #selectors(value: unknown, wrong: (key: string, what: string) => void): readonly DeviceSelector[] {
    const list: readonly unknown[] = Array.isArray(value) ? value : value === undefined ? [] : [value];
    if (list.length === 0) wrong("device", `a rule names its devices: ${SELECTOR_FORMS}`);
    return list.flatMap((item) => {
      const selector = typeof item === "string" ? parseDeviceSelector(item) : null;
      if (!selector) wrong("device", `${JSON.stringify(item)} names no device; write ${SELECTOR_FORMS}`);
      return selector ? [selector] : [];
    });
  }

  #kinds(value: unknown, wrong: (key: string, what: string) => void): readonly LeaseKind[] {
    const list: readonly unknown[] = Array.isArray(value) ? value : value === undefined ? ["device", "region"] : [value];
    return list.flatMap((item): LeaseKind[] => {
      if (item === "device") return ["DEVICE"];
      if (item === "region") return ["REGION"];
      wrong("kind", `${JSON.stringify(item)} is neither "device" nor "region"; an empty list denies`);
      return [];
    });
  }

  #modes(value: unknown, wrong: (key: string, what: string) => void): readonly LeaseMode[] {
    const list: readonly unknown[] = Array.isArray(value) ? value : value === undefined ? ["hand_off"] : [value];
    if (list.length === 0) wrong("mode", 'name at least one of "hand_off" and "retain"; to deny, leave kind empty');
    return list.flatMap((item): LeaseMode[] => {
      if (item === "hand_off") return ["HAND_OFF"];
      if (item === "retain") return ["RETAIN"];
      wrong("mode", `${JSON.stringify(item)} is neither "hand_off" nor "retain"`);
      return [];
    });
  }

  #unknown(name: string, known: readonly string[], line = this.#lineOf(name), prefix = ""): void {
    const meant = nearest(name, known);
    this.#problem(line, `unknown key ${prefix}${name}${meant ? `; did you mean ${prefix}${meant}?` : ""}`);
  }

  #problem(line: number, what: string): void {
    this.problems.push(`${this.#file}:${line}: ${what}`);
  }

  // The parser gives values without places, so the line is found in the text: a key in its table, in order.
  #lineOf(name: string): number {
    const dot = name.lastIndexOf(".");
    const table = dot < 0 ? "" : name.slice(0, dot);
    const key = name.slice(dot + 1);
    let current = "";
    for (const [i, line] of this.#lines.entries()) {
      const header = /^\s*\[\[?\s*([^\]]+?)\s*\]\]?/.exec(line);
      if (header?.[1]) {
        current = header[1];
        if (current === name) return i + 1;
      } else if ((current === table && keyOf(line) === key) || (current === "" && keyOf(line) === name)) return i + 1;
    }
    return 1;
  }

  #lineInRule(index: number, key: string): number {
    let rule = -1;
    let header = 1;
    for (const [i, line] of this.#lines.entries()) {
      if (/^\s*\[\[\s*policy\s*\]\]/.test(line)) {
        rule += 1;
        if (rule === index) header = i + 1;
      } else if (rule === index && keyOf(line) === key) return i + 1;
    }
    return header;
  }
}

function keyOf(line: string): string | null {
  const match = /^\s*(?:"([^"]+)"|([A-Za-z0-9_.-]+))\s*=/.exec(line);
  return match?.[1] ?? match?.[2] ?? null;
}
