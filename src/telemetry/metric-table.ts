// Every metric, in one table: name → type, unit, help, labels with their values. The code is typed against it, docs/METRICS.md is made from it, and a test compares both
// with a running daemon. Labels are bounded by the code or by the host's devices × states: never a pid, a lease or a name that a client chose.

import type { BackendName } from "../broker/device.js";
import { LEASE_STATES } from "../broker/lease-table.js";
import type { EndCause, HandoverResult, HostChange, HostOperation, OpenRequest, RecallCause } from "../broker/ports.js";
import { type GoodbyeReason, REASONS, type Reason, reasonRow } from "../broker/refusal.js";

export interface MetricRow {
  readonly type: "counter" | "gauge" | "histogram";
  /** Of one sample; ends the HELP text. */
  readonly unit: string;
  readonly help: string;
  /** Label → all its values; or, where the code does not know them, what bounds them. */
  readonly labels: Readonly<Record<string, readonly string[] | string>>;
}

/** The members of a union, in lower case: one that is added does not compile until it is here. */
function all<Member extends string>(members: Readonly<Record<Member, true>>): readonly string[] {
  return Object.keys(members).map((member) => member.toLowerCase());
}

const BACKENDS = all<BackendName>({ IOMMUFD: true, LEGACY: true, SIMULATED: true });
const KINDS = all<OpenRequest["kind"]>({ DEVICE: true, REGION: true });
const STATES = LEASE_STATES.map((state) => state.toLowerCase());
const END_CAUSES = all<EndCause>({
  ...{ RELEASED: true, HOLDER_DIED: true, NOT_ACKNOWLEDGED: true, SHORT_HANDOVER: true, HANDOVER_FAILED: true },
  ...{ DEVICE_REMOVED: true, TICKET_EXPIRED: true, EXPIRED: true, SESSION_ENDED: true, OPEN_FAILED: true },
});
const RECALL_CAUSES = all<RecallCause>({ DEVICE_REMOVED: true, EXPIRED: true });
const HANDOVER_RESULTS = all<HandoverResult["result"] | "SEND_FAILED">({
  ...{ ACKNOWLEDGED: true, SHORT: true, NOT_ACKNOWLEDGED: true, SEND_FAILED: true },
});
const HOST_CHANGES = all<HostChange["kind"]>({ DEVICES: true, ALL: true, CLOSED: true });
const OPERATIONS = all<HostOperation>({
  ...{ open: true, probe: true, prove: true, reset: true, scan: true, driver_bind: true, driver_restore: true, virtual_functions: true },
});

/** Why the daemon closes a connection or a channel by itself. The reasons among them are what a GOODBYE says. */
export type PeerRejection =
  | ("INVISIBLE_PID" | "NO_PIDFD" | "EXITED" | "WATCH_FAILED" | "CONNECTION_LIMIT" | "CHANNEL_LIMIT" | "NO_FIRST_CALL" | "STARVED")
  | GoodbyeReason;

const REJECTIONS: Readonly<Record<PeerRejection, true>> = {
  ...{ INVISIBLE_PID: true, NO_PIDFD: true, EXITED: true, WATCH_FAILED: true, CONNECTION_LIMIT: true, CHANNEL_LIMIT: true },
  ...{ NO_FIRST_CALL: true, STARVED: true, PROTOCOL_VIOLATION: true, FOREIGN_SENDER: true, ATTACH_TIMEOUT: true, HANDOVER_FAILED: true },
  ...{ DRAINING: true, TICKET_UNKNOWN: true },
};

export const CALL_KINDS = ["unary", "client_stream", "server_stream", "bidi_stream"] as const;

/** google.rpc.Code in the spelling of the gRPC libraries. */
const CODES = [
  ...["OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED"],
  ...["RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"],
  "UNAUTHENTICATED",
];

/** Every reason that a call can be refused with. Too many to list twice. */
export const REASON_LABELS: readonly string[] = (Object.keys(REASONS) as Reason[]).filter((reason) => reasonRow(reason).told !== "GOODBYE");

const PCI_ADDRESS = "a device of this host";
const CALL = { grpc_type: CALL_KINDS, grpc_service: "a service of this server", grpc_method: "a method of this server" } as const;

