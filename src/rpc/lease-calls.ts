// The calls on leases, by whatever way they come: translate, ask the broker, encode its answer.

import type { AcquireRequest, LeaseSession } from "../broker/lease.js";
import type { GrantedLease, Leases } from "../broker/leases.js";
import type { Peer } from "../broker/ports.js";
import { granted, type Outcome } from "../broker/refusal.js";
import type { AcquireLeaseRequest__Output } from "../generated/aperture/v1/AcquireLeaseRequest.js";
import type { GetLeaseRequest__Output } from "../generated/aperture/v1/GetLeaseRequest.js";
import type { NameSuccessorRequest__Output } from "../generated/aperture/v1/NameSuccessorRequest.js";
import type { ReleaseLeaseRequest__Output } from "../generated/aperture/v1/ReleaseLeaseRequest.js";
import { leaseResponse } from "./encoded-leases.js";
import { messages } from "./protos.js";
import { requirePeer } from "./unary.js";
import { readAcquire, readLeaseId, readTicketOptions, type TicketLimits, wrong } from "./validate.js";
import type { VmmWords } from "./vmm-arguments.js";

export class LeaseCalls {
  readonly #leases: Leases;
  readonly #limits: TicketLimits;
  readonly #words: VmmWords;

  /** limits are read at each call. */
  constructor(leases: Leases, limits: TicketLimits, words: VmmWords) {
    this.#leases = leases;
    this.#limits = limits;
    this.#words = words;
  }

  async acquire(request: AcquireLeaseRequest__Output, caller: Peer | null, session: LeaseSession | null = null): Promise<Outcome<Buffer>> {
    const peer = requirePeer(caller);
    if (peer.refusal) return peer;
    const wanted = readAcquire(request, this.#limits);
    if (wanted.refusal) return wanted;
    const words = request.vmm === null ? null : this.#argumentsFor(request, wanted.value);
    if (words?.refusal) return words;
    const made = await this.#leases.acquire(peer.value, wanted.value, session);
    if (made.refusal) return made;
    const { lease, ticket } = made.value;
    return granted(leaseResponse(lease, ticket, words?.value ?? null, this.#leases.vfTokens(peer.value, lease.id)));
  }

  /** Made before anything is locked: what a VMM cannot take is not leased for it. */
  #argumentsFor({ vmm }: AcquireLeaseRequest__Output, { kind, devices }: AcquireRequest): Outcome<Uint8Array> {
    if (kind === "REGION") return wrong("vmm", "a VMM takes whole devices: leave it out of a region lease");
    const made = this.#words.arguments(
      vmm,
      devices.map(({ address }) => address),
      "vmm",
    );
    return made.refusal ? made : granted(messages.vmmArguments.serialize(made.value));
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
    const { peer, id } = asked.value;
    const lease = this.#leases.get(peer, id);
    return lease.refusal ? lease : granted(leaseResponse(lease.value, null, null, this.#leases.vfTokens(peer, id)));
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
