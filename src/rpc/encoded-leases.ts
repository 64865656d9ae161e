// Leases as bytes, written field by field. They are what a client waits for, and the general codec (objects with every number as text, checked and copied, then encoded) takes
// longer for one than everything else that AcquireLease does. Regions are most of a lease, and the same for each lease of a device: they are encoded once.
// A test decodes with the general codec what is written here, with every field of proto/aperture/v1/lease.proto set.

import type { ServiceDefinition } from "@grpc/grpc-js";
import type { Writer } from "protobufjs";
import type { Address, Region } from "../broker/device.js";
import type { LeaseView } from "../broker/lease.js";
import type { LeaseChange } from "../broker/lease-register.js";
import type { DescriptorInfo } from "../broker/ports.js";
import type { Refusal } from "../broker/refusal.js";
import { protobufWriter } from "./libraries.js";
import { messages, services } from "./protos.js";
import { toStatus } from "./status.js";
import { toRegion } from "./translate.js";

/** Wire types: a tag is field number × 8 + one of them. */
const VARINT = 0;
const BYTES = 2;

// Numbers of proto/aperture/v1/lease.proto and device.proto.
const BACKEND = { IOMMUFD: 1, LEGACY: 2, SIMULATED: 3 } as const;
const KIND = { DEVICE: 1, REGION: 2 } as const;
const MODE = { HAND_OFF: 1, RETAIN: 2 } as const;
const SCOPE = { DEVICE: 1, REGION: 2, IOMMU: 3 } as const;
const DESCRIPTOR_KIND = { IOMMUFD: 1, DEVICE_UNBOUND: 2, CONTAINER: 3, GROUP: 4, DEVICE: 5, REGION: 6 } as const;
const STATE = { OPENING: 1, OFFERED: 2, HELD: 3, RELEASING: 4, RESETTING: 5, ENDED: 6, RESERVED: 7 } as const;
const EVENT_KIND = { SNAPSHOT: 1, SYNCED: 2, CHANGED: 3, ENDED: 4 } as const;
const END_CAUSE = {
  ...{ RELEASED: 1, HOLDER_DIED: 2, NOT_ACKNOWLEDGED: 3, SHORT_HANDOVER: 4, HANDOVER_FAILED: 5, DEVICE_REMOVED: 6, TICKET_EXPIRED: 7 },
  ...{ EXPIRED: 8, SESSION_ENDED: 9, SUCCEEDED: 10, OPEN_FAILED: 11 },
} as const;

/**
 * A response that holds a lease as field 1, and a ticket, if any, as field 2: AcquireLease, NameSuccessor, ReleaseLease, GetLease. Also an entry of ListLeasesResponse. vmm: the
 * VmmArguments of AcquireLease, encoded. vfTokens: only in an answer to the process that holds the lease.
 */
export function leaseResponse(
  view: LeaseView,
  ticket: Uint8Array | null = null,
  vmm: Uint8Array | null = null,
  vfTokens: ReadonlyMap<Address, Uint8Array> | null = null,
): Buffer {
  const writer = begin();
  writeLease(writer, 1, view, vfTokens);
  if (ticket !== null) tag(writer, 2, BYTES).bytes(ticket);
  if (vmm !== null) tag(writer, 3, BYTES).bytes(vmm);
  return end(writer);
}

/** A ListLeasesResponse. */
export function leasePage(views: readonly LeaseView[], nextPageToken: string): Buffer {
  const writer = begin();
  for (const view of views) writeLease(writer, 1, view);
  text(writer, 2, nextPageToken);
  return end(writer);
}

export interface EncodedLeaseEvent {
  readonly kind: LeaseChange["kind"] | "SNAPSHOT" | "SYNCED";
  /** null for SYNCED. */
  readonly view: LeaseView | null;
}

/** A WatchLeasesResponse. */
export function leaseEvents(events: readonly EncodedLeaseEvent[]): Buffer {
  const writer = begin();
  for (const { kind, view } of events) {
    tag(writer, 1, BYTES).fork();
    number(writer, 1, EVENT_KIND[kind]);
    if (view !== null) writeLease(writer, 2, view);
    writer.ldelim();
  }
  return end(writer);
}

/** Fields of the oneof of SessionResponse, by the calls that they answer. */
const ANSWERS = { acquire: 2, release: 3, get: 4 } as const;
const SESSION_ERROR = 5;

export type SessionCall = keyof typeof ANSWERS;

/** A SessionResponse. answer: the response of the call, encoded. sequence: as the request had it. */
export function sessionAnswer(sequence: string, call: SessionCall, answer: Buffer): Buffer {
  return end(tag(sequenced(sequence), ANSWERS[call], BYTES).bytes(answer));
}

/** A SessionResponse of a call that was refused. */
export function sessionRefusal(sequence: string, refusal: Refusal): Buffer {
  return sessionError(sequence, toStatus(refusal));
}

