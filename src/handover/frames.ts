// The frames of the descriptor channel: docs/PROTOCOL.md in code, the daemon's side. The client's side is src/client, written from the same page.

import type { BackendName } from "../broker/device.js";
import type { DescriptorInfo, DescriptorKind, EndCause, RecallCause, Scope } from "../broker/ports.js";

const MAGIC = 0x52545041;
const VERSION = 1;
const HEADER_BYTES = 16;
const ENTRY_BYTES = 40;
const ADDRESS_BYTES = 16;
const REASON_BYTES = 64;
const NO_NUMBER = 0xffffffff;

const FrameType = { attach: 1, attached: 2, offer: 3, ack: 4, ended: 5, goodbye: 6, recall: 7, show: 8, refused: 9 } as const;

const KIND: Readonly<Record<DescriptorKind, number>> = { IOMMUFD: 1, DEVICE_UNBOUND: 2, CONTAINER: 3, GROUP: 4, DEVICE: 5, REGION: 6 };
const SCOPE: Readonly<Record<Scope, number>> = { DEVICE: 1, REGION: 2, IOMMU: 3 };
const BACKEND: Readonly<Record<BackendName, number>> = { IOMMUFD: 1, LEGACY: 2, SIMULATED: 3 };
const CAUSE: Readonly<Record<EndCause | "SUCCEEDED", number>> = {
  RELEASED: 1,
  HOLDER_DIED: 2,
  NOT_ACKNOWLEDGED: 3,
  SHORT_HANDOVER: 4,
  HANDOVER_FAILED: 5,
  DEVICE_REMOVED: 6,
  TICKET_EXPIRED: 7,
  EXPIRED: 8,
  SESSION_ENDED: 9,
  SUCCEEDED: 10,
  OPEN_FAILED: 11,
};

/** Bit 0 of the flags of an OFFER. */
const SUCCESSION = 1;

/** Largest frame the daemon sends, for a number of descriptors. */
export function maxFrameBytes(maxDescriptors: number): number {
  return HEADER_BYTES + 32 + ENTRY_BYTES * maxDescriptors;
}

export type ClientFrame =
  | { readonly type: "attach" }
  | { readonly type: "ack"; readonly leaseId: string; readonly count: number }
  | { readonly type: "show"; readonly ticket: Uint8Array };

/** A frame from a client, or null when it is not exactly one of the three that clients may send. */
export function decodeClientFrame(bytes: Uint8Array): ClientFrame | null {
  if (bytes.byteLength < HEADER_BYTES) return null;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (view.getUint32(0, true) !== MAGIC || view.getUint8(4) !== VERSION || view.getUint32(8, true) !== bytes.byteLength) return null;
  const type = view.getUint8(5);
  if (type === FrameType.attach && bytes.byteLength === HEADER_BYTES) return { type: "attach" };
  if (type === FrameType.ack && bytes.byteLength === 40) {
    return { type: "ack", leaseId: uuidText(bytes.subarray(16, 32)), count: view.getUint32(32, true) };
  }
  // A copy: the bytes are the poller's, and the ticket is looked up later.
  if (type === FrameType.show && bytes.byteLength === 32) return { type: "show", ticket: Uint8Array.from(bytes.subarray(16, 32)) };
  return null;
}

export function encodeAttached(channel: bigint, maxDescriptors: number, ackMs: number): Uint8Array {
  const { bytes, view } = frame(FrameType.attached, 48);
  view.setBigUint64(16, channel, true);
  view.setUint32(24, maxFrameBytes(maxDescriptors), true);
  view.setUint32(28, maxDescriptors, true);
  view.setUint32(32, ackMs, true);
  return bytes;
}

export function encodeOffer(
  leaseId: string,
  kind: "DEVICE" | "REGION",
  backend: BackendName,
  descriptors: readonly DescriptorInfo[],
  succession: boolean,
): Uint8Array {
  const { bytes, view } = frame(FrameType.offer, 48 + ENTRY_BYTES * descriptors.length);
  bytes.set(uuidBytes(leaseId), 16);
  view.setUint32(32, descriptors.length, true);
  view.setUint8(36, kind === "DEVICE" ? 1 : 2);
  view.setUint8(37, BACKEND[backend]);
  view.setUint8(38, succession ? SUCCESSION : 0);
  descriptors.forEach((descriptor, i) => {
    const at = 48 + ENTRY_BYTES * i;
    view.setUint16(at, KIND[descriptor.kind], true);
    view.setUint8(at + 2, SCOPE[descriptor.scope]);
    view.setUint32(at + 4, descriptor.region ?? descriptor.group ?? NO_NUMBER, true);
    bytes.set(ascii(descriptor.address ?? "", ADDRESS_BYTES), at + 8);
    view.setBigUint64(at + 24, descriptor.offset, true);
    view.setBigUint64(at + 32, descriptor.size, true);
  });
  return bytes;
}

export function encodeEnded(leaseId: string, cause: EndCause | "SUCCEEDED"): Uint8Array {
  const { bytes, view } = frame(FrameType.ended, 48);
  bytes.set(uuidBytes(leaseId), 16);
  view.setUint32(32, CAUSE[cause], true);
  return bytes;
}

export function encodeGoodbye(reason: string): Uint8Array {
  return reasonFrame(FrameType.goodbye, reason);
}

export function encodeRecall(leaseId: string, cause: RecallCause, graceMs: number): Uint8Array {
  const { bytes, view } = frame(FrameType.recall, 48);
  bytes.set(uuidBytes(leaseId), 16);
  view.setUint32(32, CAUSE[cause], true);
  view.setUint32(36, Math.min(graceMs, 0xffffffff), true);
  return bytes;
}

export function encodeRefused(reason: string): Uint8Array {
  return reasonFrame(FrameType.refused, reason);
}

function reasonFrame(type: number, reason: string): Uint8Array {
  const { bytes } = frame(type, HEADER_BYTES + 4 + REASON_BYTES);
  bytes.set(ascii(reason, REASON_BYTES), 20);
  return bytes;
}

function frame(type: number, length: number): { bytes: Uint8Array; view: DataView } {
  const bytes = new Uint8Array(length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, MAGIC, true);
  view.setUint8(4, VERSION);
  view.setUint8(5, type);
  view.setUint32(8, length, true);
  return { bytes, view };
}

function ascii(text: string, width: number): Uint8Array {
  if (text.length > width) throw new RangeError(`"${text}" does not fit into ${width} bytes`);
  return Buffer.from(text, "ascii");
}

function uuidBytes(text: string): Uint8Array {
  return Buffer.from(text.replaceAll("-", ""), "hex");
}

function uuidText(bytes: Uint8Array): string {
  const hex = Buffer.from(bytes).toString("hex");
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
}
