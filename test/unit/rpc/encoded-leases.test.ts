// Leases that are written field by field, read again by the general codec.

import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import type { Address, Region } from "../../../src/broker/device.js";
import type { LeaseView } from "../../../src/broker/lease.js";
import { LEASE_STATES } from "../../../src/broker/lease-table.js";
import type { DescriptorInfo } from "../../../src/broker/ports.js";
import { refuse } from "../../../src/broker/refusal.js";
import type { Lease__Output } from "../../../src/generated/aperture/v1/Lease.js";
import { leaseEvents, leasePage, leaseResponse, sessionAnswer, sessionRefusal } from "../../../src/rpc/encoded-leases.js";
import { messages, packageDefinition, services } from "../../../src/rpc/protos.js";

const A = "0000:01:00.0" as Address;
const B = "ffff:ff:1f.7" as Address;
const TICKET = Uint8Array.from({ length: 16 }, (_, i) => 255 - i);

const MEMORY: Region = {
  ...{ index: 2, kind: "BAR", bar: 2, size: 1n << 40n, backedSize: 0x50_0000_0000n, areas: [{ offset: 0n, size: 0x50_0000_0000n }] },
  ...{ memoryType: "WRITE_BACK", memoryTypeSource: "a test", prefetchable: true, is64bit: true },
  ...{ readable: true, writable: true, mappable: true, offset: 2n << 40n, type: null },
};

const DESCRIPTOR: DescriptorInfo = {
  ...{ kind: "REGION", scope: "REGION", address: A, region: 3, group: 5 },
  ...{ offset: (1n << 63n) + 1n, size: 0x1_0000_0001n },
};

const FULL: LeaseView = {
  ...{ id: "00000000-0000-4000-8000-000000000001", kind: "REGION", mode: "RETAIN", phase: "RESERVED", backend: "SIMULATED" },
  devices: [
    { address: A, regions: [MEMORY, { ...MEMORY, index: 4, bar: 4 }] },
    { address: B, regions: [] },
  ],
  descriptors: [DESCRIPTOR],
  ...{ holderPid: 4_194_304, holderUid: 4_294_967_294, ownerUid: 1, policyRule: "für alle" },
  ...{ createTime: 1_764_078_000_123.75, ackDeadline: 1_764_078_002_000, endTime: 1, endCause: "OPEN_FAILED", quarantined: [A, B] },
  ...{ expireTime: 253_402_300_799_999, ticketExpireTime: 4_294_967_296_000, recall: { cause: "EXPIRED", deadline: 1_764_078_005_001 } },
};

const BARE: LeaseView = {
  ...{ id: FULL.id, kind: "DEVICE", mode: "HAND_OFF", phase: "OPENING", backend: "IOMMUFD", devices: [], descriptors: [] },
  ...{ holderPid: 0, holderUid: 0, ownerUid: 0, policyRule: "", createTime: 0, ackDeadline: null, endTime: null, endCause: null },
  ...{ quarantined: [], expireTime: null, ticketExpireTime: null, recall: null },
};

function read(view: LeaseView, tokens: ReadonlyMap<Address, Uint8Array> | null = null): Lease__Output {
  return services.lease.GetLease.responseDeserialize(leaseResponse(view, null, null, tokens)).lease ?? assert.fail("no lease");
}

/** What a view is in the API's words, made the plain way. */
function expected(view: LeaseView): object {
  const time = (milliseconds: number | null): object | null =>
    milliseconds === null
      ? null
      : { seconds: String(Math.floor(milliseconds / 1000)), nanos: (Math.floor(milliseconds) % 1000) * 1_000_000 };
  return {
    ...{ id: view.id, kind: `LEASE_KIND_${view.kind}`, mode: `LEASE_MODE_${view.mode}`, state: `LEASE_STATE_${view.phase}` },
    devices: view.devices.map(({ address, regions }) => [address, regions.map(({ index, size }) => [index, String(size)])]),
    descriptors: view.descriptors.map(({ kind, scope, address, region: index, group, offset, size }) => ({
      ...{ kind: `DESCRIPTOR_KIND_${kind}`, scope: `SCOPE_${scope}`, address: address ?? "", offset: String(offset), size: String(size) },
      ...(index === null ? {} : { region: index, _region: "region" }),
      ...(group === null ? {} : { group, _group: "group" }),
    })),
    backend: `BACKEND_${view.backend}`,
    ...{ holderPid: view.holderPid, holderUid: view.holderUid, ownerUid: view.ownerUid, policyRule: view.policyRule },
    ...{ createTime: time(view.createTime), ackDeadline: time(view.ackDeadline), endTime: time(view.endTime) },
    endCause: view.endCause === null ? "END_CAUSE_UNSPECIFIED" : `END_CAUSE_${view.endCause}`,
    ...{ quarantined: view.quarantined, expireTime: time(view.expireTime), ticketExpireTime: time(view.ticketExpireTime) },
    recall: view.recall === null ? null : { cause: `END_CAUSE_${view.recall.cause}`, deadline: time(view.recall.deadline) },
  };
}

