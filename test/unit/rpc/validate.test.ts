import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import type { AcquireLeaseRequest__Output } from "../../../src/generated/aperture/v1/AcquireLeaseRequest.js";
import type { TicketOptions__Output } from "../../../src/generated/aperture/v1/TicketOptions.js";
import {
  pageToken,
  quoted,
  readAcquire,
  readAddress,
  readFilter,
  readLeaseId,
  readPage,
  readTicketOptions,
} from "../../../src/rpc/validate.js";

const GOOD = "0000:01:00.0";
const LIMITS = { ticketMs: 60_000, ticketMaxMs: 900_000 };

function request(change: Partial<AcquireLeaseRequest__Output>): AcquireLeaseRequest__Output {
  const base = {
    requestId: "",
    kind: "LEASE_KIND_DEVICE",
    devices: [{ address: GOOD, regions: [] }],
    mode: "LEASE_MODE_UNSPECIFIED",
    channel: "0",
    ticket: null,
    maxDuration: null,
  } as const;
  return { ...base, devices: [...base.devices].map((device) => ({ ...device, regions: [] })), ...change } as AcquireLeaseRequest__Output;
}

function ticket(change: { readonly uid?: number; readonly seconds?: number; readonly nanos?: number }): TicketOptions__Output {
  const { uid, seconds, nanos = 0 } = change;
  const lifetime = seconds === undefined ? null : { seconds: String(seconds), nanos };
  return uid === undefined ? { lifetime } : { lifetime, uid, _uid: "uid" };
}

function fieldOf(change: Partial<AcquireLeaseRequest__Output>): string | undefined {
  const { refusal } = readAcquire(request(change), LIMITS);
  return refusal === null ? "accepted" : refusal.metadata["field"];
}

