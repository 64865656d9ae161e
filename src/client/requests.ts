// What callers ask for, checked before it is sent: a wrong argument throws RangeError at the call that made it, not a refusal a round trip later.

import type { AcquireLeaseRequest } from "../generated/aperture/v1/AcquireLeaseRequest.js";
import type { DeviceFilter as WireFilter } from "../generated/aperture/v1/DeviceFilter.js";
import type { TicketOptions as WireTicket } from "../generated/aperture/v1/TicketOptions.js";
import type { DeviceFilter } from "./model.js";
import { encodeVmm, type VmmOptions } from "./vmm.js";

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

/** How a lease is to be. */
export interface LeaseTerms {
  /** RETAIN: the daemon keeps the open files too, so that the lease can pass to a successor (nameSuccessor). Device leases only. Default HAND_OFF. */
  readonly mode?: "HAND_OFF" | "RETAIN";
  /** 1,000 to a year: when the daemon asks for it back, milliseconds. Default: as long as policy allows. */
  readonly maxDurationMs?: number;
  /** Answers what this VMM is started with too (HeldLease.vmmArguments, LeaseTicket.vmmArguments). Device leases only. */
  readonly vmm?: VmmOptions;
}

/** For whom a ticket is, and how long. */
export interface TicketOptions {
  /** Only a process of this user may show it. Default: any that knows it. */
  readonly uid?: number;
  /** 1,000 to 900,000 milliseconds. Default 60,000. */
  readonly lifetimeMs?: number;
}

function encodeDuration(ms: number, what: string): { readonly seconds: number; readonly nanos: number } {
  if (!Number.isSafeInteger(ms) || ms < 0) throw new RangeError(`${what}: ${ms} is not a whole number of milliseconds`);
  return { seconds: Math.floor(ms / 1000), nanos: (ms % 1000) * 1_000_000 };
}

export function encodeTicket({ uid, lifetimeMs }: TicketOptions): WireTicket {
  if (uid !== undefined && (!Number.isInteger(uid) || uid < 0 || uid > 0xfffffffe)) throw new RangeError(`${uid} is not a uid`);
  return {
    ...(uid === undefined ? {} : { uid }),
    ...(lifetimeMs === undefined ? {} : { lifetime: encodeDuration(lifetimeMs, "lifetimeMs") }),
  };
}

/** channel: from the ATTACHED frame; 0n with a ticket. */
export function encodeAcquire(
  target: AcquireTarget,
  requestId: string,
  channel: bigint,
  terms: LeaseTerms = {},
  ticket: TicketOptions | null = null,
): AcquireLeaseRequest {
  const common = {
    ...{ requestId, channel: channel.toString(), mode: `LEASE_MODE_${terms.mode ?? "HAND_OFF"}` as const },
    ...(ticket === null ? {} : { ticket: encodeTicket(ticket) }),
    ...(terms.vmm === undefined ? {} : { vmm: encodeVmm(terms.vmm) }),
    ...(terms.maxDurationMs === undefined ? {} : { maxDuration: encodeDuration(terms.maxDurationMs, "maxDurationMs") }),
  };
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
