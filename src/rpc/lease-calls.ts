// The calls on leases, by whatever way they come: translate, ask the broker, encode its answer.

import type { LeaseSession } from "../broker/lease.js";
import type { GrantedLease, Leases } from "../broker/leases.js";
import type { Peer } from "../broker/ports.js";
import { granted, type Outcome } from "../broker/refusal.js";
import type { AcquireLeaseRequest__Output } from "../generated/aperture/v1/AcquireLeaseRequest.js";
import type { GetLeaseRequest__Output } from "../generated/aperture/v1/GetLeaseRequest.js";
import type { NameSuccessorRequest__Output } from "../generated/aperture/v1/NameSuccessorRequest.js";
import type { ReleaseLeaseRequest__Output } from "../generated/aperture/v1/ReleaseLeaseRequest.js";
import { leaseResponse } from "./encoded-leases.js";
import { requirePeer } from "./unary.js";
import { readAcquire, readLeaseId, readTicketOptions, type TicketLimits } from "./validate.js";

export class LeaseCalls {
  readonly #leases: Leases;
  readonly #limits: TicketLimits;

  /** limits are read at each call. */
  constructor(leases: Leases, limits: TicketLimits) {
    this.#leases = leases;
    this.#limits = limits;
  }

  async acquire(request: AcquireLeaseRequest__Output, caller: Peer | null, session: LeaseSession | null = null): Promise<Outcome<Buffer>> {
    const peer = requirePeer(caller);
    if (peer.refusal) return peer;
    const wanted = readAcquire(request, this.#limits);
    if (wanted.refusal) return wanted;
    const made = await this.#leases.acquire(peer.value, wanted.value, session);
    return made.refusal ? made : granted(withTicket(made.value));
  }

  async release(request: ReleaseLeaseRequest__Output, caller: Peer | null): Promise<Outcome<Buffer>> {
    const asked = read(request, caller);
    if (asked.refusal) return asked;
    const lease = await this.#leases.release(asked.value.peer, asked.value.id);
    return lease.refusal ? lease : granted(leaseResponse(lease.value));
  }

  get(request: GetLeaseRequest__Output, caller: Peer | null): Outcome<Buffer> {
    const asked = read(request, caller);
    if (asked.refusal) return asked;
    const lease = this.#leases.get(asked.value.peer, asked.value.id);
    return lease.refusal ? lease : granted(leaseResponse(lease.value));
  }

  nameSuccessor(request: NameSuccessorRequest__Output, caller: Peer | null): Outcome<Buffer> {
    const asked = read(request, caller);
    if (asked.refusal) return asked;
    const options = readTicketOptions(request.ticket, this.#limits);
    if (options.refusal) return options;
    const named = this.#leases.nameSuccessor(asked.value.peer, asked.value.id, options.value);
    return named.refusal ? named : granted(withTicket(named.value));
  }
}

function read(request: { readonly leaseId: string }, caller: Peer | null): Outcome<{ readonly peer: Peer; readonly id: string }> {
  const peer = requirePeer(caller);
  if (peer.refusal) return peer;
  const id = readLeaseId(request.leaseId);
  return id.refusal ? id : granted({ peer: peer.value, id: id.value });
}

function withTicket({ lease, ticket }: GrantedLease): Buffer {
  return leaseResponse(lease, ticket);
}
