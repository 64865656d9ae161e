// Where the configuration comes from: defaults, then the file, its drop-ins in order, the environment, flags; the later is the stronger. Where each value came from is kept.

import { join } from "node:path";
import type { PeerSet } from "../broker/peer-set.js";
import { defaultPolicy, type PolicyRule } from "../broker/policy.js";
import { nearest } from "../nearest.js";
import { readConfig } from "./config-file.js";
import { readSources, type SourceFile } from "./config-folder.js";
import { DEFAULT_FILE, type Flags } from "./flags.js";
import {
  checkSetting,
  defaultSettings,
  environmentName,
  SETTING_NAMES,
  type SettingName,
  type Settings,
  settingFromText,
} from "./settings.js";

/** Where a value comes from, in words, and what it has replaced, the last first. */
export interface Origin {
  readonly from: string;
  readonly over: readonly string[];
}

export interface Config {
  readonly settings: Readonly<Settings>;
  readonly origins: ReadonlyMap<SettingName, Origin>;
  readonly policy: readonly PolicyRule[];
  /** Where each rule stands, in the order of policy. */
  readonly ruleOrigins: readonly string[];
  /** Devices that belong together, of all files. */
  readonly peers: readonly { readonly set: PeerSet; readonly origin: string }[];
  /** The files that were read, in order. */
  readonly files: readonly string[];
  /** What looks like a mistake and is none for certain. */
  readonly warnings: readonly string[];
}

export type ConfigOutcome =
  | { readonly config: Config; readonly problems: null }
  /** usage: the fault is in a flag or a variable, not in a file. */
  | { readonly config: null; readonly problems: readonly string[]; readonly usage: boolean };

export function loadConfig(flags: Flags, env: NodeJS.ProcessEnv, uid: number): ConfigOutcome {
  const named = flags.config ?? env["APERTURE_CONFIG"] ?? null;
  const sources = readSources(named ?? DEFAULT_FILE, named !== null, uid);
  const layers = new Layers();
  const problems = [...sources.problems];
  for (const file of sources.files) problems.push(...layers.addFile(file));
  if (problems.length > 0) return { config: null, problems, usage: false };

  const outside: string[] = [];
  for (const name of SETTING_NAMES) {
    const variable = environmentName(name);
    const value = env[variable];
    // Empty is not set, as everywhere; a setting that is to be empty can be given by a flag.
    if (value !== undefined && value !== "") outside.push(...layers.addText(name, value, variable));
  }
  for (const { name, value, origin } of flags.settings) outside.push(...layers.addText(name, value, origin));
  if (outside.length > 0) return { config: null, problems: outside, usage: true };
  const { settings } = layers;
  const across = checkAcross(settings);
  if (across.length > 0) return { config: null, problems: across, usage: false };
  if (settings.socket === "") settings.socket = defaultSocket(env, uid);
  const policy = layers.policy ?? defaultPolicy(uid).map((rule) => ({ rule, origin: "default" }));
  return {
    config: {
      settings,
      origins: layers.origins,
      policy: policy.map(({ rule }) => rule),
      ruleOrigins: policy.map(({ origin }) => origin),
      peers: layers.peers,
      files: sources.files.map(({ path }) => path),
      warnings: strayVariables(env),
    },
    problems: null,
  };
}

class Layers {
  readonly settings = defaultSettings();
  readonly origins = new Map<SettingName, Origin>(SETTING_NAMES.map((name) => [name, { from: "default", over: [] }]));
  /** null: no file says anything of policy, and the safe default holds. */
  policy: { rule: PolicyRule; origin: string }[] | null = null;
  readonly peers: { set: PeerSet; origin: string }[] = [];

  addFile({ path, source }: SourceFile): readonly string[] {
    const read = readConfig(path, source);
    if (read.problems) return read.problems;
    for (const [name, { value, line }] of read.config.settings) this.#set(name, value, `${path}:${line}`);
    const problems: string[] = [];
    for (const { set, line } of read.config.peers) {
      const origin = `${path}:${line}`;
      const same = this.peers.find((other) => other.set.name === set.name);
      if (same) problems.push(`${origin}: peers.name: ${JSON.stringify(set.name)} is the set at ${same.origin} already`);
      this.peers.push({ set, origin });
    }
    if (read.config.policy === null) return problems;
    this.policy ??= [];
    for (const { rule, line } of read.config.policy) {
      const origin = `${path}:${line}`;
      const same = this.policy.find((other) => other.rule.name === rule.name);
      if (same)
        problems.push(
          `${origin}: policy.name: ${JSON.stringify(rule.name)} is the rule at ${same.origin} already; a denial names its rule, so each needs a name of its own`,
        );
      this.policy.push({ rule, origin });
    }
    return problems;
  }

  addText(name: SettingName, text: string, origin: string): readonly string[] {
    const value = settingFromText(name, text);
    const problem = checkSetting(name, value);
    if (problem !== null) return [`${origin}: ${problem}`];
    this.#set(name, value, origin);
    return [];
  }

  #set(name: SettingName, value: string | number, from: string): void {
    const before = this.origins.get(name);
    const over = before && before.from !== "default" ? [before.from, ...before.over] : [];
    this.origins.set(name, { from, over });
    Object.assign(this.settings, { [name]: value });
  }
}

/** What must hold between settings. */
function checkAcross(settings: Readonly<Settings>): readonly string[] {
  const problems: string[] = [];
  const atMost = (small: SettingName, large: SettingName): void => {
    if (settings[small] > settings[large]) problems.push(`${small} (${settings[small]}) is more than ${large} (${settings[large]})`);
  };
  atMost("limits.retry_min_ms", "limits.retry_max_ms");
  // A lease of more descriptors than may be in flight could never be handed over.
  atMost("limits.descriptors_per_message", "limits.descriptors_in_flight");
  return problems;
}

/** Variables that look like ours and are none: a limit that is mistyped would silently not hold. Others may begin so too (a Kubernetes service called aperture). */
function strayVariables(env: NodeJS.ProcessEnv): readonly string[] {
  const known = new Set(["APERTURE_CONFIG", ...SETTING_NAMES.map(environmentName)]);
  return Object.keys(env)
    .filter((name) => name.startsWith("APERTURE_") && !known.has(name))
    .flatMap((name) => {
      const meant = nearest(name, [...known]);
      return meant ? [`${name} in the environment sets nothing; did you mean ${meant}?`] : [];
    });
}

/** Root: /run/aperture; others: their runtime folder. */
export function defaultSocket(env: NodeJS.ProcessEnv, uid: number): string {
  if (uid === 0) return "/run/aperture/aperture.sock";
  return join(env["XDG_RUNTIME_DIR"] ? join(env["XDG_RUNTIME_DIR"], "aperture") : `/tmp/aperture-${uid}`, "aperture.sock");
}
