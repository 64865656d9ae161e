// Expected refusals are values. This is the one closed table of their reasons: reason → gRPC status (and with it the exit code of aperturectl), where it is told, whether
// waiting helps, and what a person can do next. Stable names: clients and metrics rely on them. docs/REASONS.md is made from it, and test/integration/reasons.test.ts
// provokes each of them.

interface ReasonRow {
  /** Canonical gRPC status name. */
  readonly status:
    | "INVALID_ARGUMENT"
    | "NOT_FOUND"
    | "PERMISSION_DENIED"
    | "UNAUTHENTICATED"
    | "FAILED_PRECONDITION"
    | "ABORTED"
    | "RESOURCE_EXHAUSTED"
    | "UNAVAILABLE"
    | "INTERNAL";
  /** What to do next: one sentence for a person. */
  readonly next: string;
  /** The same call can succeed later although its caller does nothing but wait: when to try again, milliseconds. Absent: it will not. */
  readonly retryMs?: number;
  /** Where it is told. Absent: as the status of a call (or of a request of a session), and on a channel as the answer to a ticket. */
  readonly told?: Told;
}

/** GOODBYE: only to a channel that is being closed. BOTH: there and as the status of a call. */
export type Told = "GOODBYE" | "BOTH";

/** Exit codes of aperturectl. src/cli has its own table, because it imports nothing of the daemon; a test compares them. */
export const EXIT_CODES = {
  INTERNAL: 1,
  INVALID_ARGUMENT: 2,
  NOT_FOUND: 3,
  PERMISSION_DENIED: 4,
  UNAUTHENTICATED: 4,
  UNAVAILABLE: 5,
  FAILED_PRECONDITION: 6,
  ABORTED: 6,
  RESOURCE_EXHAUSTED: 7,
} as const satisfies Readonly<Record<ReasonRow["status"], number>>;

