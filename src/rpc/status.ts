// A refusal as gRPC tells it: status code, message, and google.rpc.Status details with an ErrorInfo whose reason is stable.

import { Metadata, type StatusObject, status } from "@grpc/grpc-js";
import { type Refusal, reasonRow } from "../broker/refusal.js";
import { messages } from "./protos.js";

const DOMAIN = "aperture";
const TYPE = "type.googleapis.com/google.rpc.";

export type GrpcError = Pick<StatusObject, "code" | "details" | "metadata">;

/** google.rpc.Status of a refusal. */
export function toStatus(refusal: Refusal): { readonly code: number; readonly message: string; readonly details: Detail[] } {
  const { status: name, next } = reasonRow(refusal.reason);
  return { code: status[name], message: `${refusal.message}. Next: ${next}.`, details: detailsOf(refusal) };
}

export function toGrpcError(refusal: Refusal): GrpcError {
  const told = toStatus(refusal);
  const metadata = new Metadata();
  metadata.set("grpc-status-details-bin", messages.status.serialize(told));
  return { code: told.code, details: told.message, metadata };
}

interface Detail {
  readonly type_url: string;
  readonly value: Buffer;
}

/** What AIP-193 asks for: ErrorInfo always, the others where they say something that a program can use. */
function detailsOf({ reason, message, metadata }: Refusal): Detail[] {
  const row = reasonRow(reason);
  const details: Detail[] = [];
  const add = (name: string, value: Buffer): void => void details.push({ type_url: `${TYPE}${name}`, value });
  add("ErrorInfo", messages.errorInfo.serialize({ reason, domain: DOMAIN, metadata: { ...metadata, next: row.next } }));
  const { field, address, region, leaseId } = metadata;
  if (field !== undefined) add("BadRequest", messages.badRequest.serialize({ fieldViolations: [{ field, description: message }] }));
  if (row.status === "NOT_FOUND") {
    const kind = leaseId !== undefined ? "Lease" : region !== undefined ? "Region" : "Device";
    const resourceName = leaseId ?? (region === undefined ? (address ?? "") : `${address}/${region}`);
    add("ResourceInfo", messages.resourceInfo.serialize({ resourceType: `aperture.v1.${kind}`, resourceName, description: message }));
  }
  if (row.status === "FAILED_PRECONDITION") {
    const violations = [{ type: reason, subject: address ?? "", description: message }];
    add("PreconditionFailure", messages.preconditionFailure.serialize({ violations }));
  }
  if (row.retryMs !== null)
    add(
      "RetryInfo",
      messages.retryInfo.serialize({ retryDelay: { seconds: Math.floor(row.retryMs / 1000), nanos: (row.retryMs % 1000) * 1_000_000 } }),
    );
  return details;
}

/** What a client learns of a bug in the daemon: nothing but that there was one. The log has the rest. */
export function internalError(): GrpcError {
  return { code: status.INTERNAL, details: "an internal fault of the daemon; its log has the details", metadata: new Metadata() };
}
