// The byte tables of docs/PROTOCOL.md, written out as bytes: the library's own encoder is never used to test its decoder.

import assert from "node:assert/strict";
import { test } from "node:test";
import { HandoverError } from "../../../src/client/errors.js";
import { decodeFrame, encodeAck, encodeAttach, encodeShow } from "../../../src/client/frame.js";

const LEASE = "00112233-4455-4677-8899-aabbccddeeff";
const LEASE_HEX = "00112233445546778899aabbccddeeff";
const NO_NUMBER = "ffffffff";

function bytes(...parts: readonly string[]): Uint8Array {
  return Uint8Array.from(Buffer.from(parts.join(""), "hex"));
}

function header(type: string, length: string): string {
  return `41505452${"01"}${type}0000${length}00000000`;
}

function ascii(text: string, length: number): string {
  return Buffer.from(text.padEnd(length, "\0"), "latin1").toString("hex");
}

function entry(kind: string, scope: string, number: string, address: string, offset: string, size: string): string {
  return `${kind}${scope}00${number}${ascii(address, 16)}${offset}${size}`;
}

const ZERO64 = "0000000000000000";

function refused(frame: Uint8Array): void {
  assert.throws(
    () => decodeFrame(frame),
    (error: unknown) => error instanceof HandoverError && error.reason === "HANDOVER_PROTOCOL",
  );
}

test("ATTACH is the header alone [pure]", () => {
  assert.deepEqual(encodeAttach(), bytes(header("01", "10000000")));
});

test("ACK carries the lease in the order in which its UUID is written, and the count [pure]", () => {
  assert.deepEqual(encodeAck(LEASE, 2), bytes(header("04", "28000000"), LEASE_HEX, "02000000", "00000000"));
  assert.throws(() => encodeAck("not-a-lease", 1), RangeError);
});

test("ATTACHED gives channel, bounds and acknowledgement time [pure]", () => {
  const frame = bytes(header("02", "30000000"), "0100000000000080", "30050000", "20000000", "d0070000", "00".repeat(12));
  assert.deepEqual(decodeFrame(frame), { type: "ATTACHED", channel: 0x8000000000000001n, maxFrame: 1328, maxDescriptors: 32, ackMs: 2000 });
});

test("OFFER of an iommufd device lease [pure]", () => {
  const frame = bytes(
    header("03", "80000000"),
    LEASE_HEX,
    "02000000",
    "01",
    "01",
    "00".repeat(10),
    entry("0100", "03", NO_NUMBER, "", ZERO64, ZERO64),
    entry("0200", "01", NO_NUMBER, "0000:01:00.0", ZERO64, ZERO64),
  );
  assert.deepEqual(decodeFrame(frame), {
    type: "OFFER",
    leaseId: LEASE,
    kind: "DEVICE",
    backend: "IOMMUFD",
    succession: false,
    entries: [
      { kind: "IOMMUFD", scope: "IOMMU", address: null, region: null, group: null, offset: 0n, size: 0n },
      { kind: "DEVICE_UNBOUND", scope: "DEVICE", address: "0000:01:00.0", region: null, group: null, offset: 0n, size: 0n },
    ],
  });
});

test("OFFER of a legacy group, and of a region with the longest address and 64-bit numbers [pure]", () => {
  const frame = bytes(
    header("03", "80000000"),
    LEASE_HEX,
    "02000000",
    "02",
    "03",
    "00".repeat(10),
    entry("0400", "03", "07000000", "", ZERO64, ZERO64),
    entry("0600", "02", "04000000", "00010000:01:1f.7", "0010000000000000", "0000000020000080"),
  );
  const offer = decodeFrame(frame);
  assert.equal(offer.type, "OFFER");
  assert.ok(offer.type === "OFFER");
  assert.deepEqual(offer.entries, [
    { kind: "GROUP", scope: "IOMMU", address: null, region: null, group: 7, offset: 0n, size: 0n },
    { kind: "REGION", scope: "REGION", address: "00010000:01:1f.7", region: 4, group: null, offset: 4096n, size: 0x8000002000000000n },
  ]);
});