export const METRICS = {
  aperture_build_info: {
    ...{ type: "gauge", unit: "always 1", help: "Version and back end of this daemon" },
    labels: { version: "the daemon's version", backend: BACKENDS },
  },
  aperture_device_info: {
    ...{ type: "gauge", unit: "always 1", help: "What a device is; join the other series of a device with this one on pci_address" },
    labels: {
      pci_address: PCI_ADDRESS,
      vendor_id: "4 hexadecimal digits",
      device_id: "4 hexadecimal digits",
      class: "6 hexadecimal digits",
      driver: "name of the bound driver (empty: none)",
      iommu_group: "number of the IOMMU group (empty: none)",
      numa_node: "number of the NUMA node (empty: not known)",
    },
  },
  aperture_device_state: {
    ...{ type: "gauge", unit: "1 for the state it is in; the other states have no series", help: "State of a device in the book" },
    labels: { pci_address: PCI_ADDRESS, state: STATES },
  },
  aperture_device_quarantine_start_timestamp_seconds: {
    ...{ type: "gauge", unit: "seconds since the epoch", help: "Since when a device is in quarantine; no series when it is not" },
    labels: { pci_address: PCI_ADDRESS },
  },
  aperture_devices: { type: "gauge", unit: "devices", help: "Devices by their state in the book", labels: { state: STATES } },
  aperture_devices_leasable: { type: "gauge", unit: "devices", help: "Devices that are free and could be leased now", labels: {} },
  aperture_device_quarantines_total: { type: "counter", unit: "devices", help: "Times that a device was quarantined", labels: {} },
  aperture_device_recoveries_total: { type: "counter", unit: "devices", help: "Times that a quarantined device came free", labels: {} },
  aperture_leases: { type: "gauge", unit: "leases", help: "Leases that have not ended", labels: {} },
  aperture_leases_granted_total: { type: "counter", unit: "leases", help: "Leases whose descriptors were sent", labels: { kind: KINDS } },
  aperture_leases_reserved_total: {
    ...{ type: "counter", unit: "leases", help: "Leases made with a ticket for another process" },
    labels: { kind: KINDS },
  },
  aperture_tickets_taken_total: {
    ...{ type: "counter", unit: "tickets", help: "Tickets that were shown and for which descriptors were sent" },
    labels: {},
  },
  aperture_leases_passed_on_total: {
    ...{ type: "counter", unit: "leases", help: "Times that a lease passed to a successor of its holder" },
    labels: {},
  },
  aperture_lease_recalls_total: {
    ...{ type: "counter", unit: "leases", help: "Leases that their holder was asked for, by cause" },
    labels: { cause: RECALL_CAUSES },
  },
  aperture_refusals_total: {
    ...{ type: "counter", unit: "calls", help: "Calls, requests of sessions and tickets refused, by reason (docs/REASONS.md)" },
    labels: { reason: REASON_LABELS },
  },
  aperture_lease_ends_total: { type: "counter", unit: "leases", help: "Leases ended, by cause", labels: { cause: END_CAUSES } },
  aperture_host_changes_total: {
    ...{
      type: "counter",
      unit: "messages",
      help: "What the host noticed by itself: devices that may have changed, all of them (something was lost), closed descriptors",
    },
    labels: { kind: HOST_CHANGES },
  },
  aperture_handovers_total: {
    ...{ type: "counter", unit: "offers", help: "Offers by what became of them" },
    labels: { result: HANDOVER_RESULTS },
  },
  aperture_descriptors_in_flight: {
    ...{ type: "gauge", unit: "descriptors", help: "Descriptors sent and not acknowledged (limits.descriptors_in_flight)" },
    labels: {},
  },
  aperture_operation_seconds: {
    ...{ type: "histogram", unit: "seconds", help: "Time of operations on the host; that of resets is operation=reset" },
    labels: { operation: OPERATIONS, result: ["ok", "failed"] },
  },
  aperture_connections: { type: "gauge", unit: "connections", help: "gRPC connections on the UNIX socket", labels: {} },
  aperture_channels: { type: "gauge", unit: "channels", help: "Descriptor channels", labels: {} },
  aperture_watchers: {
    type: "gauge",
    unit: "calls",
    help: "Streams that are open, watches and sessions, by method",
    labels: { grpc_method: CALL.grpc_method },
  },
  aperture_peer_rejections_total: {
    ...{ type: "counter", unit: "connections", help: "Connections and channels closed by the daemon, by reason" },
    labels: { reason: Object.keys(REJECTIONS) },
  },
  aperture_config_reloads_total: {
    ...{ type: "counter", unit: "reloads", help: "Reloads of the configuration, by what became of them" },
    labels: { result: ["applied", "refused"] },
  },
  aperture_config_last_reload_successful: {
    ...{
      type: "gauge",
      unit: "1 or 0",
      help: "Whether the last reload was applied; 1 after a start. 0: the daemon runs on an older configuration than the files say",
    },
    labels: {},
  },
  aperture_faults_total: { type: "counter", unit: "faults", help: "Faults of the daemon itself; each is in the log", labels: {} },
  aperture_log_lines_suppressed_total: {
    ...{
      type: "counter",
      unit: "lines",
      help: "Lines left out of the log because one user caused too many, or because stderr was not read for 1 MiB of them",
    },
    labels: {},
  },
  aperture_event_loop_lag_seconds: {
    ...{ type: "gauge", unit: "seconds", help: "Largest delay of the event loop since the scrape before" },
    labels: {},
  },
  grpc_server_started_total: { type: "counter", unit: "calls", help: "RPCs started on the server", labels: CALL },
  grpc_server_handled_total: {
    ...{ type: "counter", unit: "calls", help: "RPCs completed on the server, by status code" },
    labels: { ...CALL, grpc_code: CODES },
  },
  grpc_server_handling_seconds: { type: "histogram", unit: "seconds", help: "Time from the start of an RPC to its status", labels: CALL },
  grpc_server_msg_received_total: { type: "counter", unit: "messages", help: "Messages received from clients", labels: CALL },
  grpc_server_msg_sent_total: { type: "counter", unit: "messages", help: "Messages sent to clients", labels: CALL },
} as const satisfies Record<string, MetricRow>;

