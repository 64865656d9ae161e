// One configuration file: TOML, every key checked against the tables, every mistake told with file, line and the key that was probably meant.

import { basename } from "node:path";
import { parse, TomlError } from "smol-toml";
import type { PeerSet } from "../broker/peer-set.js";
import type { PolicyRule } from "../broker/policy.js";
import { nearest } from "../nearest.js";
import { PEER_KEY_NAMES, readPeerSet } from "./peers-file.js";
import { POLICY_KEY_NAMES, readRule } from "./policy-file.js";
import { checkSetting, isSettingName, SETTING_NAMES, type SettingName } from "./settings.js";
import { TomlLines } from "./toml-lines.js";

/** The form of the file; a later one would be told apart by it. */
const VERSION = 1;
/** Problems of one file that are told; a file of the wrong kind would make thousands. */
const MOST_PROBLEMS = 50;

export interface FileConfig {
  readonly settings: ReadonlyMap<SettingName, { readonly value: string | number; readonly line: number }>;
  /** null: the file says nothing of policy. */
  readonly policy: readonly { readonly rule: PolicyRule; readonly line: number }[] | null;
  readonly peers: readonly { readonly set: PeerSet; readonly line: number }[];
}

export type FileOutcome =
  | { readonly config: FileConfig; readonly problems: null }
  | { readonly config: null; readonly problems: readonly string[] };

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
  for (const [key, value] of Object.entries(document)) {
    if (key === "policy") reader.readPolicy(value);
    else if (key === "peers") reader.readPeers(value);
    else if (key === "version") reader.readVersion(value);
    else if (isTable(value)) for (const [inner, innerValue] of Object.entries(value)) reader.readSetting(`${key}.${inner}`, innerValue);
    else reader.readSetting(key, value);
  }
  if (reader.problems.length > 0) return { config: null, problems: reader.problems.slice(0, MOST_PROBLEMS) };
  return { config: { settings: reader.settings, policy: reader.policy, peers: reader.peers }, problems: null };
}

function isTable(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value) && !(value instanceof Date);
}

class Reader {
  readonly problems: string[] = [];
  readonly settings = new Map<SettingName, { value: string | number; line: number }>();
  policy: { rule: PolicyRule; line: number }[] | null = null;
  peers: { set: PeerSet; line: number }[] = [];
  readonly #file: string;
  readonly #lines: TomlLines;

  constructor(file: string, source: string) {
    this.#file = file;
    this.#lines = new TomlLines(source);
  }

  readVersion(value: unknown): void {
    if (value !== VERSION)
      this.#problem(this.#lines.of("version"), `version: ${JSON.stringify(value)}, where this daemon reads version = ${VERSION}`);
  }

  readSetting(name: string, value: unknown): void {
    const line = this.#lines.of(name);
    if (!isSettingName(name)) {
      this.#unknown(line, name, [...SETTING_NAMES, "policy", "peers", "version"]);
      return;
    }
    const problem = checkSetting(name, value);
    if (problem) this.#problem(line, `${name}: ${problem}`);
    else this.settings.set(name, { value: value as string | number, line });
  }

  readPolicy(value: unknown): void {
    this.policy = this.#tables("policy", value, "rule", POLICY_KEY_NAMES, (table, index, wrong) =>
      readRule(table, `rule ${index + 1} of ${basename(this.#file)}`, wrong),
    ).map(({ made, line }) => ({ rule: made, line }));
  }

  readPeers(value: unknown): void {
    this.peers = this.#tables("peers", value, "set", PEER_KEY_NAMES, (table, _index, wrong) => readPeerSet(table, wrong)).map(
      ({ made, line }) => ({ set: made, line }),
    );
  }

  /** Each [[name]] table, read, with the line of its header. what: what one is called. */
  #tables<T>(
    name: string,
    value: unknown,
    what: string,
    keys: readonly string[],
    read: (table: Record<string, unknown>, index: number, wrong: (key: string, what: string) => void) => T,
  ): readonly { readonly made: T; readonly line: number }[] {
    if (!Array.isArray(value) || !value.every(isTable)) {
      this.#problem(this.#lines.of(name), `${name}: write each ${what} as a [[${name}]] table`);
      return [];
    }
    return value.map((table, index) => {
      const at = (key: string): number => this.#lines.inTable(name, index, key);
      for (const key of Object.keys(table)) if (!keys.includes(key)) this.#unknown(at(key), key, keys, `${name}.`);
      const wrong = (key: string, problem: string): void => this.#problem(at(key), `${name}.${key}: ${problem}`);
      return { made: read(table, index, wrong), line: this.#lines.inTable(name, index, null) };
    });
  }

  #unknown(line: number, name: string, known: readonly string[], prefix = ""): void {
    const meant = nearest(name, known);
    const includes =
      name === "include" || name === "imports" ? "; further files stand in conf.d/ beside this one, and are read by themselves" : null;
    this.#problem(line, `unknown key ${prefix}${name}${includes ?? (meant ? `; did you mean ${prefix}${meant}?` : "")}`);
  }

  #problem(line: number, what: string): void {
    this.problems.push(`${this.#file}:${line}: ${what}`);
  }
}
