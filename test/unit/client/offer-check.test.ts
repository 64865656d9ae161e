import assert from "node:assert/strict";
import { test } from "node:test";
import type { Offer } from "../../../src/client/descriptor-channel.js";
import { HandoverError } from "../../../src/client/errors.js";
import type { OfferEntry } from "../../../src/client/frame.js";
import type { Lease } from "../../../src/client/model.js";
import { checkOffer } from "../../../src/client/offer-check.js";
import { OwnedDescriptor } from "../../../src/descriptor.js";

const IOMMUFD: OfferEntry = { kind: "IOMMUFD", scope: "IOMMU", address: null, region: null, group: null, offset: 0n, size: 0n };
const DEVICE: OfferEntry = { ...IOMMUFD, kind: "DEVICE_UNBOUND", scope: "DEVICE", address: "0000:01:00.0" };

const LEASE: Lease = {
  id: "00112233-4455-4677-8899-aabbccddeeff",
  kind: "DEVICE",
  mode: "HAND_OFF",
  state: "OFFERED",
  devices: [{ address: "0000:01:00.0", regions: [] }],
  descriptors: [IOMMUFD, DEVICE],
  backend: "IOMMUFD",
  holderPid: 1,
  holderUid: 1,
  createTime: null,
  ackDeadline: null,
  endTime: null,
  endCause: "UNSPECIFIED",
  quarantined: [],
  ownerUid: 0,
  expireTime: null,
  ticketExpireTime: null,
  recall: null,
  policyRule: "",
};

function offer(changes: Partial<Offer["frame"]> = {}, received = 2, truncated = false): Offer {
  // Numbers that are never open: nothing here closes them.
  const descriptors = Array.from({ length: received }, (_, index) => new OwnedDescriptor(1_000_000 + index, "a test"));
  const frame = {
    type: "OFFER",
    leaseId: LEASE.id,
    kind: "DEVICE",
    backend: "IOMMUFD",
    succession: false,
    entries: [IOMMUFD, DEVICE],
    ...changes,
  } as const;
  return { frame, descriptors, truncated };
}

function refusedWith(reason: string, bad: Offer): void {
  assert.throws(
    () => checkOffer(bad, LEASE),
    (error: unknown) => error instanceof HandoverError && error.reason === reason,
  );
}

test("an offer that says what the answer says passes [pure]", () => {
  checkOffer(offer(), LEASE);
});

test("descriptors that did not arrive are a truncation [pure]", () => {
  refusedWith("HANDOVER_TRUNCATED", offer({}, 0, true));
});

test("every field that differs from the answer is a mismatch [pure]", () => {
  refusedWith("HANDOVER_MISMATCH", offer({}, 3));
  refusedWith("HANDOVER_MISMATCH", offer({ kind: "REGION" }));
  refusedWith("HANDOVER_MISMATCH", offer({ backend: "LEGACY" }));
  refusedWith("HANDOVER_MISMATCH", offer({ entries: [IOMMUFD] }, 1));
  refusedWith("HANDOVER_MISMATCH", offer({ entries: [DEVICE, IOMMUFD] }));
  for (const change of [
    { kind: "DEVICE" },
    { scope: "REGION" },
    { address: "0000:02:00.0" },
    { region: 4 },
    { group: 1 },
    { offset: 1n },
    { size: 1n },
  ]) {
    refusedWith("HANDOVER_MISMATCH", offer({ entries: [IOMMUFD, { ...DEVICE, ...change } as OfferEntry] }));
  }
});