export const REASONS = {
  MALFORMED_ADDRESS: { status: "INVALID_ARGUMENT", next: "write the address as sysfs does, for example 0000:01:00.0" },
  INVALID_FIELD: { status: "INVALID_ARGUMENT", next: "correct the named field and call again" },
  REQUEST_ID_REUSED: { status: "INVALID_ARGUMENT", next: "use a new request_id for a different request" },
  DEVICE_NOT_FOUND: { status: "NOT_FOUND", next: "list the devices of this host with `aperturectl devices`" },
  REGION_NOT_FOUND: { status: "NOT_FOUND", next: "look at the device's regions with `aperturectl device ADDRESS`" },
  LEASE_NOT_FOUND: { status: "NOT_FOUND", next: "list your leases with `aperturectl leases`" },
  POLICY_DENIED: { status: "PERMISSION_DENIED", next: "ask the operator for a [[policy]] rule that covers this user and device" },
  NOT_OPERATOR: { status: "PERMISSION_DENIED", next: "call as root or as the daemon's own user" },
  PEER_UNKNOWN: { status: "UNAUTHENTICATED", next: "connect over the daemon's UNIX socket, from a process its pid namespace can see" },
  PEER_GONE: { status: "UNAUTHENTICATED", next: "call from a process that is still running" },
  NO_VFIO_DRIVER: {
    status: "FAILED_PRECONDITION",
    next: "bind the device to vfio-pci or its variant driver (aperturectl driver bind, by the operator)",
  },
  DRIVER_NOT_READY: {
    status: "FAILED_PRECONDITION",
    next: "read the kernel log for why the driver's probe failed, then write the address to /sys/bus/pci/drivers_probe again",
  },
  DEVICE_LEAVING: {
    status: "FAILED_PRECONDITION",
    next: "choose another device: this one is being unbound or unplugged, which ends when its last holder lets go",
  },
  NO_IOMMU_GROUP: { status: "FAILED_PRECONDITION", next: "switch the IOMMU on (firmware set-up and kernel command line)" },
  GROUP_NOT_VIABLE: {
    status: "FAILED_PRECONDITION",
    next: "bind the named members of the IOMMU group too (aperturectl driver bind --whole-group), or unbind their driver",
  },
  DEVICE_NOT_READY: { status: "FAILED_PRECONDITION", next: "wait until the device's memory is ready, or reset it", retryMs: 10_000 },
  DEVICE_IN_USE: { status: "FAILED_PRECONDITION", next: "end the process that holds the device outside of Aperture" },
  DEVICE_QUARANTINED: {
    status: "FAILED_PRECONDITION",
    next: "end the process that still holds a descriptor or mapping; the device comes free by itself",
    retryMs: 1_000,
  },
  DEVICE_NOT_PROBED: {
    status: "FAILED_PRECONDITION",
    next: "read state_detail for the failed operation; the daemon tries again by itself",
    retryMs: 1_000,
  },
  NO_PERMISSION: { status: "FAILED_PRECONDITION", next: "give the daemon's user read and write access to the named /dev node" },
  VF_TOKEN_REQUIRED: {
    status: "FAILED_PRECONDITION",
    next: "end the program that has set the token and has a virtual function open, and wait for the next scan; or give the physical function a driver other than vfio-pci (docs/DRIVERS.md)",
  },
  RESET_UNAVAILABLE: {
    status: "FAILED_PRECONDITION",
    next: "lease it to the same user again, restart the device, or allow it with allow_unreset = true in a policy rule",
  },
  REGION_SCOPE_UNAVAILABLE: {
    status: "FAILED_PRECONDITION",
    next: "take a device lease, or ask the operator for allow_device_scope = true in a policy rule",
  },
  NO_DESCRIPTOR_CHANNEL: {
    status: "FAILED_PRECONDITION",
    next: "attach a descriptor channel from the same process first (docs/PROTOCOL.md)",
  },
  DEVICE_BUSY: { status: "ABORTED", next: "wait until its lease ends (WatchDevices tells), then try again", retryMs: 1_000 },
  DEVICE_REMOVED: { status: "ABORTED", next: "choose another device: this one has left the machine" },
  HANDOVER_FAILED: { status: "ABORTED", next: "read the channel and acknowledge each offer, then try again", told: "BOTH" },
  HOST_OPERATION_FAILED: { status: "ABORTED", next: "read the operation and errno in the message; the daemon's log has more" },
  HOST_SLOW: {
    status: "ABORTED",
    next: "wait until the device is free (WatchDevices tells), then try again; the daemon's limit is limits.call_ms",
    retryMs: 10_000,
  },
  GROUP_CONSENT_REQUIRED: {
    status: "FAILED_PRECONDITION",
    next: "ask with whole_group (aperturectl driver bind --whole-group) when the named members may lose their drivers too",
  },
  DRIVER_UNAVAILABLE: {
    status: "FAILED_PRECONDITION",
    next: "install or load the named driver's module, or name another VFIO driver that the kernel has",
  },
  DRIVER_BUSY: {
    status: "ABORTED",
    next: "end what is named in the message, or wait until the device is FREE (WatchDevices tells), then try again",
    retryMs: 5_000,
  },
  DRIVER_CHANGE_FAILED: {
    status: "ABORTED",
    next: "read the kernel log for why the driver did not take the device; aperturectl device shows which driver has it now",
  },
  NO_FORMER_DRIVER: {
    status: "FAILED_PRECONDITION",
    next: "bind it by hand (driver_override, drivers_probe): the daemon gives back only what it has taken",
  },
  VIRTUAL_FUNCTIONS_EXIST: {
    status: "FAILED_PRECONDITION",
    next: "destroy its virtual functions first (aperturectl vfs ADDRESS 0)",
  },
  NO_VIRTUAL_FUNCTIONS: {
    status: "FAILED_PRECONDITION",
    next: "choose a physical function with SR-IOV (Device.virtual_functions tells how many it can have)",
  },
  LEASE_QUOTA: { status: "RESOURCE_EXHAUSTED", next: "release a lease first" },
  HANDOVER_PENDING: { status: "RESOURCE_EXHAUSTED", next: "acknowledge the offer that is waiting on the channel first", retryMs: 100 },
  DESCRIPTOR_LIMIT: { status: "RESOURCE_EXHAUSTED", next: "raise the daemon's RLIMIT_NOFILE, or ask for fewer devices at once" },
  CONNECTION_QUOTA: { status: "RESOURCE_EXHAUSTED", next: "close other connections of this user first" },
  DRAINING: { status: "UNAVAILABLE", next: "try again when the daemon is up", retryMs: 2_000, told: "BOTH" },
  LEASE_NOT_RETAINED: { status: "FAILED_PRECONDITION", next: "acquire it with mode RETAIN: nothing else can pass to a successor" },
  LEASE_NOT_HELD: {
    status: "FAILED_PRECONDITION",
    next: "wait until its holder has acknowledged the offer (GetLease tells), then try again",
  },
  VMM_NEEDS_IOMMUFD: {
    status: "FAILED_PRECONDITION",
    next: "run a kernel with iommufd (CONFIG_IOMMUFD and CONFIG_VFIO_DEVICE_CDEV, Linux 6.6 or later), or let the VMM open the device by itself",
  },
  BAR_NOT_POWER_OF_TWO: {
    status: "FAILED_PRECONDITION",
    next: "report it to the authors of the device's VFIO driver: it has to pad the region",
  },
  // What a channel is told of a ticket that it has shown (REFUSED).
  TICKET_EXPIRED: { status: "FAILED_PRECONDITION", next: "ask whoever gave the ticket for a new one, and show it in time" },
  TICKET_USED: { status: "FAILED_PRECONDITION", next: "ask whoever gave the ticket for a new one: each works once" },
  TICKET_OTHER_USER: { status: "PERMISSION_DENIED", next: "show it from a process of the user whom it was made for" },
  // What a channel is told before it is closed (GOODBYE).
  TICKET_UNKNOWN: {
    status: "PERMISSION_DENIED",
    next: "show the 16 bytes exactly as AcquireLease or NameSuccessor gave them",
    told: "GOODBYE",
  },
  PROTOCOL_VIOLATION: {
    status: "INVALID_ARGUMENT",
    next: "follow docs/PROTOCOL.md: one well-formed frame a message, no descriptors towards the daemon",
    told: "GOODBYE",
  },
  FOREIGN_SENDER: { status: "PERMISSION_DENIED", next: "send from the process that connected the channel", told: "GOODBYE" },
  ATTACH_TIMEOUT: { status: "ABORTED", next: "send ATTACH within first_call_ms of connecting", told: "GOODBYE" },
} as const satisfies Record<string, ReasonRow>;

