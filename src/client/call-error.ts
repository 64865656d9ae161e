// A failed gRPC call becomes a typed error: the refusal's reason and next step from grpc-status-details-bin, or what kept the call from arriving.

import { type ServiceError, status } from "@grpc/grpc-js";
import { diagnoseConnection } from "./connection-diagnosis.js";
import { ApertureError, type FieldViolation, type StatusName } from "./errors.js";
import { protoFiles } from "./proto-files.js";

/** Details of other domains are of no use here: their reasons are not ours. */
const DOMAIN = "aperture";

/** google.rpc.Status as it is decoded. */
type Status = ReturnType<ReturnType<typeof protoFiles>["google"]["rpc"]["Status"]["deserialize"]>;

interface Refusal {
  readonly reason: string;
  readonly metadata: Readonly<Record<string, string>>;
  readonly violations: readonly FieldViolation[];
}

/** The error to throw for a failed call. method: for messages, for example `AcquireLease`. */
export async function callError(error: ServiceError, method: string, timeoutMs: number, socketPath: string): Promise<ApertureError> {
  const refusal = readRefusal(error);
  const code = statusName(error.code);
  if (refusal !== null) {
    const { next, ...metadata } = refusal.metadata;
    const message = withoutNext(error.details, next);
    return new ApertureError({ ...refusal, code, message, next: next ?? null, metadata, cause: error });
  }
  if (error.code === status.UNAVAILABLE) return await diagnoseConnection(socketPath);
  if (error.code === status.DEADLINE_EXCEEDED) {
    return new ApertureError({
      reason: code,
      code,
      message: `the daemon did not answer ${method} within ${timeoutMs / 1000} s`,
      next: "try again with a longer timeout; a device's reset can take minutes",
      cause: error,
    });
  }
  return new ApertureError({ reason: code, code, message: `${method}: ${error.details || code}`, cause: error });
}

/** The error to throw for a request of a session that was refused: google.rpc.Status itself. */
export function statusError(told: Status, method: string): ApertureError {
  const refusal = detailsOf(told);
  const code = statusName(told.code);
  if (refusal === null) return new ApertureError({ reason: code, code, message: `${method}: ${told.message || code}` });
  const { next, ...metadata } = refusal.metadata;
  return new ApertureError({ ...refusal, code, message: withoutNext(told.message, next), next: next ?? null, metadata });
}

/** The daemon's status text ends with the next step, for clients that read nothing else; here it stands in `next`. */
function withoutNext(text: string, next: string | undefined): string {
  const ending = `. Next: ${next}.`;
  return next !== undefined && text.endsWith(ending) ? text.slice(0, -ending.length) : text;
}

function statusName(code: number): StatusName {
  return (status[code] as StatusName | undefined) ?? "UNKNOWN";
}

function readRefusal(error: ServiceError): Refusal | null {
  // An error that never was on the wire has no trailers.
  const [bytes] = error.metadata?.get("grpc-status-details-bin") ?? [];
  if (!(bytes instanceof Uint8Array)) return null;
  try {
    return detailsOf(protoFiles().google.rpc.Status.deserialize(Buffer.from(bytes)));
  } catch {
    // Unreadable details are no reason to hide the status that carried them.
    return null;
  }
}

function detailsOf(told: Status): Refusal | null {
  const { ErrorInfo, BadRequest } = protoFiles().google.rpc;
  let refusal: Refusal | null = null;
  let violations: readonly FieldViolation[] = [];
  for (const detail of told.details) {
    if (!("type_url" in detail)) continue;
    if (detail.type_url.endsWith("/google.rpc.ErrorInfo")) {
      const info = ErrorInfo.deserialize(detail.value);
      if (info.domain === DOMAIN) refusal = { reason: info.reason, metadata: info.metadata, violations };
    } else if (detail.type_url.endsWith("/google.rpc.BadRequest")) {
      violations = BadRequest.deserialize(detail.value).fieldViolations.map(({ field, description }) => ({ field, description }));
    }
  }
  return refusal === null ? null : { ...refusal, violations };
}
