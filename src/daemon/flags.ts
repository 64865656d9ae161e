// The command line of apertured.

import { parseArgs } from "node:util";
import { nearest } from "../nearest.js";
import { isSettingName, SETTING_NAMES, type SettingName } from "./settings.js";

export const DEFAULT_FILE = "/etc/aperture/aperture.toml";

/** Flags that set a setting. */
export const FLAG_SETTING: Readonly<Record<string, SettingName>> = {
  host: "host",
  socket: "socket",
  metrics: "metrics.listen",
  "log-level": "log.level",
};

export const CONFIG_COMMANDS = ["check", "default", "dump"] as const;
export type ConfigCommand = (typeof CONFIG_COMMANDS)[number];

export const USAGE = `Usage: apertured [options]
       apertured config check|default|dump [options]

Owns this host's VFIO devices and hands descriptors and region metadata to VMMs over gRPC.

Commands:
  config check       read the whole configuration, say what is wrong with it, exit 1 when something is
  config default     print a file with every setting, its default, unit and range
  config dump        print the configuration in effect, and where each value comes from

Options:
  --config FILE      configuration file (default ${DEFAULT_FILE} when it exists; APERTURE_CONFIG);
                     the files of conf.d/ beside it are read after it
  --host BACKEND     auto, iommufd, legacy or simulated (default auto)
  --socket PATH      gRPC socket (APERTURE_SOCKET)
  --metrics ADDRESS  HOST:PORT of /metrics, or off (default 127.0.0.1:9476)
  --log-level LEVEL  trace, debug, info, warn, error or silent (default info)
  --set NAME=VALUE   any setting, for example --set limits.ack_ms=5000; may be given often
  --version          print the version
  --help             print this text

Every setting can also come from the environment: limits.ack_ms from APERTURE_LIMITS__ACK_MS. A flag is stronger than the environment, the environment than a
file, a later file than an earlier one. SIGHUP, or \`aperturectl policy reload\`, reads the configuration again. docs/CONFIG.md has every setting.
`;

export interface Flags {
  readonly config: string | null;
  /** In order; the later is the stronger. */
  readonly settings: readonly { readonly name: SettingName; readonly value: string; readonly origin: string }[];
}

export type FlagsOutcome =
  | { readonly kind: "run"; readonly flags: Flags }
  | { readonly kind: "config"; readonly command: ConfigCommand; readonly flags: Flags }
  | { readonly kind: "help" }
  | { readonly kind: "version" }
  | { readonly kind: "problem"; readonly problem: string };

const OPTIONS = {
  config: { type: "string" },
  host: { type: "string" },
  socket: { type: "string" },
  metrics: { type: "string" },
  "log-level": { type: "string" },
  set: { type: "string", multiple: true },
  help: { type: "boolean", short: "h" },
  version: { type: "boolean" },
} as const;

export function readFlags(argv: readonly string[]): FlagsOutcome {
  const [first, second] = argv;
  const ofConfig = first === "config" && second !== undefined && !second.startsWith("-");
  const command = ofConfig ? (CONFIG_COMMANDS.find((name) => name === second) ?? null) : null;
  if (first === "config" && command === null) {
    const meant = second === undefined ? null : nearest(second, CONFIG_COMMANDS);
    return problem(`config takes one of ${CONFIG_COMMANDS.join(", ")}${meant ? `; did you mean ${meant}?` : ""}`);
  }
  let values: ReturnType<typeof parse>;
  try {
    values = parse(command === null ? argv : argv.slice(2));
  } catch (error) {
    const message = error instanceof Error ? (error.message.split(". ")[0] ?? error.message) : String(error);
    const unknown = /Unknown option '--?([^']+)'/.exec(message)?.[1];
    const meant = unknown ? nearest(unknown, Object.keys(OPTIONS)) : null;
    return problem(meant ? `${message}; did you mean --${meant}?` : message);
  }
  if (values.help === true) return { kind: "help" };
  if (values.version === true) return { kind: "version" };
  const settings: { name: SettingName; value: string; origin: string }[] = [];
  for (const [flag, name] of Object.entries(FLAG_SETTING)) {
    const value = values[flag as keyof typeof values];
    if (typeof value === "string") settings.push({ name, value, origin: `--${flag}` });
  }
  for (const assignment of values.set ?? []) {
    const equals = assignment.indexOf("=");
    if (equals < 1) return problem(`--set ${assignment}: write --set NAME=VALUE`);
    const name = assignment.slice(0, equals);
    if (!isSettingName(name)) {
      const meant = nearest(name, SETTING_NAMES);
      return problem(`--set ${name}: there is no such setting${meant ? `; did you mean ${meant}?` : ""}`);
    }
    settings.push({ name, value: assignment.slice(equals + 1), origin: `--set ${name}` });
  }
  const flags = { config: values.config ?? null, settings };
  return command === null ? { kind: "run", flags } : { kind: "config", command, flags };
}

function parse(args: readonly string[]) {
  return parseArgs({ args: [...args], options: OPTIONS, strict: true, allowPositionals: false }).values;
}

function problem(words: string): FlagsOutcome {
  return { kind: "problem", problem: words };
}