export type Reason = keyof typeof REASONS;

/** What a GOODBYE can say. */
export type GoodbyeReason = { [R in Reason]: (typeof REASONS)[R] extends { readonly told: Told } ? R : never }[Reason];

interface WholeRow extends Pick<ReasonRow, "status" | "next"> {
  readonly retryMs: number | null;
  /** null: a call. */
  readonly told: Told | null;
}

/** The row of a reason, with every column. */
export function reasonRow(reason: Reason): WholeRow {
  const row: ReasonRow = REASONS[reason];
  return { status: row.status, next: row.next, retryMs: row.retryMs ?? null, told: row.told ?? null };
}

/** A refusal: what, why (message), what to do next (REASONS), with facts for programs. */
export interface Refusal {
  readonly reason: Reason;
  /** What was refused and why; may hold names from the request, which callers have validated. */
  readonly message: string;
  /** Facts of this occurrence; keys in lowerCamel. */
  readonly metadata: Readonly<Record<string, string>>;
}

/** Either a value or a refusal, never both: `refusal === null` tells. */
export type Outcome<T> = { readonly value: T; readonly refusal: null } | { readonly value: null; readonly refusal: Refusal };

export function granted<T>(value: T): Outcome<T> {
  return { value, refusal: null };
}

export function refuse(
  reason: Reason,
  message: string,
  metadata: Readonly<Record<string, string>> = {},
): { readonly value: null; readonly refusal: Refusal } {
  return { value: null, refusal: { reason, message, metadata } };
}
