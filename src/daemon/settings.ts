// Every setting of the daemon, in one table: name, type, default, bounds, meaning. The configuration file, the environment, the flags, GetHostInfo and the
// documentation all read it.

export interface NumberSetting {
  readonly type: "number";
  readonly default: number;
  readonly min: number;
  readonly max: number;
  readonly unit: "count" | "bytes" | "milliseconds";
  readonly help: string;
}

export interface TextSetting {
  readonly type: "text";
  readonly default: string;
  /** Permitted values; null: any that `check` of the reader accepts. */
  readonly oneOf: readonly string[] | null;
  readonly help: string;
}

function count(defaultValue: number, min: number, max: number, help: string): NumberSetting {
  return { type: "number", default: defaultValue, min, max, unit: "count", help };
}

function milliseconds(defaultValue: number, min: number, max: number, help: string): NumberSetting {
  return { type: "number", default: defaultValue, min, max, unit: "milliseconds", help };
}

function text(defaultValue: string, oneOf: readonly string[] | null, help: string): TextSetting {
  return { type: "text", default: defaultValue, oneOf, help };
}

/** Names with a dot stand in the table of that name in the file. */
export const SETTINGS = {
  host: text(
    "auto",
    ["auto", "iommufd", "legacy", "simulated"],
    "which back end owns the devices; auto: what this kernel has, simulated when there is no VFIO device",
  ),
  socket: text("", null, "path of the gRPC socket; the descriptor channel is beside it with .channel appended. Empty: by user, see README"),
  socket_mode: text("0660", null, "permission bits of both sockets, octal"),
  socket_group: text("", null, "group of both sockets, name or number; empty: the daemon's own"),
  peer_identity: text("pidfd", ["pidfd", "pid"], "pid: also run on kernels before 6.5, which cannot name a peer beyond doubt"),
  "metrics.listen": text("127.0.0.1:9476", null, "address and port of /metrics; off for none"),
  "log.level": text("info", ["trace", "debug", "info", "warn", "error", "silent"], "least level that is logged"),
  "inventory.rescan_ms": milliseconds(10_000, 100, 3_600_000, "time between two scans of the machine"),
  "limits.connections": count(128, 1, 65_536, "gRPC connections, and as many channels"),
  "limits.connections_per_uid": count(16, 1, 65_536, "gRPC connections of one user, and as many channels"),
  "limits.first_call_ms": milliseconds(2_000, 100, 600_000, "time from connect to the first call, or to ATTACH"),
  "limits.request_bytes": { type: "number", default: 65_536, min: 4_096, max: 4_194_304, unit: "bytes", help: "largest request" },
  "limits.streams_per_connection": count(8, 1, 1_000, "calls at once on one connection"),
  "limits.watchers": count(1_024, 1, 65_536, "watches at once"),
  "limits.ack_ms": milliseconds(2_000, 100, 600_000, "time to acknowledge an offer"),
  "limits.descriptors_in_flight": count(64, 32, 65_536, "descriptors sent and not acknowledged, over all clients"),
  "limits.leases_per_uid": count(8, 1, 65_536, "leases of one user at once"),
  "limits.ended_leases": count(1_024, 1, 1_000_000, "ended leases that are remembered"),
  "limits.ended_lease_ms": milliseconds(3_600_000, 1_000, 86_400_000, "how long an ended lease is remembered"),
  "limits.retry_min_ms": milliseconds(1_000, 10, 600_000, "first wait before a quarantined device is tried again; doubled each time"),
  "limits.retry_max_ms": milliseconds(30_000, 10, 3_600_000, "longest such wait"),
  "limits.shutdown_ms": milliseconds(2_000, 0, 600_000, "time that running calls get when the daemon stops"),
} as const satisfies Record<string, NumberSetting | TextSetting>;

export type SettingName = keyof typeof SETTINGS;
export type Settings = { -readonly [Name in SettingName]: (typeof SETTINGS)[Name]["type"] extends "number" ? number : string };

export const SETTING_NAMES = Object.keys(SETTINGS) as readonly SettingName[];

export function defaultSettings(): Settings {
  return Object.fromEntries(SETTING_NAMES.map((name) => [name, SETTINGS[name].default])) as unknown as Settings;
}

/** null when value fits the setting; else what is wrong, to stand behind its name. */
export function checkSetting(name: SettingName, value: unknown): string | null {
  const setting: NumberSetting | TextSetting = SETTINGS[name];
  if (setting.type === "number") {
    if (typeof value !== "number" || !Number.isSafeInteger(value)) return `expected a whole number of ${setting.unit}`;
    if (value < setting.min || value > setting.max) return `${value} is outside ${setting.min} to ${setting.max} ${setting.unit}`;
    return null;
  }
  if (typeof value !== "string") return "expected a string";
  if (setting.oneOf && !setting.oneOf.includes(value)) return `"${value}" is none of ${setting.oneOf.join(", ")}`;
  return null;
}
