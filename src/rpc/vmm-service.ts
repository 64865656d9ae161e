// VmmService: arguments for VMMs, for devices or for a lease.

import type { Address } from "../broker/device.js";
import type { Leases } from "../broker/leases.js";
import type { Peer } from "../broker/ports.js";
import { granted, type Outcome } from "../broker/refusal.js";
import type { GetArgumentsRequest__Output } from "../generated/aperture/v1/GetArgumentsRequest.js";
import type { VmmServiceHandlers } from "../generated/aperture/v1/VmmService.js";
import { requirePeer, type Unary } from "./unary.js";
import { readLeaseId, wrong } from "./validate.js";
import { readAddresses, type VmmWords } from "./vmm-arguments.js";

export interface VmmServiceDeps {
  readonly leases: Leases;
  readonly words: VmmWords;
  readonly unary: Unary;
}

export function vmmService({ leases, words, unary }: VmmServiceDeps): VmmServiceHandlers {
  return {
    GetArguments: unary((request, caller) => {
      const addresses = readWhich(request, caller, leases);
      if (addresses.refusal) return addresses;
      const made = words.arguments(request.options, addresses.value, "options");
      return made.refusal ? made : granted({ arguments: made.value });
    }),
  };
}

function readWhich({ addresses, leaseId }: GetArgumentsRequest__Output, caller: Peer | null, leases: Leases): Outcome<readonly Address[]> {
  if (leaseId === "") return readAddresses(addresses, "addresses");
  if (addresses.length > 0) return wrong("addresses", "with lease_id they are the lease's: leave them out");
  const peer = requirePeer(caller);
  if (peer.refusal) return peer;
  const id = readLeaseId(leaseId);
  if (id.refusal) return id;
  const lease = leases.get(peer.value, id.value);
  return lease.refusal ? lease : granted(lease.value.devices.map(({ address }) => address));
}
