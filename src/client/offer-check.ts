// Whether an OFFER is what the gRPC answer promised. Two independent paths say what each descriptor is; a VMM that maps by one and was sent the
// other would map the wrong thing, so any difference ends the lease.

import type { Offer } from "./descriptor-channel.js";
import { HandoverError } from "./errors.js";
import type { OfferEntry } from "./frame.js";
import type { DescriptorInfo, Lease } from "./model.js";

const COMPARED = ["kind", "scope", "address", "region", "group", "offset", "size"] as const satisfies readonly (keyof OfferEntry &
  keyof DescriptorInfo)[];

/** succession: whether the descriptors may be those of a holder before. Throws HandoverError (HANDOVER_TRUNCATED, HANDOVER_MISMATCH). The offer's descriptors stay the caller's. */
export function checkOffer(offer: Offer, lease: Lease, succession = false): void {
  const { entries, kind, backend } = offer.frame;
  if (offer.truncated) {
    throw new HandoverError(
      "HANDOVER_TRUNCATED",
      "RESOURCE_EXHAUSTED",
      `not all of the ${entries.length} descriptors of the lease could be received`,
      "raise this process's limit of open files (RLIMIT_NOFILE), or close descriptors first",
    );
  }
  if (offer.descriptors.length !== entries.length)
    throw mismatch(`${offer.descriptors.length} descriptors came with ${entries.length} entries`);
  if (entries.length !== lease.descriptors.length) throw mismatch(`${entries.length} entries, ${lease.descriptors.length} in the answer`);
  if (offer.frame.succession && !succession) throw mismatch("descriptors that are in use where fresh ones were asked for");
  if (kind !== lease.kind) throw mismatch(`lease kind ${kind}, ${lease.kind} in the answer`);
  if (backend !== lease.backend) throw mismatch(`back end ${backend}, ${lease.backend} in the answer`);
  for (const [index, entry] of entries.entries()) {
    const promised = lease.descriptors[index];
    for (const field of COMPARED) {
      if (promised?.[field] !== entry[field]) {
        throw mismatch(`${field} of descriptor ${index} is ${entry[field]}, ${promised?.[field]} in the answer`);
      }
    }
  }
}

function mismatch(what: string): HandoverError {
  return new HandoverError(
    "HANDOVER_MISMATCH",
    "INTERNAL",
    `the descriptors that came are not those of the lease: ${what}`,
    "this is a fault of the daemon: keep its log",
  );
}
