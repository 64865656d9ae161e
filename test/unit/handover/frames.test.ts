// The daemon's frames against docs/PROTOCOL.md, byte by byte and written by hand: the client's code is not used here.

import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import type { Address } from "../../../src/broker/device.js";
import {
  decodeClientFrame,
  encodeAttached,
  encodeEnded,
  encodeGoodbye,
  encodeOffer,
  encodeRecall,
  encodeRefused,
  maxFrameBytes,
} from "../../../src/handover/frames.js";

const LEASE = "00112233-4455-4677-8899-aabbccddeeff";
const LEASE_HEX = "00112233445546778899aabbccddeeff";

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("hex");
}

function header(type: number, length: number): string {
  const bytes = Buffer.alloc(16);
  bytes.write("APTR", 0, "ascii");
  bytes[4] = 1;
  bytes[5] = type;
  bytes.writeUInt32LE(length, 8);
  return bytes.toString("hex");
}

describe("[pure] frames of the descriptor channel", () => {
  it("ATTACHED", () => {
    assert.equal(
      hex(encodeAttached(5n, 32, 2000)),
      `${header(2, 48)}${"0500000000000000"}${"30050000"}${"20000000"}${"d0070000"}${"00".repeat(12)}`,
    );
    assert.equal(maxFrameBytes(32), 1328);
  });

  it("OFFER", () => {
    const infos = [
      { kind: "IOMMUFD", scope: "IOMMU", address: null, region: null, group: null, offset: 0n, size: 0n },
      { kind: "REGION", scope: "REGION", address: "0009:01:00.0" as Address, region: 4, group: null, offset: 0n, size: 0x2000000000n },
      { kind: "GROUP", scope: "DEVICE", address: null, region: null, group: 12, offset: 0n, size: 0n },
    ] as const;
    const entry = (kind: string, scope: string, number: string, address: string, size: string): string =>
      `${kind}${scope}00${number}${Buffer.from(address.padEnd(16, "\0")).toString("hex")}${"00".repeat(8)}${size}`;
    const expected = [
      header(3, 48 + 120),
      `${LEASE_HEX}03000000${"02"}${"03"}${"00".repeat(10)}`,
      entry("0100", "03", "ffffffff", "", "00".repeat(8)),
      entry("0600", "02", "04000000", "0009:01:00.0", "0000000020000000"),
      entry("0400", "01", "0c000000", "", "00".repeat(8)),
    ].join("");
    assert.equal(hex(encodeOffer(LEASE, "REGION", "SIMULATED", infos, false)), expected);
    const flagged = `${expected.slice(0, 2 * 38)}01${expected.slice(2 * 39)}`;
    assert.equal(hex(encodeOffer(LEASE, "REGION", "SIMULATED", infos, true)), flagged);
  });

  it("RECALL and REFUSED", () => {
    assert.equal(hex(encodeRecall(LEASE, "EXPIRED", 30_000)), `${header(7, 48)}${LEASE_HEX}0800000030750000${"00".repeat(8)}`);
    const reason = Buffer.from("TICKET_USED".padEnd(64, "\0")).toString("hex");
    assert.equal(hex(encodeRefused("TICKET_USED")), `${header(9, 84)}00000000${reason}`);
  });

  it("reads SHOW, and keeps the ticket when the buffer is written to again", () => {
    const show = Buffer.from(`${header(8, 32)}${"5a".repeat(16)}`, "hex");
    const frame = decodeClientFrame(show);
    show.fill(0);
    assert.deepEqual(frame, { type: "show", ticket: Uint8Array.from({ length: 16 }, () => 0x5a) });
    for (const bad of [`${header(8, 31)}${"5a".repeat(15)}`, `${header(8, 33)}${"5a".repeat(17)}`])
      assert.equal(decodeClientFrame(Buffer.from(bad, "hex")), null);
  });

  it("ENDED and GOODBYE", () => {
    assert.equal(hex(encodeEnded(LEASE, "DEVICE_REMOVED")), `${header(5, 48)}${LEASE_HEX}06000000${"00".repeat(12)}`);
    assert.equal(hex(encodeGoodbye("DRAINING")), `${header(6, 84)}00000000${Buffer.from("DRAINING".padEnd(64, "\0")).toString("hex")}`);
  });

  it("reads ATTACH and ACK, at any offset of a larger buffer", () => {
    const attach = Buffer.from(header(1, 16), "hex");
    assert.deepEqual(decodeClientFrame(attach), { type: "attach" });
    const ack = Buffer.from(`${header(4, 40)}${LEASE_HEX}0300000000000000`, "hex");
    const within = Buffer.concat([Buffer.alloc(7), ack]).subarray(7);
    assert.deepEqual(decodeClientFrame(within), { type: "ack", leaseId: LEASE, count: 3 });
  });

  it("refuses everything else: every single wrong byte of the header, every other length", () => {
    const ack = Buffer.from(`${header(4, 40)}${LEASE_HEX}0300000000000000`, "hex");
    for (const at of [0, 1, 2, 3, 4, 5, 8, 9, 10, 11]) {
      for (const bit of [1, 2, 4, 8, 16, 32, 64, 128]) {
        const wrong = Buffer.from(ack);
        wrong[at] = (wrong[at] ?? 0) ^ bit;
        assert.equal(decodeClientFrame(wrong), null, `byte ${at} bit ${bit}`);
      }
    }
    for (let length = 0; length < 40; length += 1) assert.equal(decodeClientFrame(ack.subarray(0, length)), null);
    fc.assert(fc.property(fc.uint8Array({ maxLength: 64 }), (bytes) => decodeClientFrame(bytes) === null));
  });
});
