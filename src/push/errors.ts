// Every way in which giving devices to a VMM that runs already can fail, as one closed table. The same class and form as the client library's errors: a caller decides by `reason`.

import { ApertureError, type StatusName } from "../client/errors.js";

/** docs/REASONS.md is made from it. */
export const PUSH_REASONS = {
  VMM_UNREACHABLE: {
    code: "UNAVAILABLE",
    when: "nobody listens at the VMM's socket; PERMISSION_DENIED when this user may not connect",
  },
  VMM_SILENT: {
    code: "DEADLINE_EXCEEDED",
    when: "the VMM did not answer in time. A QMP socket serves one client at a time: another may be connected to it",
  },
  VMM_PROTOCOL: { code: "INTERNAL", when: "what came from the VMM's socket is no QMP, or no HTTP" },
  VMM_TOO_OLD: { code: "FAILED_PRECONDITION", when: "QEMU before 9.0, Cloud Hypervisor before 53: they take no device by its descriptor" },
  VMM_REFUSED: { code: "FAILED_PRECONDITION", when: "the VMM refused a command; the message has its own words" },
  VMM_GONE: { code: "UNAVAILABLE", when: "the VMM closed its socket: it has ended, or somebody ended the monitor" },
  GUEST_REFUSED: { code: "ABORTED", when: "the guest's system answered that it does not let go of the device" },
  GUEST_SILENT: { code: "DEADLINE_EXCEEDED", when: "the guest's system did not let go of the device in time" },
  LEASE_NOT_FOR_VMM: {
    code: "FAILED_PRECONDITION",
    when: "the lease has no iommufd, or a device that is bound already: legacy kernels, the simulated host, region leases, successors",
  },
  SOCKET_EXISTS: { code: "ALREADY_EXISTS", when: "there is something at the path at which a socket was to be made" },
  SOCKET_REFUSED: {
    code: "FAILED_PRECONDITION",
    when: "no socket can be made at the path: its folder is missing, or others may write to it",
  },
  RECEIVER_SILENT: { code: "DEADLINE_EXCEEDED", when: "nobody came for the iommufd in time, or who came did not acknowledge it in time" },
  RECEIVER_PROTOCOL: { code: "ABORTED", when: "who came for the iommufd left without an acknowledgement, or sent something else" },
} as const satisfies Readonly<Record<string, { readonly code: StatusName; readonly when: string }>>;

export type PushReason = keyof typeof PUSH_REASONS;

/** Giving devices to a VMM, or taking them from it, failed. What was done until then has been undone, as far as the VMM still answers. */
export class PushError extends ApertureError {
  override readonly name: string = "PushError";

  constructor(reason: PushReason, message: string, next: string | null = null, code: StatusName = PUSH_REASONS[reason].code) {
    super({ reason, code, message, next });
  }
}
