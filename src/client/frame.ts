// Frames of the descriptor channel as docs/PROTOCOL.md lays them out. Pure: bytes in, values out. The daemon is trusted to be the daemon, but a
// frame is still checked in full: acting on half-understood bytes that carry descriptors is how a wrong device gets mapped.

import { HandoverError } from "./errors.js";

const MAGIC = 0x52545041;
const VERSION = 1;
const HEADER_BYTES = 16;
const OFFER_BYTES = 48;
const ENTRY_BYTES = 40;
const ADDRESS_BYTES = 16;
const REASON_BYTES = 64;
const NO_NUMBER = 0xffffffff;

/** Frame types; the numbers of docs/PROTOCOL.md. */
const FrameType = { attach: 1, attached: 2, offer: 3, ack: 4, ended: 5, goodbye: 6, recall: 7, show: 8, refused: 9 } as const;

/** The daemon's first frame is read with these bounds, before ATTACHED has told the real ones. */
export const FIRST_FRAME = { maxFrame: 1328, maxDescriptors: 32 } as const;

const LEASE_KINDS = [null, "DEVICE", "REGION"] as const;
const BACKENDS = [null, "IOMMUFD", "LEGACY", "SIMULATED"] as const;
const SCOPES = [null, "DEVICE", "REGION", "IOMMU"] as const;
const DESCRIPTOR_KINDS = [null, "IOMMUFD", "DEVICE_UNBOUND", "CONTAINER", "GROUP", "DEVICE", "REGION"] as const;
const END_CAUSES = [
  ...[null, "RELEASED", "HOLDER_DIED", "NOT_ACKNOWLEDGED", "SHORT_HANDOVER", "HANDOVER_FAILED", "DEVICE_REMOVED"],
  ...["TICKET_EXPIRED", "EXPIRED", "SESSION_ENDED", "SUCCEEDED", "OPEN_FAILED"],
] as const;
const RECALL_CAUSES = [null, null, null, null, null, null, "DEVICE_REMOVED", null, "EXPIRED"] as const;

const TICKET_BYTES = 16;
/** Bit 0 of the flags of an OFFER. */
const SUCCESSION = 1;

export type FrameLeaseKind = Exclude<(typeof LEASE_KINDS)[number], null>;
export type FrameBackend = Exclude<(typeof BACKENDS)[number], null>;
export type FrameScope = Exclude<(typeof SCOPES)[number], null>;
export type FrameDescriptorKind = Exclude<(typeof DESCRIPTOR_KINDS)[number], null>;
/** UNSPECIFIED: a cause that this version of the library does not know. */
export type FrameEndCause = Exclude<(typeof END_CAUSES)[number], null> | "UNSPECIFIED";

export type FrameRecallCause = Exclude<(typeof RECALL_CAUSES)[number], null> | "UNSPECIFIED";

export interface AttachedFrame {
  readonly type: "ATTACHED";
  readonly channel: bigint;
  /** Largest frame the daemon sends, bytes. */
  readonly maxFrame: number;
  readonly maxDescriptors: number;
  /** Time to acknowledge an OFFER, milliseconds. */
  readonly ackMs: number;
}

/** What an OFFER says of one descriptor. */
export interface OfferEntry {
  readonly kind: FrameDescriptorKind;
  readonly scope: FrameScope;
  /** null where the kind has no device (IOMMUFD, CONTAINER, GROUP). */
  readonly address: string | null;
  readonly region: number | null;
  readonly group: number | null;
  /** Bytes. */
  readonly offset: bigint;
  /** Bytes. */
  readonly size: bigint;
}

export interface OfferFrame {
  readonly type: "OFFER";
  readonly leaseId: string;
  readonly kind: FrameLeaseKind;
  readonly backend: FrameBackend;
  /** The descriptors are the open files that the holder before has: in use, not fresh. */
  readonly succession: boolean;
  readonly entries: readonly OfferEntry[];
}

