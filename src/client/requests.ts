// What callers ask for, checked before it is sent: a wrong argument throws RangeError at the call that made it, not a refusal a round trip later.

import type { AcquireLeaseRequest } from "../generated/aperture/v1/AcquireLeaseRequest.js";
import type { DeviceFilter as WireFilter } from "../generated/aperture/v1/DeviceFilter.js";
import type { DeviceFilter } from "./model.js";

/** What to lease. */
export type AcquireTarget =
  /** Whole devices, for a VMM that drives them itself; all or none. */
  | { readonly kind: "device"; readonly addresses: readonly string[] }
  /** VFIO region indexes of one device, while the broker stays its owner. */
  | { readonly kind: "region"; readonly address: string; readonly regions: readonly number[] };

export function encodeFilter(filter: DeviceFilter): WireFilter {
  return {
    addresses: [...(filter.addresses ?? [])],
    leasableOnly: filter.leasableOnly ?? false,
    ...(filter.vendorId === undefined ? {} : { vendorId: filter.vendorId }),
    ...(filter.deviceId === undefined ? {} : { deviceId: filter.deviceId }),
  };
}

/** channel: from the ATTACHED frame. */
export function encodeAcquire(target: AcquireTarget, requestId: string, channel: bigint): AcquireLeaseRequest {
  const common = { requestId, channel: channel.toString(), mode: "LEASE_MODE_HAND_OFF" } as const;
  if (target.kind === "device") {
    if (target.addresses.length === 0) throw new RangeError("a device lease needs at least one address");
    return { ...common, kind: "LEASE_KIND_DEVICE", devices: target.addresses.map((address) => ({ address, regions: [] })) };
  }
  if (target.regions.length === 0) throw new RangeError("a region lease needs at least one region index");
  for (const region of target.regions) {
    if (!Number.isInteger(region) || region < 0 || region > 0xffffffff) throw new RangeError(`${region} is not a region index`);
  }
  return { ...common, kind: "LEASE_KIND_REGION", devices: [{ address: target.address, regions: [...target.regions] }] };
}
