// Requests, read with distrust: every field is checked before the broker sees it, and a wrong one is named.

import { type Address, parseAddress } from "../broker/device.js";
import type { AcquireRequest, DeviceSelection, TicketOptions } from "../broker/lease.js";
import { granted, type Outcome, refuse } from "../broker/refusal.js";
import type { AcquireLeaseRequest__Output } from "../generated/aperture/v1/AcquireLeaseRequest.js";
import type { DeviceFilter__Output } from "../generated/aperture/v1/DeviceFilter.js";
import type { TicketOptions__Output } from "../generated/aperture/v1/TicketOptions.js";
import type { Duration__Output } from "../generated/google/protobuf/Duration.js";

export interface TicketLimits {
  /** Milliseconds that a ticket works: when the request does not say, and at the most. */
  readonly ticketMs: number;
  readonly ticketMaxMs: number;
}

const MAX_DEVICES = 16;
const MAX_REGIONS = 16;
const MAX_FILTER_ADDRESSES = 64;
const DEFAULT_PAGE = 100;
const MAX_PAGE = 1000;
const LEAST_TICKET_MS = 1_000;
const YEAR_MS = 365 * 86_400_000;
const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[1-8][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;

/** Text of a client, fit for a message: printable ASCII, at most 64 characters. */
export function quoted(text: string): string {
  const cut = text.length > 64 ? `${text.slice(0, 64)}...` : text;
  return JSON.stringify(cut).replace(/[^\x20-\x7e]/g, (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

export function wrong(field: string, what: string): ReturnType<typeof refuse> {
  return refuse("INVALID_FIELD", `${field}: ${what}`, { field });
}

export function readAddress(text: string, field: string): Outcome<Address> {
  const address = parseAddress(text);
  if (address === null) return refuse("MALFORMED_ADDRESS", `${field}: ${quoted(text)} is no PCI address`, { field });
  return granted(address);
}

export function readLeaseId(text: string): Outcome<string> {
  return UUID.test(text) ? granted(text) : wrong("lease_id", `${quoted(text)} is no lease id (a UUID in lower case)`);
}

export function readAcquire(request: AcquireLeaseRequest__Output, limits: TicketLimits): Outcome<AcquireRequest> {
  const kind = request.kind === "LEASE_KIND_DEVICE" ? "DEVICE" : request.kind === "LEASE_KIND_REGION" ? "REGION" : null;
  if (kind === null) return wrong("kind", "say LEASE_KIND_DEVICE or LEASE_KIND_REGION");
  const mode = readMode(request.mode, kind);
  if (mode.refusal) return mode;
  if (request.requestId !== "" && !UUID.test(request.requestId)) return wrong("request_id", "not a UUID in lower case");
  const most = kind === "DEVICE" ? MAX_DEVICES : 1;
  if (request.devices.length < 1 || request.devices.length > most) {
    return wrong(
      "devices",
      `${request.devices.length} devices, where a ${kind.toLowerCase()} lease takes 1${most === 1 ? "" : ` to ${most}`}`,
    );
  }
  const devices: DeviceSelection[] = [];
  for (const [i, selection] of request.devices.entries()) {
    const field = `devices[${i}]`;
    const address = readAddress(selection.address, `${field}.address`);
    if (address.refusal) return address;
    if (devices.some((other) => other.address === address.value)) return wrong(`${field}.address`, `${address.value} is named twice`);
    const regions = readRegions(selection.regions, kind, `${field}.regions`);
    if (regions.refusal) return regions;
    devices.push({ address: address.value, regions: regions.value });
  }
  const ticket = request.ticket === null ? granted(null) : readTicketOptions(request.ticket, limits);
  if (ticket.refusal) return ticket;
  const channel = BigInt(request.channel);
  if (ticket.value !== null && channel !== 0n) return wrong("channel", "a lease with a ticket is pushed to no channel: leave it out");
  const maxDurationMs =
    request.maxDuration === null ? granted(null) : readDuration(request.maxDuration, "max_duration", { min: 1_000, max: YEAR_MS });
  if (maxDurationMs.refusal) return maxDurationMs;
  const { requestId } = request;
  return granted({ requestId, kind, mode: mode.value, devices, channel, ticket: ticket.value, maxDurationMs: maxDurationMs.value });
}

function readMode(mode: AcquireLeaseRequest__Output["mode"], kind: "DEVICE" | "REGION"): Outcome<AcquireRequest["mode"]> {
  if (mode === "LEASE_MODE_UNSPECIFIED" || mode === "LEASE_MODE_HAND_OFF") return granted("HAND_OFF");
  if (mode !== "LEASE_MODE_RETAIN") return wrong("mode", "say LEASE_MODE_HAND_OFF or LEASE_MODE_RETAIN");
  if (kind === "REGION")
    return wrong("mode", "LEASE_MODE_RETAIN is for device leases: of a region lease the broker stays the owner anyway");
  return granted("RETAIN");
}

/** Fields left out are any user and ticketMs; so is a message left out (null), where it may be. */
export function readTicketOptions(options: TicketOptions__Output | null, limits: TicketLimits): Outcome<TicketOptions> {
  const uid = options?._uid === "uid" ? (options.uid ?? null) : null;
  if (uid === 0xffffffff) return wrong("ticket.uid", "4294967295 is no user");
  const max = limits.ticketMaxMs;
  if (!options?.lifetime) return granted({ uid, lifetimeMs: Math.min(limits.ticketMs, max) });
  const lifetimeMs = readDuration(options.lifetime, "ticket.lifetime", { min: LEAST_TICKET_MS, max });
  return lifetimeMs.refusal ? lifetimeMs : granted({ uid, lifetimeMs: lifetimeMs.value });
}

/** Milliseconds; part of one is dropped. */
function readDuration(duration: Duration__Output, field: string, bounds: { readonly min: number; readonly max: number }): Outcome<number> {
  const { nanos } = duration;
  const seconds = Number(duration.seconds);
  if (nanos <= -1_000_000_000 || nanos >= 1_000_000_000 || seconds * nanos < 0)
    return wrong(field, "seconds and nanos do not make a duration");
  const milliseconds = seconds * 1000 + nanos / 1_000_000;
  if (milliseconds < bounds.min || milliseconds > bounds.max) {
    return wrong(field, `${milliseconds / 1000} s, where ${bounds.min / 1000} to ${bounds.max / 1000} s are allowed`);
  }
  return granted(Math.floor(milliseconds));
}

function readRegions(regions: readonly number[], kind: "DEVICE" | "REGION", field: string): Outcome<readonly number[]> {
  if (kind === "DEVICE") return regions.length === 0 ? granted([]) : wrong(field, "a device lease has no regions: it is the whole device");
  if (regions.length < 1 || regions.length > MAX_REGIONS)
    return wrong(field, `${regions.length} regions, where a region lease takes 1 to ${MAX_REGIONS}`);
  if (new Set(regions).size !== regions.length) return wrong(field, "a region is named twice");
  return granted([...regions].sort((a, b) => a - b));
}

export interface DeviceFilter {
  readonly addresses: ReadonlySet<Address> | null;
  readonly vendorId: number | null;
  readonly deviceId: number | null;
  readonly leasableOnly: boolean;
}

export function readFilter(filter: DeviceFilter__Output | null): Outcome<DeviceFilter> {
  if (filter === null) return granted({ addresses: null, vendorId: null, deviceId: null, leasableOnly: false });
  if (filter.addresses.length > MAX_FILTER_ADDRESSES) {
    return wrong("filter.addresses", `${filter.addresses.length} addresses, where ${MAX_FILTER_ADDRESSES} are the most`);
  }
  const addresses = new Set<Address>();
  for (const [i, text] of filter.addresses.entries()) {
    const address = readAddress(text, `filter.addresses[${i}]`);
    if (address.refusal) return address;
    addresses.add(address.value);
  }
  const ids = {
    vendorId: filter._vendorId === "vendorId" ? filter.vendorId : undefined,
    deviceId: filter._deviceId === "deviceId" ? filter.deviceId : undefined,
  };
  for (const [field, id] of [
    ["filter.vendor_id", ids.vendorId],
    ["filter.device_id", ids.deviceId],
  ] as const) {
    if (id !== undefined && id > 0xffff) return wrong(field, `${id} has more than 16 bits`);
  }
  return granted({
    addresses: addresses.size > 0 ? addresses : null,
    vendorId: ids.vendorId ?? null,
    deviceId: ids.deviceId ?? null,
    leasableOnly: filter.leasableOnly,
  });
}

/** The page to give: its size, and the key (address or lease id) after which it starts. */
export interface Page {
  readonly size: number;
  readonly after: string;
}

export function readPage(request: { readonly pageSize: number; readonly pageToken: string }): Outcome<Page> {
  if (request.pageSize < 0) return wrong("page_size", `${request.pageSize} is below 0`);
  const size = request.pageSize === 0 ? DEFAULT_PAGE : Math.min(request.pageSize, MAX_PAGE);
  if (request.pageToken === "") return granted({ size, after: "" });
  const after = /^[A-Za-z0-9_-]{1,64}$/.test(request.pageToken) ? Buffer.from(request.pageToken, "base64url").toString("latin1") : "";
  if (!/^[0-9a-f:.-]{1,40}$/.test(after)) return wrong("page_token", "not a token of this server; start with an empty one");
  return granted({ size, after });
}

/** Continues after the last key given. The order is by key and stable, so nothing else has to be remembered. */
export function pageToken(lastKey: string): string {
  return Buffer.from(lastKey, "latin1").toString("base64url");
}
