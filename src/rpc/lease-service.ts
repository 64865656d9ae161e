// LeaseService: translate, ask the broker, translate back.

import type { Leases } from "../broker/leases.js";
import { granted } from "../broker/refusal.js";
import type { LeaseServiceHandlers } from "../generated/aperture/v1/LeaseService.js";
import { toLease } from "./translate.js";
import { requirePeer, type Unary } from "./unary.js";
import { pageToken, readAcquire, readLeaseId, readPage } from "./validate.js";

type Served = "AcquireLease" | "ReleaseLease" | "GetLease" | "ListLeases";

export function leaseService({ leases, unary }: { readonly leases: Leases; readonly unary: Unary }): Pick<LeaseServiceHandlers, Served> {
  return {
    AcquireLease: unary(async (request, caller) => {
      const peer = requirePeer(caller);
      if (peer.refusal) return peer;
      const wanted = readAcquire(request);
      if (wanted.refusal) return wanted;
      const lease = await leases.acquire(peer.value, wanted.value);
      return lease.refusal ? lease : granted({ lease: toLease(lease.value) });
    }),
    ReleaseLease: unary(async (request, caller) => {
      const peer = requirePeer(caller);
      if (peer.refusal) return peer;
      const id = readLeaseId(request.leaseId);
      if (id.refusal) return id;
      const lease = await leases.release(peer.value, id.value);
      return lease.refusal ? lease : granted({ lease: toLease(lease.value) });
    }),
    GetLease: unary((request, caller) => {
      const peer = requirePeer(caller);
      if (peer.refusal) return peer;
      const id = readLeaseId(request.leaseId);
      if (id.refusal) return id;
      const lease = leases.get(peer.value, id.value);
      return lease.refusal ? lease : granted({ lease: toLease(lease.value) });
    }),
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
  };
}

/** Orders leases by age; survives the end of the lease it was made from. Whole microseconds: digits of a fraction would not sort as text. */
function keyOf(lease: { readonly createTime: number; readonly id: string }): string {
  const microseconds = Math.round(lease.createTime * 1000);
  return `${microseconds.toString(16).padStart(14, "0")}.${lease.id.slice(0, 13)}`;
}
