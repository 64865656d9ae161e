// Where the configuration comes from: defaults, then the file, then the environment, then flags; the later is the stronger.

import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { defaultPolicy, type PolicyRule } from "../broker/policy.js";
import { nearest } from "../nearest.js";
import { readConfig } from "./config-file.js";
import { checkSetting, defaultSettings, type SettingName, type Settings } from "./settings.js";

export interface Config {
  readonly settings: Readonly<Settings>;
  readonly policy: readonly PolicyRule[];
  /** The file that was read; null: none. */
  readonly file: string | null;
}

export type ConfigOutcome =
  | { readonly kind: "run"; readonly config: Config }
  | { readonly kind: "help" }
  | { readonly kind: "version" }
  | { readonly kind: "problem"; readonly problems: readonly string[]; readonly usage: boolean };

const DEFAULT_FILE = "/etc/aperture/aperture.toml";

/** Flags that set a setting. */
const FLAG_SETTING: Readonly<Record<string, SettingName>> = {
  host: "host",
  socket: "socket",
  metrics: "metrics.listen",
  "log-level": "log.level",
};

export const USAGE = `Usage: apertured [options]

Owns this host's VFIO devices and hands descriptors and region metadata to VMMs over gRPC.

Options:
  --config FILE      configuration file (default ${DEFAULT_FILE} when it exists; APERTURE_CONFIG)
  --host BACKEND     auto, iommufd, legacy or simulated (default auto)
  --socket PATH      gRPC socket (APERTURE_SOCKET)
  --metrics ADDRESS  HOST:PORT of /metrics, or off (default 127.0.0.1:9476)
  --log-level LEVEL  trace, debug, info, warn, error or silent (default info)
  --version          print the version
  --help             print this text
`;

export function loadConfig(argv: readonly string[], env: NodeJS.ProcessEnv, uid: number): ConfigOutcome {
  const flags = readFlags(argv);
  if ("problem" in flags) return { kind: "problem", problems: [flags.problem], usage: true };
  if (flags.values["help"] === true) return { kind: "help" };
  if (flags.values["version"] === true) return { kind: "version" };

  const settings = defaultSettings();
  const named = text(flags.values["config"]) ?? env["APERTURE_CONFIG"];
  const file = named ?? (existsSync(DEFAULT_FILE) ? DEFAULT_FILE : null);
  let policy: readonly PolicyRule[] | null = null;
  if (file) {
    let source: string;
    try {
      source = readFileSync(file, "utf8");
    } catch (error) {
      const code = (error as NodeJS.ErrnoException).code ?? "error";
      return { kind: "problem", problems: [`the configuration file ${file} cannot be read: ${code}`], usage: false };
    }
    const read = readConfig(file, source);
    if (read.problems) return { kind: "problem", problems: read.problems, usage: false };
    Object.assign(settings, read.config.settings);
    policy = read.config.policy;
  }
  const overrides: [SettingName, string, string][] = [];
  if (env["APERTURE_SOCKET"]) overrides.push(["socket", env["APERTURE_SOCKET"], "APERTURE_SOCKET"]);
  for (const [flag, name] of Object.entries(FLAG_SETTING)) {
    const value = text(flags.values[flag]);
    if (value !== undefined) overrides.push([name, value, `--${flag}`]);
  }
  for (const [name, value, origin] of overrides) {
    const problem = checkSetting(name, value);
    if (problem) return { kind: "problem", problems: [`${origin}: ${problem}`], usage: true };
    Object.assign(settings, { [name]: value });
  }
  if (settings.socket === "") settings.socket = defaultSocket(env, uid);
  return { kind: "run", config: { settings, policy: policy ?? defaultPolicy(uid), file } };
}

/** Root: /run/aperture; others: their runtime folder. */
export function defaultSocket(env: NodeJS.ProcessEnv, uid: number): string {
  if (uid === 0) return "/run/aperture/aperture.sock";
  return join(env["XDG_RUNTIME_DIR"] ? join(env["XDG_RUNTIME_DIR"], "aperture") : `/tmp/aperture-${uid}`, "aperture.sock");
}

function text(value: string | boolean | undefined): string | undefined {
  return typeof value === "string" ? value : undefined;
}

const OPTIONS = {
  config: { type: "string" },
  host: { type: "string" },
  socket: { type: "string" },
  metrics: { type: "string" },
  "log-level": { type: "string" },
  help: { type: "boolean", short: "h" },
  version: { type: "boolean" },
} as const;

function readFlags(
  argv: readonly string[],
): { readonly values: Readonly<Record<string, string | boolean | undefined>> } | { readonly problem: string } {
  try {
    return { values: parseArgs({ args: [...argv], options: OPTIONS, strict: true, allowPositionals: false }).values };
  } catch (error) {
    const message = error instanceof Error ? (error.message.split(". ")[0] ?? error.message) : String(error);
    const unknown = /Unknown option '--?([^']+)'/.exec(message)?.[1];
    const meant = unknown ? nearest(unknown, Object.keys(OPTIONS)) : null;
    return { problem: meant ? `${message}; did you mean --${meant}?` : message };
  }
}