export type MetricName = keyof typeof METRICS;
export type LabelOf<Name extends MetricName> = keyof (typeof METRICS)[Name]["labels"] & string;

/** prom-client's own, which tell of the process and of Node. */
const kinds = (what: string): MetricRow["labels"] => ({ [what]: "bounded by Node" });
export const DEFAULT_METRICS: Readonly<Record<string, Omit<MetricRow, "help">>> = {
  process_cpu_user_seconds_total: { type: "counter", unit: "seconds", labels: {} },
  process_cpu_system_seconds_total: { type: "counter", unit: "seconds", labels: {} },
  process_cpu_seconds_total: { type: "counter", unit: "seconds", labels: {} },
  process_start_time_seconds: { type: "gauge", unit: "seconds since the epoch", labels: {} },
  process_resident_memory_bytes: { type: "gauge", unit: "bytes", labels: {} },
  process_virtual_memory_bytes: { type: "gauge", unit: "bytes", labels: {} },
  process_heap_bytes: { type: "gauge", unit: "bytes", labels: {} },
  process_open_fds: { type: "gauge", unit: "descriptors", labels: {} },
  process_max_fds: { type: "gauge", unit: "descriptors (RLIMIT_NOFILE)", labels: {} },
  nodejs_eventloop_lag_seconds: { type: "gauge", unit: "seconds", labels: {} },
  nodejs_eventloop_lag_min_seconds: { type: "gauge", unit: "seconds", labels: {} },
  nodejs_eventloop_lag_max_seconds: { type: "gauge", unit: "seconds", labels: {} },
  nodejs_eventloop_lag_mean_seconds: { type: "gauge", unit: "seconds", labels: {} },
  nodejs_eventloop_lag_stddev_seconds: { type: "gauge", unit: "seconds", labels: {} },
  nodejs_eventloop_lag_p50_seconds: { type: "gauge", unit: "seconds", labels: {} },
  nodejs_eventloop_lag_p90_seconds: { type: "gauge", unit: "seconds", labels: {} },
  nodejs_eventloop_lag_p99_seconds: { type: "gauge", unit: "seconds", labels: {} },
  nodejs_active_resources: { type: "gauge", unit: "resources", labels: kinds("type") },
  nodejs_active_handles: { type: "gauge", unit: "handles", labels: kinds("type") },
  nodejs_active_requests: { type: "gauge", unit: "requests", labels: kinds("type") },
  nodejs_heap_size_total_bytes: { type: "gauge", unit: "bytes", labels: {} },
  nodejs_heap_size_used_bytes: { type: "gauge", unit: "bytes", labels: {} },
  nodejs_external_memory_bytes: { type: "gauge", unit: "bytes", labels: {} },
  nodejs_heap_space_size_total_bytes: { type: "gauge", unit: "bytes", labels: kinds("space") },
  nodejs_heap_space_size_used_bytes: { type: "gauge", unit: "bytes", labels: kinds("space") },
  nodejs_heap_space_size_available_bytes: { type: "gauge", unit: "bytes", labels: kinds("space") },
  nodejs_version_info: {
    type: "gauge",
    unit: "always 1",
    labels: { version: "Node's", major: "Node's", minor: "Node's", patch: "Node's" },
  },
  nodejs_gc_duration_seconds: { type: "histogram", unit: "seconds", labels: kinds("kind") },
};
