// LeaseService: its calls one by one (lease-calls.ts), many over one stream (session.ts), and the watch.

import type { ServerWritableStream } from "@grpc/grpc-js";
import type { LeaseView } from "../broker/lease.js";
import type { LeaseChange } from "../broker/lease-register.js";
import type { Leases } from "../broker/leases.js";
import type { Peer } from "../broker/ports.js";
import { granted, type Reason } from "../broker/refusal.js";
import type { LeaseEvent } from "../generated/aperture/v1/LeaseEvent.js";
import type { LeaseServiceHandlers } from "../generated/aperture/v1/LeaseService.js";
import type { WatchLeasesRequest__Output } from "../generated/aperture/v1/WatchLeasesRequest.js";
import type { WatchLeasesResponse } from "../generated/aperture/v1/WatchLeasesResponse.js";
import { LeaseCalls } from "./lease-calls.js";
import { Session, type SessionLimits } from "./session.js";
import { toLease } from "./translate.js";
import { type PeerLookup, requirePeer, type Unary } from "./unary.js";
import { pageToken, readPage, type TicketLimits } from "./validate.js";
import { CoalescedStream, type WatcherPlaces } from "./watching.js";

export interface LeaseServiceDeps {
  readonly leases: Leases;
  readonly limits: TicketLimits & SessionLimits;
  readonly unary: Unary;
  readonly watchers: WatcherPlaces;
  readonly peerOf: PeerLookup;
  readonly onFault: (where: string, error: unknown) => void;
  readonly onRefused: (reason: Reason) => void;
  /** The daemon is stopping. */
  readonly stopping: () => boolean;
}

export function leaseService({
  leases,
  limits,
  unary,
  watchers,
  peerOf,
  onFault,
  onRefused,
  stopping,
}: LeaseServiceDeps): LeaseServiceHandlers {
  const calls = new LeaseCalls(leases, limits);
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
      const all = [...leases.list(peer.value)].sort((a, b) => (keyOf(a) < keyOf(b) ? -1 : 1));
      const begin = page.value.after === "" ? 0 : all.findIndex((lease) => keyOf(lease) > page.value.after);
      const rest = begin < 0 ? [] : all.slice(begin);
      const shown = rest.slice(0, page.value.size);
      const last = shown.at(-1);
      return granted({ leases: shown.map(toLease), nextPageToken: last && rest.length > shown.length ? pageToken(keyOf(last)) : "" });
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
function watch(call: ServerWritableStream<WatchLeasesRequest__Output, WatchLeasesResponse>, leases: Leases, peer: Peer): () => void {
  const stream = new CoalescedStream<LeaseChange["kind"], LeaseView, LeaseEvent, WatchLeasesResponse>(call, {
    last: "ENDED",
    synced: { kind: "LEASE_EVENT_KIND_SYNCED" },
    event: (kind, view) => ({ kind: `LEASE_EVENT_KIND_${kind}`, lease: toLease(view) }),
    message: (events) => ({ events }),
  });
  const { snapshot, stop } = leases.watch(peer, ({ kind, view }) => stream.tell(view.id, kind, view));
  stream.start(snapshot.map((view) => [view.id, view]));
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