function shown(lease: Lease__Output): object {
  const devices = lease.devices.map(({ address, regions }) => [address, regions.map(({ index, size }) => [index, size])]);
  return { ...lease, devices };
}

const time = fc.oneof(fc.integer({ min: 0, max: 253_402_300_799_999 }), fc.double({ min: 0, max: 4e12, noNaN: true }));
const uint32 = fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 0xffff_ffff }));
const views = fc.record<LeaseView>({
  id: fc.uuid({ version: 4 }),
  kind: fc.constantFrom("DEVICE", "REGION"),
  mode: fc.constantFrom("HAND_OFF", "RETAIN"),
  phase: fc.constantFrom("RESERVED", "OPENING", "OFFERED", "HELD", "RELEASING", "RESETTING", "ENDED"),
  backend: fc.constantFrom("IOMMUFD", "LEGACY", "SIMULATED"),
  devices: fc.constantFrom(FULL.devices, BARE.devices),
  descriptors: fc.array(
    fc.record<DescriptorInfo>({
      kind: fc.constantFrom("IOMMUFD", "DEVICE_UNBOUND", "CONTAINER", "GROUP", "DEVICE", "REGION"),
      scope: fc.constantFrom("DEVICE", "REGION", "IOMMU"),
      address: fc.constantFrom(null, A),
      region: fc.option(uint32),
      group: fc.option(uint32),
      offset: fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }),
      size: fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }),
    }),
    { maxLength: 3 },
  ),
  holderPid: uint32,
  holderUid: uint32,
  ownerUid: uint32,
  policyRule: fc.string({ unit: "grapheme" }),
  createTime: time,
  ackDeadline: fc.option(time),
  endTime: fc.option(time),
  endCause: fc.option(
    fc.constantFrom(
      ...(["RELEASED", "HOLDER_DIED", "NOT_ACKNOWLEDGED", "SHORT_HANDOVER", "HANDOVER_FAILED", "DEVICE_REMOVED"] as const),
      ...(["TICKET_EXPIRED", "EXPIRED", "SESSION_ENDED", "OPEN_FAILED", "SUCCEEDED"] as const),
    ),
  ),
  quarantined: fc.constantFrom([], [A], [B, A]),
  expireTime: fc.option(time),
  ticketExpireTime: fc.option(time),
  recall: fc.option(fc.record({ cause: fc.constantFrom("DEVICE_REMOVED", "EXPIRED"), deadline: time })),
});

