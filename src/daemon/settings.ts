// Every setting of the daemon, in one table: name, type, default, bounds, meaning, and whether a reload can change it. The configuration file, the environment, the
// flags, GetHostInfo, `apertured config` and docs/CONFIG.md all read it.

interface Common {
  readonly help: string;
  /** A reload applies it; else it needs a restart. */
  readonly live: boolean;
}

export interface NumberSetting extends Common {
  readonly type: "number";
  readonly default: number;
  readonly min: number;
  readonly max: number;
  readonly unit: "count" | "bytes" | "milliseconds";
}

export interface TextSetting extends Common {
  readonly type: "text";
  readonly default: string;
  /** Permitted values; null: what `form` permits. */
  readonly oneOf: readonly string[] | null;
  /** The form of a value, and how to name it; null: any text. */
  readonly form: { readonly pattern: RegExp; readonly words: string } | null;
}

export type Setting = NumberSetting | TextSetting;

/** How a number behaves on a reload. */
type When = "live" | "restart";

function count(when: When, defaultValue: number, min: number, max: number, help: string): NumberSetting {
  return { type: "number", default: defaultValue, min, max, unit: "count", help, live: when === "live" };
}

function milliseconds(when: When, defaultValue: number, min: number, max: number, help: string): NumberSetting {
  return { type: "number", default: defaultValue, min, max, unit: "milliseconds", help, live: when === "live" };
}

function bytes(when: When, defaultValue: number, min: number, max: number, help: string): NumberSetting {
  return { type: "number", default: defaultValue, min, max, unit: "bytes", help, live: when === "live" };
}

function choice(when: When, defaultValue: string, oneOf: readonly string[], help: string): TextSetting {
  return { type: "text", default: defaultValue, oneOf, form: null, help, live: when === "live" };
}

function text(defaultValue: string, form: TextSetting["form"], help: string): TextSetting {
  return { type: "text", default: defaultValue, oneOf: null, form, help, live: false };
}

const HOUR = 3_600_000;
const TEN_MINUTES = 600_000;
const ADDRESS = {
  pattern: /^(?:off|.+:(?:\d{1,4}|[1-5]\d{4}|6[0-4]\d{3}|65[0-4]\d\d|655[0-2]\d|6553[0-5]))$/,
  words: "HOST:PORT; say off for none",
};

