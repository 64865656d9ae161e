// gRPC calls without a client library in between: any request, also a wrong one, and everything that the answer carries.

import * as grpc from "@grpc/grpc-js";
import type { MethodDefinition } from "@grpc/proto-loader";
import { protoFiles } from "../../src/client/proto-files.js";
import type { SessionRequest } from "../../src/generated/aperture/v1/SessionRequest.js";
import type { SessionResponse__Output } from "../../src/generated/aperture/v1/SessionResponse.js";
import type { Status__Output } from "../../src/generated/google/rpc/Status.js";

type Method<Answer> = Pick<MethodDefinition<never, never, never, Answer>, "path" | "requestSerialize" | "responseDeserialize">;

export const { DeviceService, LeaseService, HostService, VmmService, DriverService } = protoFiles().aperture.v1;

/** Metadata of a request. */
type Headers = Readonly<Record<string, string>>;

export interface Result<Answer> {
  /** Name of the gRPC status; OK with an answer. */
  readonly code: string;
  readonly answer: Answer | null;
  /** ErrorInfo.reason; null when the status has none. */
  readonly reason: string | null;
  /** Fields that BadRequest names. */
  readonly fields: readonly string[];
  readonly text: string;
  /** grpc-status-details-bin as it came. */
  readonly details: Buffer;
}

export class Rpc {
  static readonly #open = new Set<Rpc>();
  readonly #client: grpc.Client;
  readonly #streams: { cancel(): void }[] = [];

  constructor(socket: string, options: grpc.ChannelOptions = {}) {
    this.#client = new grpc.Client(`unix:${socket}`, grpc.credentials.createInsecure(), {
      "grpc.default_authority": "localhost",
      // One Rpc, one connection, and it ends with close().
      "grpc.use_local_subchannel_pool": 1,
      "grpc.enable_retries": 0,
      ...options,
    });
    Rpc.#open.add(this);
  }

  /** For afterEach. */
  static closeAll(): void {
    for (const rpc of Rpc.#open) rpc.close();
  }

  /** For afterEach of a test that goes on with one. */
  static closeAllBut(kept: Rpc): void {
    for (const rpc of Rpc.#open) if (rpc !== kept) rpc.close();
  }

  /** request: anything, as it goes to the serializer of the method. */
  call<Answer>(
    service: { readonly service: object },
    name: string,
    request: object,
    deadlineMs = 20_000,
    headers: Headers = {},
  ): Promise<Result<Answer>> {
    const method = (service.service as Readonly<Record<string, Method<Answer>>>)[name];
    if (method === undefined) throw new RangeError(`there is no method ${name}`);
    return this.bytes(method.path, method.requestSerialize(request as never), method.responseDeserialize, deadlineMs, headers);
  }

  /** message: the request's bytes as they go on the wire. */
  bytes<Answer>(
    path: string,
    message: Buffer,
    read: (bytes: Buffer) => Answer,
    deadlineMs = 20_000,
    headers: Headers = {},
  ): Promise<Result<Answer>> {
    return new Promise((resolve) => {
      const deadline = Date.now() + deadlineMs;
      this.#client.makeUnaryRequest(
        path,
        (bytes: Buffer) => bytes,
        read,
        message,
        grpc.Metadata.fromHttp2Headers(headers),
        { deadline },
        (error: grpc.ServiceError | null, answer?: Answer) => resolve(error === null ? succeeded(answer) : failed(error)),
      );
    });
  }

  /** A stream of answers. Its errors are for whoever listens; nobody has to. */
  stream<Answer>(path: string, message: Buffer, read: (bytes: Buffer) => Answer): grpc.ClientReadableStream<Answer> {
    const stream = this.#client.makeServerStreamRequest(path, (bytes: Buffer) => bytes, read, message);
    stream.on("error", () => undefined);
    this.#streams.push(stream);
    return stream;
  }

  /** One LeaseService.Session. Its errors are for whoever listens; nobody has to. */
  session(): grpc.ClientDuplexStream<SessionRequest, SessionResponse__Output> {
    const { path, requestSerialize, responseDeserialize } = LeaseService.service.Session;
    const stream = this.#client.makeBidiStreamRequest(path, requestSerialize, responseDeserialize);
    stream.on("error", () => undefined);
    this.#streams.push(stream);
    return stream;
  }

  close(): void {
    // The connection stays as long as one of them is open.
    for (const stream of this.#streams) stream.cancel();
    this.#client.close();
    Rpc.#open.delete(this);
  }
}

function succeeded<Answer>(answer: Answer | undefined): Result<Answer> {
  return { code: "OK", answer: answer ?? null, reason: null, fields: [], text: "", details: Buffer.alloc(0) };
}

export function failed(error: grpc.ServiceError): Result<never> {
  const [raw] = error.metadata?.get("grpc-status-details-bin") ?? [];
  const details = raw instanceof Uint8Array ? Buffer.from(raw) : Buffer.alloc(0);
  const { reason, fields } = readRefusal(protoFiles().google.rpc.Status.deserialize(details));
  return { code: grpc.status[error.code] ?? "UNKNOWN", answer: null, reason, fields, text: error.details, details };
}

/** What a google.rpc.Status says. */
export function readRefusal(told: Status__Output | null | undefined): Pick<Result<never>, "code" | "reason" | "fields" | "text"> {
  const { ErrorInfo, BadRequest } = protoFiles().google.rpc;
  let reason: string | null = null;
  const fields: string[] = [];
  for (const detail of told?.details ?? []) {
    if (!("type_url" in detail)) continue;
    if (detail.type_url.endsWith("/google.rpc.ErrorInfo")) ({ reason } = ErrorInfo.deserialize(detail.value));
    if (detail.type_url.endsWith("/google.rpc.BadRequest"))
      fields.push(...BadRequest.deserialize(detail.value).fieldViolations.map(({ field }) => field));
  }
  return { code: grpc.status[told?.code ?? 0] ?? "UNKNOWN", reason, fields, text: told?.message ?? "" };
}
