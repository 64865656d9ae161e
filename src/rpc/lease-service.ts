// LeaseService: its calls one by one (lease-calls.ts), many over one stream (session.ts), and the watch.

import type { handleBidiStreamingCall, handleServerStreamingCall, handleUnaryCall, ServerWritableStream } from "@grpc/grpc-js";
import type { LeaseView } from "../broker/lease.js";
import type { LeaseChange } from "../broker/lease-register.js";
import type { Leases } from "../broker/leases.js";
import type { Peer } from "../broker/ports.js";
import { granted, type Reason } from "../broker/refusal.js";
import type { AcquireLeaseRequest__Output } from "../generated/aperture/v1/AcquireLeaseRequest.js";
import type { GetLeaseRequest__Output } from "../generated/aperture/v1/GetLeaseRequest.js";
import type { ListLeasesRequest__Output } from "../generated/aperture/v1/ListLeasesRequest.js";
import type { NameSuccessorRequest__Output } from "../generated/aperture/v1/NameSuccessorRequest.js";
import type { ReleaseLeaseRequest__Output } from "../generated/aperture/v1/ReleaseLeaseRequest.js";
import type { SessionRequest__Output } from "../generated/aperture/v1/SessionRequest.js";
import type { WatchLeasesRequest__Output } from "../generated/aperture/v1/WatchLeasesRequest.js";
import { leaseEvents, leasePage } from "./encoded-leases.js";
import { LeaseCalls } from "./lease-calls.js";
import { Session, type SessionLimits } from "./session.js";
import { type PeerLookup, requirePeer, type Unary } from "./unary.js";
import { pageToken, readPage, type TicketLimits } from "./validate.js";
import type { VmmWords } from "./vmm-arguments.js";
import { CoalescedStream, type WatcherPlaces } from "./watching.js";

export interface LeaseServiceDeps {
  readonly leases: Leases;
  readonly limits: TicketLimits & SessionLimits;
  readonly words: VmmWords;
  readonly unary: Unary;
  readonly watchers: WatcherPlaces;
  readonly peerOf: PeerLookup;
  readonly onFault: (where: string, error: unknown) => void;
  readonly onRefused: (reason: Reason) => void;
  /** The daemon is stopping. */
  readonly stopping: () => boolean;
}

/** Handlers of encodedLeaseService (encoded-leases.ts). */
interface Handlers {
  readonly AcquireLease: handleUnaryCall<AcquireLeaseRequest__Output, Buffer>;
  readonly ReleaseLease: handleUnaryCall<ReleaseLeaseRequest__Output, Buffer>;
  readonly GetLease: handleUnaryCall<GetLeaseRequest__Output, Buffer>;
  readonly NameSuccessor: handleUnaryCall<NameSuccessorRequest__Output, Buffer>;
  readonly ListLeases: handleUnaryCall<ListLeasesRequest__Output, Buffer>;
  readonly WatchLeases: handleServerStreamingCall<WatchLeasesRequest__Output, Buffer>;
  readonly Session: handleBidiStreamingCall<SessionRequest__Output, Buffer>;
}

export function leaseService({ leases, limits, words, unary, watchers, peerOf, onFault, onRefused, stopping }: LeaseServiceDeps): Handlers {
  const calls = new LeaseCalls(leases, limits, words);
  return {
    AcquireLease: unary((request, caller) => calls.acquire(request, caller)),
    ReleaseLease: unary((request, caller) => calls.release(request, caller)),
    GetLease: unary((request, caller) => calls.get(request, caller)),
    NameSuccessor: unary((request, caller) => calls.nameSuccessor(request, caller)),
    ListLeases: unary((request, caller) => {
      const peer = requirePeer(caller);
      if (peer.refusal) return peer;
      const page = readPage(request);
      if (page.refusal) return page;
      const all = inOrder(leases.list(peer.value));
      const begin = page.value.after === "" ? 0 : all.findIndex((lease) => keyOf(lease) > page.value.after);
      const rest = begin < 0 ? [] : all.slice(begin);
      const shown = rest.slice(0, page.value.size);
      const last = shown.at(-1);
      return granted(leasePage(shown, last && rest.length > shown.length ? pageToken(keyOf(last)) : ""));
    }),
    WatchLeases: (call) =>
      watchers.serve(call, () => {
        const peer = requirePeer(peerOf(call.getPeer()));
        return peer.refusal ? peer : granted(watch(call, leases, peer.value));
      }),
    Session: (call) => {
      const peer = (): Peer | null => peerOf(call.getPeer());
      new Session(call, { calls, leases, limits, peer, onFault, onRefused, stopping }).start();
    },
  };
}

/** Starts a watch; the returned function ends it. */
function watch(call: ServerWritableStream<WatchLeasesRequest__Output, Buffer>, leases: Leases, peer: Peer): () => void {
  const stream = new CoalescedStream<LeaseChange["kind"], LeaseView, Buffer>(call, {
    last: "ENDED",
    key: keyOf,
    message: ({ snapshot, changes, synced }) =>
      leaseEvents([
        ...snapshot.map((view) => ({ kind: "SNAPSHOT", view }) as const),
        ...changes,
        ...(synced ? [{ kind: "SYNCED", view: null } as const] : []),
      ]),
  });
  const { snapshot, stop } = leases.watch(peer, ({ kind, view }) => stream.tell(kind, view));
  stream.start(inOrder(snapshot));
  return () => {
    stop();
    stream.stop();
  };
}

/** Orders leases by age; survives the end of the lease it was made from. Whole microseconds: digits of a fraction would not sort as text. */
function keyOf(lease: { readonly createTime: number; readonly id: string }): string {
  const microseconds = Math.round(lease.createTime * 1000);
  return `${microseconds.toString(16).padStart(14, "0")}.${lease.id.slice(0, 13)}`;
}

function inOrder(leases: readonly LeaseView[]): readonly LeaseView[] {
  return [...leases].sort((a, b) => (keyOf(a) < keyOf(b) ? -1 : 1));
}