export function sessionError(sequence: string, status: Parameters<typeof messages.status.serialize>[0]): Buffer {
  return end(tag(sequenced(sequence), SESSION_ERROR, BYTES).bytes(messages.status.serialize(status)));
}

function sequenced(sequence: string): Writer {
  const writer = begin();
  big(writer, 1, BigInt(sequence));
  return writer;
}

function writeLease(writer: Writer, field: number, view: LeaseView, vfTokens: ReadonlyMap<Address, Uint8Array> | null = null): void {
  tag(writer, field, BYTES).fork();
  text(writer, 1, view.id);
  number(writer, 2, KIND[view.kind]);
  number(writer, 3, MODE[view.mode]);
  number(writer, 4, STATE[view.phase]);
  for (const { address, regions } of view.devices) {
    tag(writer, 5, BYTES).fork();
    text(writer, 1, address);
    for (const region of regions) tag(writer, 2, BYTES).bytes(regionBytes(region));
    const vfToken = vfTokens === null ? undefined : vfTokens.get(address);
    if (vfToken !== undefined) tag(writer, 3, BYTES).bytes(vfToken);
    writer.ldelim();
  }
  for (const descriptor of view.descriptors) writeDescriptor(writer, 6, descriptor);
  number(writer, 7, BACKEND[view.backend]);
  number(writer, 8, view.holderPid);
  number(writer, 9, view.holderUid);
  time(writer, 10, view.createTime);
  time(writer, 11, view.ackDeadline);
  time(writer, 12, view.endTime);
  if (view.endCause !== null) number(writer, 13, END_CAUSE[view.endCause]);
  for (const address of view.quarantined) text(writer, 14, address);
  number(writer, 15, view.ownerUid);
  time(writer, 16, view.expireTime);
  time(writer, 17, view.ticketExpireTime);
  if (view.recall !== null) {
    tag(writer, 18, BYTES).fork();
    number(writer, 1, END_CAUSE[view.recall.cause]);
    time(writer, 2, view.recall.deadline);
    writer.ldelim();
  }
  text(writer, 19, view.policyRule);
  writer.ldelim();
}

function writeDescriptor(writer: Writer, field: number, { kind, scope, address, region, group, offset, size }: DescriptorInfo): void {
  tag(writer, field, BYTES).fork();
  number(writer, 1, DESCRIPTOR_KIND[kind]);
  number(writer, 2, SCOPE[scope]);
  text(writer, 3, address ?? "");
  // Present although 0: these have presence of their own (optional).
  if (region !== null) tag(writer, 4, VARINT).uint32(region);
  if (group !== null) tag(writer, 5, VARINT).uint32(group);
  big(writer, 6, offset);
  big(writer, 7, size);
  writer.ldelim();
}

const regions = new WeakMap<Region, Uint8Array>();

function regionBytes(region: Region): Uint8Array {
  const known = regions.get(region);
  if (known !== undefined) return known;
  const made = messages.region.serialize(toRegion(region));
  regions.set(region, made);
  return made;
}

function begin(): Writer {
  return protobufWriter().create();
}

/** Of the memory of one Buffer: what grpc-js and its tests take. */
function end(writer: Writer): Buffer {
  const bytes = writer.finish();
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function tag(writer: Writer, field: number, type: typeof VARINT | typeof BYTES): Writer {
  return writer.uint32(field * 8 + type);
}

// Left out when empty or 0, as proto3 does.

function text(writer: Writer, field: number, value: string): void {
  if (value !== "") tag(writer, field, BYTES).string(value);
}

function number(writer: Writer, field: number, value: number): void {
  if (value !== 0) tag(writer, field, VARINT).uint32(value);
}

function big(writer: Writer, field: number, value: bigint): void {
  if (value === 0n) return;
  // A number for each half: a pid's worth of bits is what most values have, and text would be parsed again.
  const bits = { low: Number(value & 0xffff_ffffn), high: Number(value >> 32n), unsigned: true };
  tag(writer, field, VARINT).uint64(bits as unknown as Parameters<Writer["uint64"]>[0]);
}

/** A google.protobuf.Timestamp of milliseconds since the epoch. */
function time(writer: Writer, field: number, milliseconds: number | null): void {
  if (milliseconds === null) return;
  const whole = Math.floor(milliseconds);
  tag(writer, field, BYTES).fork();
  const seconds = Math.floor(whole / 1000);
  if (seconds !== 0) tag(writer, 1, VARINT).int64(seconds);
  number(writer, 2, (whole % 1000) * 1_000_000);
  writer.ldelim();
}

const asItIs = (bytes: Buffer): Buffer => bytes;

/** LeaseService for the server: all its answers are bytes already. */
export const encodedLeaseService: ServiceDefinition = Object.fromEntries(
  Object.entries(services.lease as unknown as ServiceDefinition).map(([name, method]) => [name, { ...method, responseSerialize: asItIs }]),
);
