// A refusal as gRPC tells it: status code, message, and google.rpc.Status details with an ErrorInfo whose reason is stable.

import { Metadata, type StatusObject, status } from "@grpc/grpc-js";
import { REASONS, type Refusal } from "../broker/refusal.js";
import { messages } from "./protos.js";

const DOMAIN = "aperture";
const TYPE = "type.googleapis.com/google.rpc.";

export type GrpcError = Pick<StatusObject, "code" | "details" | "metadata">;

export function toGrpcError(refusal: Refusal): GrpcError {
  const row = REASONS[refusal.reason];
  const code = status[row.status];
  const text = `${refusal.message}. Next: ${row.next}.`;
  const errorInfo = { reason: refusal.reason, domain: DOMAIN, metadata: { ...refusal.metadata, next: row.next } };
  const details = [{ type_url: `${TYPE}ErrorInfo`, value: messages.errorInfo.serialize(errorInfo) }];
  const { field } = refusal.metadata;
  if (field !== undefined) {
    const violation = { fieldViolations: [{ field, description: refusal.message }] };
    details.push({ type_url: `${TYPE}BadRequest`, value: messages.badRequest.serialize(violation) });
  }
  const metadata = new Metadata();
  metadata.set("grpc-status-details-bin", messages.status.serialize({ code, message: text, details }));
  return { code, details: text, metadata };
}

/** What a client learns of a bug in the daemon: nothing but that there was one. The log has the rest. */
export function internalError(): GrpcError {
  return { code: status.INTERNAL, details: "an internal fault of the daemon; its log has the details", metadata: new Metadata() };
}