/** Names with a dot stand in the table of that name in the file. */
export const SETTINGS = {
  host: choice(
    "restart",
    "auto",
    ["auto", "iommufd", "legacy", "simulated"],
    "which back end owns the devices; auto: what this kernel has, simulated when there is no VFIO device",
  ),
  socket: text("", null, "path of the gRPC socket; the descriptor channel is beside it with .channel appended. Empty: by user, see README"),
  socket_mode: text("0660", { pattern: /^0?[0-7]{3}$/, words: "octal mode such as 0660" }, "permission bits of both sockets, octal"),
  socket_group: text("", null, "group of both sockets, name or number; empty: the daemon's own"),
  peer_identity: choice("restart", "pidfd", ["pidfd", "pid"], "pid: also run on kernels before 6.5, which cannot name a peer beyond doubt"),
  "metrics.listen": text("127.0.0.1:9476", ADDRESS, "address and port of /metrics; off for none"),
  "log.level": choice("live", "info", ["trace", "debug", "info", "warn", "error", "silent"], "least level that is logged"),
  "inventory.rescan_ms": milliseconds("live", 10_000, 100, HOUR, "time between two scans of the machine"),
  "inventory.first_probes_ms": milliseconds(
    "restart",
    5_000,
    0,
    TEN_MINUTES,
    "how long the start waits for devices to be read; those that take longer are read while the others are served",
  ),
  "limits.connections": count("live", 128, 1, 65_536, "gRPC connections, and as many channels"),
  "limits.connections_per_uid": count("live", 16, 1, 65_536, "gRPC connections of one user, and as many channels"),
  "limits.first_call_ms": milliseconds("live", 2_000, 100, TEN_MINUTES, "time from connect to the first call, or to ATTACH"),
  "limits.request_bytes": bytes("restart", 65_536, 4_096, 4_194_304, "largest request"),
  "limits.streams_per_connection": count("restart", 8, 1, 1_000, "calls at once on one connection"),
  "limits.keepalive_ms": milliseconds(
    "restart",
    30_000,
    1_000,
    HOUR,
    "a connection that is silent for so long is asked whether its client lives",
  ),
  "limits.keepalive_timeout_ms": milliseconds("restart", 20_000, 1_000, TEN_MINUTES, "time that the client has to answer that"),
  "limits.session_memory_mib": count("restart", 10, 1, 1_024, "MiB of memory that one connection may use in the HTTP/2 library"),
  "limits.watchers": count("live", 1_024, 1, 65_536, "watches at once"),
  "limits.ack_ms": milliseconds("live", 2_000, 100, TEN_MINUTES, "time to acknowledge an offer"),
  "limits.descriptors_in_flight": count("live", 64, 32, 65_536, "descriptors sent and not acknowledged, over all clients"),
  "limits.descriptors_per_message": count("restart", 32, 3, 32, "descriptors of one lease: they go in one message"),
  "limits.leases_per_uid": count("live", 8, 1, 65_536, "leases of one user at once"),
  "limits.ended_leases": count("live", 1_024, 1, 1_000_000, "ended leases that are remembered"),
  "limits.ended_lease_ms": milliseconds("live", HOUR, 1_000, 24 * HOUR, "how long an ended lease is remembered"),
  "limits.retry_min_ms": milliseconds(
    "live",
    1_000,
    10,
    TEN_MINUTES,
    "first wait before a quarantined device is tried again; doubled each time",
  ),
  "limits.retry_max_ms": milliseconds("live", 30_000, 10, HOUR, "longest such wait"),
  "limits.call_ms": milliseconds(
    "live",
    70_000,
    1_000,
    HOUR,
    "longest time in which a call is answered that waits for a device; the kernel itself waits up to 60 s for one in a reset",
  ),
  "limits.driver_ms": milliseconds(
    "live",
    15_000,
    100,
    TEN_MINUTES,
    "longest wait, when drivers are changed, for whoever holds a device to let go, and for the kernel to move it",
  ),
  "limits.ticket_ms": milliseconds("live", 60_000, 1_000, 900_000, "how long a ticket works when its request does not say"),
  "limits.ticket_max_ms": milliseconds("live", 900_000, 1_000, 900_000, "longest time that a request may ask for"),
  "limits.session_requests": count("live", 32, 1, 1_024, "requests of one Session that wait for their answers; no more are read meanwhile"),
  "limits.recall_grace_ms": milliseconds("live", 30_000, 0, 24 * HOUR, "from the recall of a lease to its end"),
  "limits.shutdown_ms": milliseconds("live", 2_000, 0, TEN_MINUTES, "time that running calls get when the daemon stops"),
} as const satisfies Record<string, Setting>;

export type SettingName = keyof typeof SETTINGS;
export type Settings = { -readonly [Name in SettingName]: (typeof SETTINGS)[Name]["type"] extends "number" ? number : string };

export const SETTING_NAMES = Object.keys(SETTINGS) as readonly SettingName[];

export function isSettingName(name: string): name is SettingName {
  return Object.hasOwn(SETTINGS, name);
}

export function defaultSettings(): Settings {
  return Object.fromEntries(SETTING_NAMES.map((name) => [name, SETTINGS[name].default])) as unknown as Settings;
}

/** null when value fits the setting; else what is wrong, to stand behind its name. */
export function checkSetting(name: SettingName, value: unknown): string | null {
  const setting: Setting = SETTINGS[name];
  if (setting.type === "number") {
    if (typeof value !== "number" || !Number.isSafeInteger(value)) return `expected a whole number of ${setting.unit}`;
    if (value < setting.min || value > setting.max) return `${value} is outside ${setting.min} to ${setting.max} ${setting.unit}`;
    return null;
  }
  if (typeof value !== "string") return "expected a string";
  // Of a path or a group the kernel would see what stands before the NUL.
  if (value.includes("\0")) return "holds a NUL";
  if (setting.oneOf && !setting.oneOf.includes(value)) return `${JSON.stringify(value)} is none of ${setting.oneOf.join(", ")}`;
  if (setting.form && !setting.form.pattern.test(value)) return `${JSON.stringify(value)} is no ${setting.form.words}`;
  return null;
}

/** What text (of the environment, of a flag) says for a setting: a number is written as in TOML, 65_536. Not yet checked. */
export function settingFromText(name: SettingName, value: string): string | number {
  if (SETTINGS[name].type === "text" || !/^\d+(?:_\d+)*$/.test(value)) return value;
  return Number(value.replaceAll("_", ""));
}

/** The variable of the environment that sets it: APERTURE_ and the name in capitals, a dot as two underscores. */
export function environmentName(name: SettingName): string {
  return `APERTURE_${name.toUpperCase().replaceAll(".", "__")}`;
}
