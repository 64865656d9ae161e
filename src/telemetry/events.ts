// Every event of the log, in one table: name → level, when, fields. The code is typed against it and docs/LOGGING.md is made from it, so a search or an alert
// that is written today still works tomorrow.

export type LogLevel = "trace" | "debug" | "info" | "warn" | "error" | "silent";

interface FieldRow {
  readonly type: "text" | "number" | "list" | "peer" | "stack";
  readonly meaning: string;
}

/** A field means the same in every event. */
export const FIELDS = {
  peer: {
    type: "peer",
    meaning: "process that called: `pid` as the daemon's pid namespace numbers it (0: not visible there) and `uid`, both at connect time",
  },
  former: { type: "peer", meaning: "the holder before, as `peer`" },
  lease: { type: "text", meaning: "lease id" },
  pci_address: { type: "text", meaning: "the device" },
  pci_addresses: { type: "list", meaning: "devices of the lease, in the order of the request" },
  grace_ms: { type: "number", meaning: "milliseconds until the lease ends by itself" },
  quarantined: { type: "list", meaning: "devices that did not come free" },
  kind: { type: "text", meaning: "`DEVICE` or `REGION`" },
  from: { type: "text", meaning: "state before (LeaseState)" },
  to: { type: "text", meaning: "state after (LeaseState)" },
  by: { type: "text", meaning: "event of src/broker/lease-table.ts" },
  cause: { type: "text", meaning: "EndCause of the API, without its prefix" },
  reason: {
    type: "text",
    meaning: "reason code: docs/REASONS.md, or one of those that docs/METRICS.md lists for `aperture_peer_rejections_total`",
  },
  why: { type: "text", meaning: "what happened, in words" },
  version: { type: "text", meaning: "version of the daemon" },
  config: { type: "text", meaning: "path of the configuration file; `none`" },
  daemon_pid: { type: "number", meaning: "process id of the daemon" },
  socket: { type: "text", meaning: "path of the gRPC socket" },
  backend: { type: "text", meaning: "`IOMMUFD`, `LEGACY` or `SIMULATED`" },
  metrics: { type: "text", meaning: "address that Prometheus scrapes; `off`" },
  signal: { type: "text", meaning: "name of the signal" },
  where: { type: "text", meaning: "what was being done" },
  stack: { type: "stack", meaning: "stack trace, at most 4,096 characters" },
  changed: { type: "list", meaning: "settings that hold from now on: `name: before -> after`" },
  needs_restart: { type: "list", meaning: "settings that have changed in the configuration and not in the daemon" },
  policy_changed: { type: "number", meaning: "1: the policy is another one than before" },
  policy_rules: { type: "number", meaning: "rules of the policy, count" },
  drivers: { type: "list", meaning: "devices with their drivers before and now: `address: before -> now`" },
  count: { type: "number", meaning: "how many there are now" },
  uid: { type: "number", meaning: "user; -1: all users that had no place of their own in the limiter's memory" },
  suppressed: { type: "number", meaning: "lines left out, count" },
  seconds: { type: "number", meaning: "length of the window, seconds" },
} as const satisfies Record<string, FieldRow>;

export type FieldName = keyof typeof FIELDS;

interface EventRow {
  readonly level: Exclude<LogLevel, "silent">;
  readonly when: string;
  readonly fields: readonly FieldName[];
  /** A peer can cause it at no cost: at most 10 lines in 5 s for one user, and one of each reason (line-limit.ts). Has the fields peer and reason. */
  readonly limited?: true;
}

export const EVENTS = {
  "daemon.starting": { level: "info", when: "the configuration is read", fields: ["version", "config", "daemon_pid"] },
  "daemon.ready": { level: "info", when: "both sockets are served", fields: ["socket", "backend", "why", "metrics"] },
  "daemon.stopping": { level: "info", when: "a signal asks it to stop", fields: ["signal"] },
  "daemon.stopped": { level: "info", when: "everything is closed", fields: [] },
  "daemon.fault": { level: "error", when: "a bug, or an answer of the kernel that the code does not expect", fields: ["where", "stack"] },
  "config.reloaded": {
    level: "info",
    when: "a reload was applied",
    fields: ["changed", "needs_restart", "policy_changed", "policy_rules"],
  },
  "config.refused": { level: "error", when: "a reload found a mistake, and changed nothing; one record for each mistake", fields: ["why"] },
  "config.warning": { level: "warn", when: "the configuration, at a start or reload, holds what looks like a mistake", fields: ["why"] },
  "host.simulated": { level: "warn", when: "the devices are made of memory", fields: ["why"] },
  "peer.rejected": { level: "warn", when: "the daemon closes a connection or channel", fields: ["reason", "peer"], limited: true },
  "lease.granted": { level: "info", when: "descriptors were sent", fields: ["lease", "pci_addresses", "kind", "peer"] },
  "lease.reserved": { level: "info", when: "devices are locked for a ticket", fields: ["lease", "pci_addresses", "kind", "peer"] },
  "lease.recalled": { level: "info", when: "the holder is asked for the lease", fields: ["lease", "cause", "grace_ms"] },
  "lease.passed_on": { level: "info", when: "a successor has acknowledged", fields: ["lease", "former", "peer"] },
  "ticket.refused": { level: "info", when: "a ticket that was shown gives nothing", fields: ["reason", "why", "peer"], limited: true },
  "lease.refused": { level: "info", when: "AcquireLease was refused", fields: ["reason", "why", "peer"], limited: true },
  "lease.state": { level: "debug", when: "a claim of a lease changes state", fields: ["lease", "from", "to", "by"] },
  "lease.ended": { level: "info", when: "a lease is over", fields: ["lease", "cause", "quarantined"] },
  "device.quarantined": { level: "warn", when: "a device did not come free, or its reset failed", fields: ["pci_address", "why"] },
  "device.recovered": { level: "info", when: "a quarantined device is free again", fields: ["pci_address"] },
  "driver.bound": { level: "info", when: "devices were given to VFIO drivers", fields: ["drivers", "peer"] },
  "driver.restored": { level: "info", when: "devices were given back to what they had before", fields: ["drivers", "peer"] },
  "driver.refused": {
    level: "warn",
    when: "a change of drivers, or of virtual functions, was refused or undone",
    fields: ["reason", "why", "peer"],
  },
  "driver.late": {
    level: "warn",
    when: "the kernel has not finished a change of drivers in time; the devices stay locked",
    fields: ["pci_addresses", "why"],
  },
  "driver.settled": { level: "info", when: "it has finished that, and the devices are free again", fields: ["pci_addresses"] },
  "virtual_functions.set": { level: "info", when: "virtual functions were made or destroyed", fields: ["pci_address", "count", "peer"] },
  "log.suppressed": {
    level: "warn",
    when: "a window ends in which lines of a user were left out",
    fields: ["uid", "suppressed", "seconds"],
  },
} as const satisfies Record<string, EventRow>;

export type LogEventName = keyof typeof EVENTS;

interface FieldValue {
  readonly text: string;
  readonly number: number;
  readonly list: readonly string[];
  readonly peer: { readonly pid: number; readonly uid: number };
  readonly stack: string;
}

/** What a record of this event carries: every field of its row, nothing else. */
export type LogFields<E extends LogEventName> = {
  readonly [F in (typeof EVENTS)[E]["fields"][number]]: FieldValue[(typeof FIELDS)[F]["type"]];
};