test("ENDED and GOODBYE; a cause of the future is UNSPECIFIED [pure]", () => {
  const ended = (cause: string): Uint8Array => bytes(header("05", "30000000"), LEASE_HEX, cause, "00".repeat(12));
  assert.deepEqual(decodeFrame(ended("06000000")), { type: "ENDED", leaseId: LEASE, cause: "DEVICE_REMOVED" });
  assert.deepEqual(decodeFrame(ended("63000000")), { type: "ENDED", leaseId: LEASE, cause: "UNSPECIFIED" });
  const goodbye = bytes(header("06", "54000000"), "00000000", ascii("PROTOCOL_VIOLATION", 64));
  assert.deepEqual(decodeFrame(goodbye), { type: "GOODBYE", reason: "PROTOCOL_VIOLATION" });
});

test("RECALL, REFUSED and SHOW; a cause of the future is UNSPECIFIED [pure]", () => {
  const recall = (cause: string): Uint8Array => bytes(header("07", "30000000"), LEASE_HEX, cause, "30750000", ZERO64);
  assert.deepEqual(decodeFrame(recall("08000000")), { type: "RECALL", leaseId: LEASE, cause: "EXPIRED", graceMs: 30_000 });
  assert.deepEqual(decodeFrame(recall("06000000")), { type: "RECALL", leaseId: LEASE, cause: "DEVICE_REMOVED", graceMs: 30_000 });
  for (const other of ["01000000", "63000000"])
    assert.deepEqual(decodeFrame(recall(other)), { type: "RECALL", leaseId: LEASE, cause: "UNSPECIFIED", graceMs: 30_000 });
  refused(recall("08000000").subarray(0, 40));
  const refusal = bytes(header("09", "54000000"), "00000000", ascii("TICKET_USED", 64));
  assert.deepEqual(decodeFrame(refusal), { type: "REFUSED", reason: "TICKET_USED" });
  const ticket = Buffer.from("00112233445566778899aabbccddeeff", "hex");
  assert.deepEqual(encodeShow(ticket), bytes(header("08", "20000000"), ticket.toString("hex")));
  for (const length of [0, 15, 17]) assert.throws(() => encodeShow(new Uint8Array(length)), RangeError);
});

test("what is no frame of a daemon is refused [pure]", () => {
  const ended = bytes(header("05", "30000000"), LEASE_HEX, "01000000", "00".repeat(12));
  const changed = (at: number, value: number): Uint8Array => ended.with(at, value);
  refused(new Uint8Array(0));
  refused(ended.subarray(0, 15));
  refused(ended.subarray(0, 47));
  refused(changed(0, 0x42));
  refused(changed(4, 2));
  refused(changed(5, 1));
  refused(changed(5, 4));
  refused(changed(5, 8));
  refused(changed(5, 9));
  refused(changed(5, 10));
  refused(changed(8, 0x31));
});

test("an OFFER whose count, kinds or texts make no sense is refused [pure]", () => {
  const offer = (count: string, length: string, one: string, kinds = "0101"): Uint8Array =>
    bytes(header("03", length), LEASE_HEX, count, kinds, "00".repeat(10), one);
  const good = entry("0100", "03", NO_NUMBER, "", ZERO64, ZERO64);
  assert.equal(decodeFrame(offer("01000000", "58000000", good)).type, "OFFER");
  refused(offer("00000000", "30000000", ""));
  refused(offer("02000000", "58000000", good));
  refused(offer("ffffffff", "58000000", good));
  refused(offer("01000000", "58000000", good, "0301"));
  refused(offer("01000000", "58000000", good, "0104"));
  refused(offer("01000000", "58000000", entry("0700", "03", NO_NUMBER, "", ZERO64, ZERO64)));
  refused(offer("01000000", "58000000", entry("0000", "03", NO_NUMBER, "", ZERO64, ZERO64)));
  refused(offer("01000000", "58000000", entry("0100", "04", NO_NUMBER, "", ZERO64, ZERO64)));
  refused(offer("01000000", "58000000", entry("0200", "01", NO_NUMBER, "00\u001b[2J", ZERO64, ZERO64)));
});

test("a view into a larger buffer is decoded at its own place [pure]", () => {
  const ended = bytes(header("05", "30000000"), LEASE_HEX, "02000000", "00".repeat(12));
  const larger = new Uint8Array(ended.length + 5);
  larger.set(ended, 5);
  assert.deepEqual(decodeFrame(larger.subarray(5)), { type: "ENDED", leaseId: LEASE, cause: "HOLDER_DIED" });
});
