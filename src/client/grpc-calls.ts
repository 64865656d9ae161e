// One gRPC connection to the daemon, with the rules that hold for every call: a deadline, and typed errors.

import * as grpc from "@grpc/grpc-js";
import type { MethodDefinition } from "@grpc/proto-loader";
import { callError } from "./call-error.js";
import { diagnoseConnection } from "./connection-diagnosis.js";
import { ApertureError } from "./errors.js";
import { fitsSocketAddress } from "./socket-path.js";

/** A method of a loaded service: what it takes and what it answers. */
export type Method<Request, Answer> = Pick<
  MethodDefinition<Request, never, never, Answer>,
  "path" | "requestSerialize" | "responseDeserialize"
>;

export class GrpcCalls {
  readonly socketPath: string;
  readonly #client: grpc.Client;

  private constructor(socketPath: string) {
    this.socketPath = socketPath;
    this.#client = new grpc.Client(`unix:${socketPath}`, grpc.credentials.createInsecure(), {
      // The authority would be the percent-encoded path, which some HTTP/2 servers refuse.
      "grpc.default_authority": "localhost",
      // Shared subchannels outlive close() and would keep the daemon's connection slot.
      "grpc.use_local_subchannel_pool": 1,
      "grpc.enable_http_proxy": 0,
    });
  }

  /** Opens nothing yet: the first call connects. Throws ApertureConnectionError when the path cannot be a socket's. */
  static async open(socketPath: string): Promise<GrpcCalls> {
    if (!fitsSocketAddress(socketPath)) throw await diagnoseConnection(socketPath);
    return new GrpcCalls(socketPath);
  }

  /** One unary call. Throws ApertureError and its subclasses. */
  async call<Request, Answer>(method: Method<Request, Answer>, request: Request, timeoutMs: number): Promise<Answer> {
    const result = await new Promise<{ answer: Answer } | { error: grpc.ServiceError }>((resolve) => {
      this.#client.makeUnaryRequest(
        method.path,
        method.requestSerialize,
        method.responseDeserialize,
        request,
        { deadline: Date.now() + timeoutMs },
        (error, answer) => {
          if (error !== null) resolve({ error });
          else if (answer === undefined) resolve({ error: noAnswer() });
          else resolve({ answer });
        },
      );
    });
    if ("answer" in result) return result.answer;
    throw await this.failure(method, result.error, timeoutMs);
  }

  /** One server-streaming call, without a deadline: whoever reads it cancels it. Its errors are ServiceErrors: see failure(). */
  stream<Request, Answer>(method: Method<Request, Answer>, request: Request): grpc.ClientReadableStream<Answer> {
    return this.#client.makeServerStreamRequest(method.path, method.requestSerialize, method.responseDeserialize, request);
  }

  /** One bidirectional stream, without a deadline. Its errors are ServiceErrors: see failure(). */
  duplex<Request, Answer>(method: Method<Request, Answer>): grpc.ClientDuplexStream<Request, Answer> {
    return this.#client.makeBidiStreamRequest(method.path, method.requestSerialize, method.responseDeserialize);
  }

  /** The typed error for what a call ended with. */
  async failure(method: Method<never, unknown>, error: grpc.ServiceError, timeoutMs: number): Promise<ApertureError> {
    return await callError(error, method.path.slice(method.path.lastIndexOf("/") + 1), timeoutMs, this.socketPath);
  }

  close(): void {
    this.#client.close();
  }
}

/** A part of an answer that the proto files call always present. Throws ApertureError (INTERNAL) when it is missing. */
export function required<T>(part: T | null, what: string): T {
  if (part !== null) return part;
  throw new ApertureError({ reason: "INTERNAL", code: "INTERNAL", message: `the daemon's answer has no ${what}` });
}

/** What a stream of grpc-js fails with. */
export function isServiceError(error: unknown): error is grpc.ServiceError {
  return error instanceof Error && "code" in error && "metadata" in error;
}

function noAnswer(): grpc.ServiceError {
  return Object.assign(new Error("no answer"), {
    code: grpc.status.INTERNAL,
    details: "the call ended without an answer",
    metadata: new grpc.Metadata(),
  });
}