export interface EndedFrame {
  readonly type: "ENDED";
  readonly leaseId: string;
  readonly cause: FrameEndCause;
}

export interface GoodbyeFrame {
  readonly type: "GOODBYE";
  /** Why the daemon closes the channel: a reason of docs/REASONS.md. */
  readonly reason: string;
}

export interface RecallFrame {
  readonly type: "RECALL";
  readonly leaseId: string;
  readonly cause: FrameRecallCause;
  /** Milliseconds from now until the daemon ends the lease. */
  readonly graceMs: number;
}

export interface RefusedFrame {
  readonly type: "REFUSED";
  /** Why a ticket gave nothing: a reason of docs/REASONS.md. */
  readonly reason: string;
}

export type DaemonFrame = AttachedFrame | OfferFrame | EndedFrame | GoodbyeFrame | RecallFrame | RefusedFrame;

/** ATTACH. */
export function encodeAttach(): Uint8Array {
  return frame(FrameType.attach, HEADER_BYTES).bytes;
}

/** ACK. count: descriptors received; 0 refuses the lease. */
export function encodeAck(leaseId: string, count: number): Uint8Array {
  const { bytes, view } = frame(FrameType.ack, 40);
  bytes.set(uuidBytes(leaseId), 16);
  view.setUint32(32, count, true);
  return bytes;
}

/** SHOW. Throws RangeError when it is not 16 bytes. */
export function encodeShow(ticket: Uint8Array): Uint8Array {
  if (ticket.length !== TICKET_BYTES) throw new RangeError(`a ticket has ${TICKET_BYTES} bytes, not ${ticket.length}`);
  const { bytes } = frame(FrameType.show, HEADER_BYTES + TICKET_BYTES);
  bytes.set(ticket, HEADER_BYTES);
  return bytes;
}