describe("[pure] requests are read with distrust", () => {
  it("accepts what is right", () => {
    assert.equal(fieldOf({}), "accepted");
    assert.equal(fieldOf({ kind: "LEASE_KIND_REGION", devices: [{ address: GOOD, regions: [4, 2] }] }), "accepted");
    assert.equal(fieldOf({ channel: "18446744073709551615" }), "accepted");
    assert.equal(fieldOf({ mode: "LEASE_MODE_RETAIN" }), "accepted");
    assert.equal(fieldOf({ ticket: ticket({}) }), "accepted");
  });

  it("reads tickets and durations to the bound, with their defaults", () => {
    assert.deepEqual(readAcquire(request({ ticket: ticket({}) }), LIMITS).value?.ticket, { uid: null, lifetimeMs: 60_000 });
    assert.deepEqual(readTicketOptions(null, LIMITS).value, { uid: null, lifetimeMs: 60_000 });
    assert.deepEqual(readTicketOptions(ticket({ uid: 0 }), LIMITS).value, { uid: 0, lifetimeMs: 60_000 });
    for (const seconds of [1, 900]) assert.equal(readTicketOptions(ticket({ seconds }), LIMITS).value?.lifetimeMs, seconds * 1000);
    assert.equal(readTicketOptions(ticket({ seconds: 1, nanos: 999_999_999 }), LIMITS).value?.lifetimeMs, 1999);
    assert.equal(readAcquire(request({}), LIMITS).value?.maxDurationMs, null);
    for (const seconds of [1, 31_536_000])
      assert.equal(
        readAcquire(request({ maxDuration: { seconds: String(seconds), nanos: 0 } }), LIMITS).value?.maxDurationMs,
        seconds * 1000,
      );
  });

  it("lets a ticket live as long as the limits say", () => {
    const short = { ticketMs: 60_000, ticketMaxMs: 5_000 };
    assert.equal(readTicketOptions(null, short).value?.lifetimeMs, 5_000);
    assert.equal(readTicketOptions(ticket({ seconds: 5 }), short).value?.lifetimeMs, 5_000);
    assert.match(readTicketOptions(ticket({ seconds: 6 }), short).refusal?.message ?? "", /6 s, where 1 to 5 s are allowed/);
    assert.equal(readTicketOptions(null, { ticketMs: 2_000, ticketMaxMs: 5_000 }).value?.lifetimeMs, 2_000);
  });

  it("names the field that is wrong", () => {
    const device = (address: string, regions: number[] = []): { address: string; regions: number[] } => ({ address, regions });
    const cases: readonly (readonly [string, Partial<AcquireLeaseRequest__Output>])[] = [
      ["kind", { kind: "LEASE_KIND_UNSPECIFIED" }],
      ["mode", { mode: 3 as unknown as "LEASE_MODE_HAND_OFF" }],
      ["mode", { mode: "LEASE_MODE_RETAIN", kind: "LEASE_KIND_REGION", devices: [device(GOOD, [0])] }],
      ["channel", { channel: "1", ticket: ticket({}) }],
      ["ticket.uid", { ticket: ticket({ uid: 0xffffffff }) }],
      ["ticket.lifetime", { ticket: ticket({ seconds: 0 }) }],
      ["ticket.lifetime", { ticket: ticket({ seconds: 0, nanos: 999_999_999 }) }],
      ["ticket.lifetime", { ticket: ticket({ seconds: 900, nanos: 1 }) }],
      ["ticket.lifetime", { ticket: ticket({ seconds: -1 }) }],
      ["ticket.lifetime", { ticket: ticket({ seconds: 5, nanos: -1 }) }],
      ["ticket.lifetime", { ticket: ticket({ seconds: 5, nanos: 1_000_000_000 }) }],
      ["max_duration", { maxDuration: { seconds: "0", nanos: 0 } }],
      ["max_duration", { maxDuration: { seconds: "31536001", nanos: 0 } }],
      ["max_duration", { maxDuration: { seconds: "9223372036854775807", nanos: 0 } }],
      ["request_id", { requestId: "1" }],
      ["request_id", { requestId: "11111111-1111-4111-8111-11111111111\n" }],
      ["devices", { devices: [] }],
      ["devices", { devices: Array.from({ length: 17 }, (_, i) => device(`0000:00:${i.toString(16).padStart(2, "0")}.0`)) }],
      ["devices", { kind: "LEASE_KIND_REGION", devices: [device(GOOD, [0]), device("0000:02:00.0", [0])] }],
      ["devices[0].regions", { kind: "LEASE_KIND_REGION" }],
      ["devices[0].regions", { kind: "LEASE_KIND_REGION", devices: [device(GOOD, [1, 1])] }],
      [
        "devices[0].regions",
        {
          kind: "LEASE_KIND_REGION",
          devices: [
            device(
              GOOD,
              Array.from({ length: 17 }, (_, i) => i),
            ),
          ],
        },
      ],
      ["devices[0].regions", { devices: [device(GOOD, [0])] }],
      ["devices[1].address", { devices: [device(GOOD), device(GOOD)] }],
      ["devices[1].address", { devices: [device(GOOD), device("0000:01:00.g")] }],
    ];
    for (const [field, change] of cases) assert.equal(fieldOf(change), field, JSON.stringify(change));
  });

  it("takes no address that sysfs would not write", () => {
    for (const bad of [
      "",
      "01:00.0",
      "0000:01:00.8",
      "0000:01:20.0",
      "0000:1:00.0",
      "0000:01:00.0\0",
      "../0000:01:00.0",
      "0000:01:00.0/..",
      "0000:AB:00.0",
      "x".repeat(4096),
      "__proto__",
    ]) {
      assert.equal(readAddress(bad, "address").refusal?.reason, "MALFORMED_ADDRESS", JSON.stringify(bad.slice(0, 20)));
    }
    assert.equal(readAddress("10000:e1:00.0", "address").refusal, null);
  });

  it("never echoes more than 64 printable characters", () => {
    fc.assert(
      fc.property(
        fc.string({ unit: "binary", maxLength: 5000 }),
        (text) => /^[\x20-\x7e]*$/.test(quoted(text)) && quoted(text).length <= 70 * 6,
      ),
    );
  });

  it("bounds filters, pages and ids", () => {
    const filter = { addresses: [], vendorId: 0, deviceId: 0, leasableOnly: false };
    assert.equal(
      readFilter({ ...filter, addresses: Array.from({ length: 65 }, () => GOOD) }).refusal?.metadata["field"],
      "filter.addresses",
    );
    assert.equal(readFilter({ ...filter, vendorId: 0x10000, _vendorId: "vendorId" }).refusal?.metadata["field"], "filter.vendor_id");
    assert.equal(readFilter({ ...filter, vendorId: 0, _vendorId: "vendorId" }).value?.vendorId, 0);
    assert.equal(readFilter(filter).value?.vendorId, null);
    assert.deepEqual(readPage({ pageSize: 0, pageToken: "" }).value, { size: 100, after: "" });
    assert.deepEqual(readPage({ pageSize: 5000, pageToken: pageToken(GOOD) }).value, { size: 1000, after: GOOD });
    assert.equal(readPage({ pageSize: -1, pageToken: "" }).refusal?.metadata["field"], "page_size");
    for (const bad of ["!", "AAAA", "x".repeat(65)])
      assert.equal(readPage({ pageSize: 1, pageToken: bad }).refusal?.metadata["field"], "page_token", bad);
    for (const bad of ["", "x", "../../etc", "0".repeat(36)]) assert.notEqual(readLeaseId(bad).refusal, null, bad);
  });
});
