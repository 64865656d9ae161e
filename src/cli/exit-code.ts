// Exit codes, in one table: scripts rely on them, `aperturectl help` prints them, a test walks them.

import { ApertureError, type StatusName } from "../client/errors.js";

export const EXIT = {
  ok: { code: 0, when: "done" },
  failed: { code: 1, when: "failed in a way that no other code names" },
  usage: { code: 2, when: "wrong command, option or value" },
  notFound: { code: 3, when: "no such device, region or lease" },
  denied: { code: 4, when: "policy or permissions deny it" },
  unavailable: { code: 5, when: "the daemon, or a VMM's socket, is not there or has gone" },
  conflict: { code: 6, when: "the device's state does not allow it: busy, quarantined, wrong driver" },
  exhausted: { code: 7, when: "a limit is reached: leases, descriptors, connections" },
  timeout: { code: 124, when: "no answer in time" },
  notExecutable: { code: 126, when: "exec: the command cannot be executed, or is a VMM that is too old" },
  commandNotFound: { code: 127, when: "exec: there is no such command" },
} as const satisfies Record<string, { readonly code: number; readonly when: string }>;

export type ExitName = keyof typeof EXIT;

const BY_STATUS: Readonly<Record<StatusName, ExitName>> = {
  OK: "ok",
  CANCELLED: "failed",
  UNKNOWN: "failed",
  INVALID_ARGUMENT: "usage",
  DEADLINE_EXCEEDED: "timeout",
  NOT_FOUND: "notFound",
  ALREADY_EXISTS: "conflict",
  PERMISSION_DENIED: "denied",
  RESOURCE_EXHAUSTED: "exhausted",
  FAILED_PRECONDITION: "conflict",
  ABORTED: "conflict",
  OUT_OF_RANGE: "usage",
  UNIMPLEMENTED: "failed",
  INTERNAL: "failed",
  UNAVAILABLE: "unavailable",
  DATA_LOSS: "failed",
  UNAUTHENTICATED: "denied",
};

/** A failure that aperturectl itself found. */
export class CliError extends Error {
  override readonly name = "CliError";
  readonly exit: ExitName;
  /** What to do next; null when the message says it. */
  readonly next: string | null;

  constructor(exit: ExitName, message: string, next: string | null = null) {
    super(message);
    this.exit = exit;
    this.next = next;
  }
}

/** Exit code of a failure. */
export function exitCodeOf(error: unknown): number {
  if (error instanceof CliError) return EXIT[error.exit].code;
  if (error instanceof ApertureError) return EXIT[BY_STATUS[error.code]].code;
  // RangeError: the library says that an argument names nothing.
  return error instanceof RangeError ? EXIT.usage.code : EXIT.failed.code;
}