/** Reads a frame of the daemon. Throws HandoverError (HANDOVER_PROTOCOL) when it is none. */
export function decodeFrame(bytes: Uint8Array): DaemonFrame {
  if (bytes.length < HEADER_BYTES) throw malformed(`${bytes.length} bytes are too few for a header`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (view.getUint32(0, true) !== MAGIC) throw malformed("the magic number is wrong");
  if (bytes[4] !== VERSION) throw malformed(`version ${bytes[4]} is not ${VERSION}`);
  const length = view.getUint32(8, true);
  if (length !== bytes.length) throw malformed(`the header says ${length} bytes, ${bytes.length} arrived`);
  switch (bytes[5]) {
    case FrameType.attached:
      return decodeAttached(view);
    case FrameType.offer:
      return decodeOffer(view, bytes);
    case FrameType.ended:
      expectLength(bytes, 48);
      return { type: "ENDED", leaseId: uuidText(bytes, 16), cause: END_CAUSES[view.getUint32(32, true)] ?? "UNSPECIFIED" };
    case FrameType.goodbye:
      return { type: "GOODBYE", reason: decodeReason(bytes) };
    case FrameType.refused:
      return { type: "REFUSED", reason: decodeReason(bytes) };
    case FrameType.recall:
      return decodeRecall(view, bytes);
    default:
      throw malformed(`type ${bytes[5]} is none that a daemon sends`);
  }
}

function decodeReason(bytes: Uint8Array): string {
  expectLength(bytes, HEADER_BYTES + 4 + REASON_BYTES);
  return asciiText(bytes, 20, REASON_BYTES);
}

function decodeRecall(view: DataView, bytes: Uint8Array): RecallFrame {
  expectLength(bytes, 48);
  const cause = RECALL_CAUSES[view.getUint32(32, true)] ?? "UNSPECIFIED";
  return { type: "RECALL", leaseId: uuidText(bytes, 16), cause, graceMs: view.getUint32(36, true) };
}

function decodeAttached(view: DataView): AttachedFrame {
  if (view.byteLength !== 48) throw malformed(`ATTACHED has ${view.byteLength} bytes instead of 48`);
  return {
    type: "ATTACHED",
    channel: view.getBigUint64(16, true),
    maxFrame: view.getUint32(24, true),
    maxDescriptors: view.getUint32(28, true),
    ackMs: view.getUint32(32, true),
  };
}

function decodeOffer(view: DataView, bytes: Uint8Array): OfferFrame {
  if (bytes.length < OFFER_BYTES) throw malformed(`OFFER has ${bytes.length} bytes instead of ${OFFER_BYTES} or more`);
  const count = view.getUint32(32, true);
  expectLength(bytes, OFFER_BYTES + ENTRY_BYTES * count);
  if (count < 1) throw malformed("OFFER with no descriptors");
  const entries: OfferEntry[] = [];
  for (let index = 0; index < count; index++) entries.push(decodeEntry(view, bytes, OFFER_BYTES + ENTRY_BYTES * index));
  return {
    type: "OFFER",
    leaseId: uuidText(bytes, 16),
    kind: known(LEASE_KINDS, view.getUint8(36), "lease kind"),
    backend: known(BACKENDS, view.getUint8(37), "back end"),
    succession: (view.getUint8(38) & SUCCESSION) !== 0,
    entries,
  };
}

function decodeEntry(view: DataView, bytes: Uint8Array, at: number): OfferEntry {
  const kind = known(DESCRIPTOR_KINDS, view.getUint16(at, true), "descriptor kind");
  const number = view.getUint32(at + 4, true);
  const address = asciiText(bytes, at + 8, ADDRESS_BYTES);
  return {
    kind,
    scope: known(SCOPES, view.getUint8(at + 2), "scope"),
    address: address === "" ? null : address,
    region: kind === "REGION" && number !== NO_NUMBER ? number : null,
    group: kind === "GROUP" && number !== NO_NUMBER ? number : null,
    offset: view.getBigUint64(at + 24, true),
    size: view.getBigUint64(at + 32, true),
  };
}

function frame(type: number, length: number): { readonly bytes: Uint8Array; readonly view: DataView } {
  const bytes = new Uint8Array(length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, MAGIC, true);
  bytes[4] = VERSION;
  bytes[5] = type;
  view.setUint32(8, length, true);
  return { bytes, view };
}

/** The 16 bytes of a UUID in the order in which it is written. Throws RangeError when the text is no UUID. */
export function uuidBytes(text: string): Uint8Array {
  if (!/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(text)) throw new RangeError("a lease id is a UUID of 36 characters");
  return Uint8Array.from(Buffer.from(text.replaceAll("-", ""), "hex"));
}

/** The 16 bytes from there on as text. */
export function uuidText(bytes: Uint8Array, at: number): string {
  const hex = Buffer.from(bytes.subarray(at, at + 16)).toString("hex");
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
}

function asciiText(bytes: Uint8Array, at: number, length: number): string {
  const field = bytes.subarray(at, at + length);
  const end = field.indexOf(0);
  const text = Buffer.from(end < 0 ? field : field.subarray(0, end)).toString("latin1");
  if (!/^[\x20-\x7e]*$/.test(text)) throw malformed("a text field holds bytes that are not printable ASCII");
  return text;
}

function known<T>(names: readonly (T | null)[], value: number, what: string): T {
  const name = names[value];
  if (name === undefined || name === null) throw malformed(`${what} ${value} is not known`);
  return name;
}

function expectLength(bytes: Uint8Array, length: number): void {
  if (bytes.length !== length) throw malformed(`a frame of type ${bytes[5]} has ${bytes.length} bytes instead of ${length}`);
}

function malformed(what: string): HandoverError {
  return new HandoverError(
    "HANDOVER_PROTOCOL",
    "INTERNAL",
    `the daemon's frame on the descriptor channel cannot be read: ${what}`,
    "use a client library of the daemon's version",
  );
}
