// What every unary call has in common: who is calling, refusals as statuses, faults logged and not shown, one place for counting.

import type { handleUnaryCall, ServerUnaryCall } from "@grpc/grpc-js";
import type { Peer } from "../broker/ports.js";
import { type Outcome, type Reason, refuse } from "../broker/refusal.js";
import { internalError, toGrpcError } from "./status.js";

/** Finds the process behind a call by the name that grpc-js gives its connection; null for a caller that is no local process. */
export type PeerLookup = (key: string) => Peer | null;

export type Unary = <Request, Response>(
  handle: (request: Request, peer: Peer | null) => Outcome<Response> | Promise<Outcome<Response>>,
) => handleUnaryCall<Request, Response>;

export interface UnaryDeps {
  readonly peerOf: PeerLookup;
  readonly onRefused: (reason: Reason) => void;
  readonly onFault: (where: string, error: unknown) => void;
}

export function makeUnary({ peerOf, onRefused, onFault }: UnaryDeps): Unary {
  return <Request, Response>(handle: (request: Request, peer: Peer | null) => Outcome<Response> | Promise<Outcome<Response>>) =>
    (
      call: ServerUnaryCall<Request, Response>,
      callback: (error: Partial<ReturnType<typeof internalError>> | null, value?: Response | null) => void,
    ): void => {
      const answer = async (): Promise<void> => {
        try {
          const outcome = await handle(call.request, peerOf(call.getPeer()));
          if (outcome.refusal) {
            onRefused(outcome.refusal.reason);
            callback(toGrpcError(outcome.refusal));
          } else callback(null, outcome.value);
        } catch (error) {
          onFault(call.getPath(), error);
          callback(internalError());
        }
      };
      void answer();
    };
}

/** Leases are for local processes only: everything that ends one hangs on the process. */
export function requirePeer(peer: Peer | null): Outcome<Peer> {
  if (peer === null) return refuse("PEER_UNKNOWN", "leases are given to local processes only, over the UNIX socket");
  if (!peer.isAlive()) return refuse("PEER_GONE", `process ${peer.pid} has exited`);
  return { value: peer, refusal: null };
}