describe("[pure] leases as bytes", () => {
  it("has every field of the API, and says what the general codec would", () => {
    assert.deepEqual(shown(read(FULL)), expected(FULL));
    assert.deepEqual(shown(read(BARE)), expected(BARE));
    const names = (type: string): readonly string[] => {
      const message = packageDefinition()[`aperture.v1.${type}`] ?? assert.fail(type);
      const { field } = message.type as { readonly field: readonly { readonly name: string }[] };
      return field.map(({ name }) => name.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase()));
    };
    // A field that is added to proto/ has to be added to FULL, and then is missed here until it is written.
    const full = read(FULL, new Map([[A, TICKET]]));
    const unset: readonly unknown[] = [undefined, null, "", 0, "0"];
    const isSet = (value: unknown): boolean => !unset.includes(value) && !/UNSPECIFIED$|^$/.test(String(value));
    for (const [message, value] of [
      ["Lease", full],
      ["Descriptor", full.descriptors[0]],
      ["LeasedDevice", full.devices[0]],
      ["Recall", full.recall],
    ] as const)
      for (const name of names(message)) assert.ok(isSet((value as unknown as Record<string, unknown>)[name]), `${message}.${name}`);
    assert.deepEqual(full.devices[0]?.regions[0]?.memoryType, "MEMORY_TYPE_WRITE_BACK");
  });

  it("has the VF tokens that it is given, and none in what others are shown", () => {
    const told = read(FULL, new Map([[B, TICKET]])).devices.map(({ vfToken }) => Buffer.from(vfToken));
    assert.deepEqual(told, [Buffer.alloc(0), Buffer.from(TICKET)]);
    for (const bytes of [leaseResponse(FULL), leasePage([FULL], ""), leaseEvents([{ kind: "CHANGED", view: FULL }])])
      assert.ok(!bytes.includes(Buffer.from(TICKET)));
  });

  it("reads back whatever was written", () => {
    fc.assert(
      fc.property(views, (view) => {
        assert.deepEqual(shown(read(view)), expected(view));
      }),
      { numRuns: 500 },
    );
  });

  it("is each of the answers that hold leases", () => {
    const acquired = services.lease.AcquireLease.responseDeserialize(leaseResponse(FULL, TICKET));
    assert.deepEqual([acquired.ticket, acquired.lease?.id], [Buffer.from(TICKET), FULL.id]);
    assert.equal(services.lease.AcquireLease.responseDeserialize(leaseResponse(FULL)).ticket.length, 0);
    const made = messages.vmmArguments.serialize({ vmm: "VMM_QEMU", fragments: [{ place: "p", lines: ["-x"] }] });
    const both = services.lease.AcquireLease.responseDeserialize(leaseResponse(FULL, TICKET, made));
    assert.deepEqual([both.arguments?.vmm, both.arguments?.fragments[0]?.lines, both.lease?.id], ["VMM_QEMU", ["-x"], FULL.id]);
    assert.equal(acquired.arguments, null);
    assert.deepEqual(services.lease.NameSuccessor.responseDeserialize(leaseResponse(FULL, TICKET)).ticket, Buffer.from(TICKET));
    assert.equal(services.lease.ReleaseLease.responseDeserialize(leaseResponse(FULL)).lease?.endCause, "END_CAUSE_OPEN_FAILED");
    const page = services.lease.ListLeases.responseDeserialize(leasePage([FULL, BARE], "next"));
    assert.deepEqual([page.leases.map(({ kind }) => kind), page.nextPageToken], [["LEASE_KIND_REGION", "LEASE_KIND_DEVICE"], "next"]);
    const events = leaseEvents([
      { kind: "SNAPSHOT", view: FULL },
      { kind: "SYNCED", view: null },
      { kind: "CHANGED", view: BARE },
      { kind: "ENDED", view: FULL },
    ]);
    assert.deepEqual(
      services.lease.WatchLeases.responseDeserialize(events).events.map((event) => [event.kind, event.lease?.kind]),
      [
        ["LEASE_EVENT_KIND_SNAPSHOT", "LEASE_KIND_REGION"],
        ["LEASE_EVENT_KIND_SYNCED", undefined],
        ["LEASE_EVENT_KIND_CHANGED", "LEASE_KIND_DEVICE"],
        ["LEASE_EVENT_KIND_ENDED", "LEASE_KIND_REGION"],
      ],
    );
  });

  it("answers the requests of a session", () => {
    const { responseDeserialize } = services.lease.Session;
    for (const [sequence, call] of [
      ["0", "acquire"],
      ["7", "release"],
      ["18446744073709551615", "get"],
    ] as const) {
      const answer = responseDeserialize(sessionAnswer(sequence, call, leaseResponse(FULL, TICKET)));
      assert.deepEqual([answer.sequence, answer.response, answer[call]?.lease?.id], [sequence, call, FULL.id]);
    }
    const refused = responseDeserialize(sessionRefusal("7", refuse("DEVICE_BUSY", "it is held").refusal));
    assert.deepEqual([refused.sequence, refused.response, refused.error?.code], ["7", "error", 10]);
    assert.match(refused.error?.message ?? "", /^it is held\. Next: /);
  });

  it("knows every state that a lease can show", () => {
    for (const phase of LEASE_STATES)
      if (phase !== "FREE" && phase !== "QUARANTINED" && phase !== "REMOVED" && phase !== "REBINDING")
        assert.equal(read({ ...BARE, phase }).state, `LEASE_STATE_${phase}`);
  });
});
