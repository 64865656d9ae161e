// What happens to every call, seen from the call object itself: grpc-js ends calls also behind its interceptors (deadline, an oversized or unreadable message), so an
// interceptor's sendStatus alone would miss those.

import { ServerInterceptingCall, type ServerInterceptor, status } from "@grpc/grpc-js";

/** One call, from its start. Declared here for whoever counts (telemetry). */
export interface CallObservation {
  received(): void;
  sent(): void;
  /** Once. code: gRPC status name; CANCELLED when the client went away first. */
  ended(code: string, milliseconds: number): void;
}

export type CallKind = "unary" | "client_stream" | "server_stream" | "bidi_stream";

export interface CallHooks {
  /** A whole request has come over the connection of this key. */
  readonly onCall: (key: string) => void;
  readonly observeCall: (path: string, kind: CallKind) => CallObservation;
  /** Runs the call, and all that it starts, in the trace of its traceparent metadata; without one just runs it. */
  readonly inTraceOf: (traceparent: readonly unknown[], work: () => void) => void;
}

export function observing({ onCall, observeCall, inTraceOf }: CallHooks): ServerInterceptor {
  return (method, call) => {
    const kind: CallKind = method.requestStream
      ? method.responseStream
        ? "bidi_stream"
        : "client_stream"
      : method.responseStream
        ? "server_stream"
        : "unary";
    const begin = process.hrtime.bigint();
    let traceparent: readonly unknown[] = [];
    let observation: CallObservation | null = null;
    const end = (code: string): void => {
      observation?.ended(code, Number(process.hrtime.bigint() - begin) / 1e6);
      observation = null;
    };
    const { sendStatus } = call;
    call.sendStatus = (object) => {
      end(status[object.code] ?? "UNKNOWN");
      sendStatus.call(call, object);
    };
    return new ServerInterceptingCall(call, {
      start: (next) =>
        next({
          onReceiveMetadata: (metadata, nextMetadata) => {
            observation = observeCall(method.path, kind);
            traceparent = metadata.get("traceparent");
            inTraceOf(traceparent, () => nextMetadata(metadata));
          },
          onReceiveMessage: (message, nextMessage) => {
            // Not before its message is here: HEADERS alone cost a peer nothing, and would keep its connection for ever.
            onCall(call.getPeer());
            observation?.received();
            inTraceOf(traceparent, () => nextMessage(message));
          },
          onReceiveHalfClose: (nextHalfClose) => inTraceOf(traceparent, nextHalfClose),
          // Comes after every call, when its stream is closed: news only if it has not ended yet.
          onCancel: () => end("CANCELLED"),
        }),
      sendMessage: (message, next) => {
        observation?.sent();
        next(message);
      },
    });
  };
}
