// Every failure of this library is one of these classes, so that a caller can decide by `reason` and `code` and never by message text.

import type { status } from "@grpc/grpc-js";
import type { SysError, SysResult } from "../native.js";

/** Canonical gRPC status name, for example `FAILED_PRECONDITION`. */
export type StatusName = keyof typeof status;

/** One wrong field of a request (google.rpc.BadRequest). */
export interface FieldViolation {
  /** Path of the field, for example `devices[0].address`. */
  readonly field: string;
  readonly description: string;
}

export interface ErrorFacts {
  /** Stable name, UPPER_SNAKE: one of docs/REASONS.md when the daemon refused, else the name that the class documents. */
  readonly reason: string;
  readonly code: StatusName;
  readonly message: string;
  /** What a person can do next; null when nothing better than the message is known. */
  readonly next?: string | null;
  /** Facts of this occurrence, keys in lowerCamel. */
  readonly metadata?: Readonly<Record<string, string>>;
  readonly violations?: readonly FieldViolation[];
  readonly cause?: unknown;
}

/** The daemon refused (reason from docs/REASONS.md), or the call failed (reason is then the gRPC status name). */
export class ApertureError extends Error {
  override readonly name: string = "ApertureError";
  readonly reason: string;
  readonly code: StatusName;
  readonly next: string | null;
  readonly metadata: Readonly<Record<string, string>>;
  readonly violations: readonly FieldViolation[];

  constructor(facts: ErrorFacts) {
    super(facts.message, facts.cause === undefined ? {} : { cause: facts.cause });
    this.reason = facts.reason;
    this.code = facts.code;
    this.next = facts.next ?? null;
    this.metadata = facts.metadata ?? {};
    this.violations = facts.violations ?? [];
  }
}

/** No daemon was reached. `code` is PERMISSION_DENIED for EACCES, else UNAVAILABLE. reason: `CONNECTION_FAILED`. */
export class ApertureConnectionError extends ApertureError {
  override readonly name: string = "ApertureConnectionError";
  /** Socket that was tried. */
  readonly path: string;
  /** Why, as errno name: `ENOENT`, `EACCES`, `ECONNREFUSED`, ...; `CLOSED` when the connection was there and ended. */
  readonly errnoName: string;

  constructor(path: string, errnoName: string, message: string, next: string) {
    super({
      reason: "CONNECTION_FAILED",
      code: errnoName === "EACCES" || errnoName === "EPERM" ? "PERMISSION_DENIED" : "UNAVAILABLE",
      message,
      next,
      metadata: { path, errno: errnoName },
    });
    this.path = path;
    this.errnoName = errnoName;
  }
}

/** Reasons that this library makes itself; docs/REASONS.md is made from it. */
export const CLIENT_REASONS = {
  CONNECTION_FAILED: {
    code: "UNAVAILABLE",
    when: "no daemon was reached; PERMISSION_DENIED when the socket may not be opened (ApertureConnectionError)",
  },
  CHANNEL_CLOSED: { code: "UNAVAILABLE", when: "the descriptor channel ended; CANCELLED when this client was closed" },
  HANDOVER_TRUNCATED: {
    code: "RESOURCE_EXHAUSTED",
    when: "not all descriptors fitted: RLIMIT_NOFILE of this process is reached. Everything that arrived is closed",
  },
  HANDOVER_MISMATCH: { code: "INTERNAL", when: "the OFFER frame does not say what the gRPC answer says" },
  HANDOVER_PROTOCOL: { code: "INTERNAL", when: "the daemon sent bytes that are no frame of docs/PROTOCOL.md" },
  HANDOVER_TIMEOUT: { code: "DEADLINE_EXCEEDED", when: "the gRPC answer came and the OFFER did not, or ATTACH was not answered" },
  LEASE_ENDED: {
    code: "ABORTED",
    when: "the lease ended before acquire could give it to its caller: an acknowledgement that came too late, or a device that left",
  },
} as const satisfies Readonly<Record<string, { readonly code: StatusName; readonly when: string }>>;

/** Reasons of HandoverError that the library makes; a GOODBYE of the daemon brings its own (docs/REASONS.md). */
export type HandoverReason = Exclude<keyof typeof CLIENT_REASONS, "CONNECTION_FAILED">;

/** The descriptors of a lease did not reach this process. The daemon undoes the lease; acquire again. */
export class HandoverError extends ApertureError {
  override readonly name: string = "HandoverError";

  constructor(reason: HandoverReason | (string & {}), code: StatusName, message: string, next: string | null = null) {
    super({ reason, code, message, next });
  }
}

/** A system call of this process failed. reason and errnoName are the symbolic errno (`EBUSY`), or a name of the native helper (`BAD_ANSWER`). */
export class SystemCallError extends ApertureError {
  override readonly name: string = "SystemCallError";
  /** System call or ioctl, for example `VFIO_DEVICE_BIND_IOMMUFD`. */
  readonly operation: string;
  /** 0 when there is none. */
  readonly errno: number;
  readonly errnoName: string;
  /** What it was about: a path, a device, a region. */
  readonly subject: string;

  constructor(error: SysError, next: string | null = null) {
    super({
      reason: error.code,
      code: "UNKNOWN",
      message: `${error.operation} of ${error.subject} failed: ${error.code}${error.errno === 0 ? "" : ` (errno ${error.errno})`}`,
      next,
      metadata: { operation: error.operation, errno: String(error.errno), subject: error.subject },
    });
    this.operation = error.operation;
    this.errno = error.errno;
    this.errnoName = error.code;
    this.subject = error.subject;
  }
}

/** The value of a system call. Throws SystemCallError. */
export function unwrap<T>(result: SysResult<T>): T {
  if (result.error !== null) throw new SystemCallError(result.error);
  return result.value;
}
