// Requests with every field wrong in its own way: the status, the reason and the field that the answer names, and a daemon that is as before.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, afterEach, before, describe, it } from "node:test";
import type { AcquireLeaseResponse__Output } from "../../src/generated/aperture/v1/AcquireLeaseResponse.js";
import type { ListLeasesResponse__Output } from "../../src/generated/aperture/v1/ListLeasesResponse.js";
import { packageDefinition } from "../../src/rpc/protos.js";
import { ClientProcess } from "../harness/client-process.js";
import { DaemonProcess } from "../harness/daemon.js";
import { bytesField } from "../harness/http2-bytes.js";
import { LeaseBench } from "../harness/lease-bench.js";
import { RawChannel } from "../harness/raw-channel.js";
import { DeviceService, HostService, LeaseService, Rpc, VmmService } from "../harness/rpc.js";

const GPU = "0009:01:00.0";
const NVME = "0000:02:00.0";
const VF = "0000:41:01.0";
/** Bound to its own driver. */
const SYSTEM_DRIVE = "0000:01:00.0";
const NOTHING = "0000:00:1f.7";
const UUID = "11111111-1111-4111-8111-111111111111";
const OTHER = process.geteuid?.() === 0 ? 65534 : null;

/** Texts that are no address, no lease id, no token. */
const HOSTILE_TEXTS = [
  "x",
  "__proto__",
  "constructor",
  "../../../etc/passwd",
  `${NVME}\0`,
  `${NVME}\n`,
  ` ${NVME}`,
  "0000:02:00.8",
  "0000:2:0.0",
  "0000:0A:00.0",
  "a".repeat(4_096),
  "\u202e\u009b31m",
  "%s%n",
  "'; --",
];

interface Wrong {
  readonly service: { readonly service: object };
  readonly method: string;
  readonly request: object;
  /** [status, reason, field]. */
  readonly expected: readonly [string, string | null, string | null];
}

function wrong(service: Wrong["service"], method: string, request: object, ...expected: Wrong["expected"]): Wrong {
  return { service, method, request, expected };
}

const INVALID = ["INVALID_ARGUMENT", "INVALID_FIELD"] as const;
const MALFORMED = ["INVALID_ARGUMENT", "MALFORMED_ADDRESS"] as const;
const device = (address: string, regions: readonly number[] = []): object => ({ address, regions });
const acquire = (change: object): object => ({ kind: "LEASE_KIND_DEVICE", devices: [device(NVME)], ...change });
const regions = (...indexes: readonly number[]): object => ({ kind: "LEASE_KIND_REGION", devices: [device(NVME, indexes)] });
const upTo = (count: number): readonly number[] => Array.from({ length: count }, (_, i) => i);
const addresses = (count: number): readonly string[] => upTo(count).map((i) => `0000:${i.toString(16).padStart(2, "0")}:00.0`);

const QEMU = { vmm: "VMM_QEMU" } as const;
/** Every way in which options can be wrong, with the field. */
const WRONG_VMM: readonly (readonly [object, string])[] = [
  [{}, "vmm"],
  [{ vmm: 99 }, "vmm"],
  [{ vmm: -1 }, "vmm"],
  [{ ...QEMU, machine: 99 }, "machine"],
  [{ ...QEMU, guestMemory: "0" }, "guest_memory"],
  [{ ...QEMU, guestMemory: "18446744073709551615" }, "guest_memory"],
  [{ ...QEMU, guestNodes: upTo(65).map((guest) => ({ guest, host: 0 })) }, "guest_nodes"],
  [{ ...QEMU, guestNodes: [{ guest: 128, host: 0 }] }, "guest_nodes[0].guest"],
  [{ ...QEMU, guestNodes: [{ guest: 0 }, { guest: 0 }] }, "guest_nodes[1].guest"],
  [{ ...QEMU, guestNodes: [{ guest: 0, host: 1024 }] }, "guest_nodes[0].host"],
  [{ ...QEMU, guestNodes: [{ guest: 127, host: 0xffffffff }] }, "guest_nodes[0].host"],
  ...[...HOSTILE_TEXTS, "gpu", "example.com/", "/gpu", "example.com/gpu\n- x", "a/b/c", `${"a".repeat(320)}/gpu`].map(
    (resourceName) => [{ ...QEMU, resourceName }, "resource_name"] as const,
  ),
];

const query = (change: object): object => ({ uid: 0, address: NVME, ...change });
/** No durations at all, or shorter than a second. */
const WRONG_DURATIONS = [
  { seconds: "0" },
  { seconds: "0", nanos: 999_000_000 },
  { seconds: "-1" },
  { seconds: "9223372036854775807" },
  { seconds: "-9223372036854775808" },
  { seconds: "60", nanos: -1 },
  { seconds: "60", nanos: 1_000_000_000 },
];

const TABLE: readonly Wrong[] = [
  ...(["ListDevices", "WatchDevices"] as const).flatMap((method) => [
    wrong(DeviceService, method, { filter: { addresses: addresses(65) } }, ...INVALID, "filter.addresses"),
    wrong(DeviceService, method, { filter: { addresses: [NVME, "x"] } }, ...MALFORMED, "filter.addresses[1]"),
    wrong(DeviceService, method, { filter: { vendorId: 0x10000 } }, ...INVALID, "filter.vendor_id"),
    wrong(DeviceService, method, { filter: { deviceId: 0xffffffff } }, ...INVALID, "filter.device_id"),
  ]),
  wrong(DeviceService, "WatchDevices", { filter: { leasableOnly: true } }, ...INVALID, "filter.leasable_only"),
  ...[[DeviceService, "ListDevices"] as const, [LeaseService, "ListLeases"] as const].flatMap(([service, method]) => [
    wrong(service, method, { pageSize: -1 }, ...INVALID, "page_size"),
    wrong(service, method, { pageSize: -2_147_483_648 }, ...INVALID, "page_size"),
    ...HOSTILE_TEXTS.map((pageToken) => wrong(service, method, { pageToken }, ...INVALID, "page_token")),
  ]),
  wrong(DeviceService, "GetDevice", {}, ...MALFORMED, "address"),
  ...HOSTILE_TEXTS.map((address) => wrong(DeviceService, "GetDevice", { address }, ...MALFORMED, "address")),
  wrong(DeviceService, "GetDevice", { address: NOTHING }, "NOT_FOUND", "DEVICE_NOT_FOUND", null),
  ...(["GetLease", "ReleaseLease"] as const).flatMap((method) => [
    wrong(LeaseService, method, {}, ...INVALID, "lease_id"),
    ...HOSTILE_TEXTS.map((leaseId) => wrong(LeaseService, method, { leaseId }, ...INVALID, "lease_id")),
    wrong(LeaseService, method, { leaseId: UUID.toUpperCase().replace("1", "A") }, ...INVALID, "lease_id"),
    wrong(LeaseService, method, { leaseId: UUID }, "NOT_FOUND", "LEASE_NOT_FOUND", null),
  ]),
  wrong(LeaseService, "AcquireLease", {}, ...INVALID, "kind"),
  wrong(LeaseService, "AcquireLease", acquire({ kind: 99 }), ...INVALID, "kind"),
  wrong(LeaseService, "AcquireLease", acquire({ kind: -1 }), ...INVALID, "kind"),
  wrong(LeaseService, "AcquireLease", acquire({ mode: 7 }), ...INVALID, "mode"),
  ...HOSTILE_TEXTS.map((requestId) => wrong(LeaseService, "AcquireLease", acquire({ requestId }), ...INVALID, "request_id")),
  wrong(LeaseService, "AcquireLease", acquire({ devices: [] }), ...INVALID, "devices"),
  wrong(LeaseService, "AcquireLease", acquire({ devices: addresses(17).map((address) => device(address)) }), ...INVALID, "devices"),
  wrong(LeaseService, "AcquireLease", acquire({ devices: [device(NVME), device(NVME)] }), ...INVALID, "devices[1].address"),
  ...HOSTILE_TEXTS.map((text) =>
    wrong(LeaseService, "AcquireLease", acquire({ devices: [device(NVME), device(text)] }), ...MALFORMED, "devices[1].address"),
  ),
  wrong(LeaseService, "AcquireLease", acquire({ devices: [device(NVME, [0])] }), ...INVALID, "devices[0].regions"),
  wrong(LeaseService, "AcquireLease", { ...regions(0), devices: [device(NVME, [0]), device(VF, [0])] }, ...INVALID, "devices"),
  wrong(LeaseService, "AcquireLease", regions(), ...INVALID, "devices[0].regions"),
  wrong(LeaseService, "AcquireLease", regions(0, 7, 0), ...INVALID, "devices[0].regions"),
  wrong(LeaseService, "AcquireLease", regions(...upTo(17)), ...INVALID, "devices[0].regions"),
  wrong(LeaseService, "AcquireLease", regions(5), "NOT_FOUND", "REGION_NOT_FOUND", null),
  wrong(LeaseService, "AcquireLease", regions(0, 0xffffffff), "NOT_FOUND", "REGION_NOT_FOUND", null),
  wrong(LeaseService, "AcquireLease", acquire({ devices: [device(NVME), device(NOTHING)] }), "NOT_FOUND", "DEVICE_NOT_FOUND", null),
  wrong(LeaseService, "AcquireLease", acquire({ devices: [device(SYSTEM_DRIVE)] }), "FAILED_PRECONDITION", "NO_VFIO_DRIVER", null),
  wrong(LeaseService, "AcquireLease", acquire({ devices: [device("0000:31:00.0")] }), "FAILED_PRECONDITION", "GROUP_NOT_VIABLE", null),
  ...["1000", "18446744073709551615"].map((channel) =>
    wrong(LeaseService, "AcquireLease", acquire({ channel }), "FAILED_PRECONDITION", "NO_DESCRIPTOR_CHANNEL", null),
  ),
  wrong(LeaseService, "AcquireLease", acquire({ channel: "1", ticket: {} }), ...INVALID, "channel"),
  wrong(LeaseService, "AcquireLease", { ...regions(0), mode: "LEASE_MODE_RETAIN" }, ...INVALID, "mode"),
  wrong(LeaseService, "AcquireLease", acquire({ ticket: { uid: 0xffffffff } }), ...INVALID, "ticket.uid"),
  wrong(LeaseService, "NameSuccessor", { leaseId: UUID, ticket: { uid: 0xffffffff } }, ...INVALID, "ticket.uid"),
  ...WRONG_DURATIONS.flatMap((lifetime) => [
    wrong(LeaseService, "AcquireLease", acquire({ ticket: { lifetime } }), ...INVALID, "ticket.lifetime"),
    wrong(LeaseService, "NameSuccessor", { leaseId: UUID, ticket: { lifetime } }, ...INVALID, "ticket.lifetime"),
  ]),
  ...[{ seconds: "901" }, { seconds: "900", nanos: 1 }].map((lifetime) =>
    wrong(LeaseService, "AcquireLease", acquire({ ticket: { lifetime } }), ...INVALID, "ticket.lifetime"),
  ),
  ...[...WRONG_DURATIONS, { seconds: "31622401" }].map((maxDuration) =>
    wrong(LeaseService, "AcquireLease", acquire({ maxDuration }), ...INVALID, "max_duration"),
  ),
  ...HOSTILE_TEXTS.map((leaseId) => wrong(LeaseService, "NameSuccessor", { leaseId }, ...INVALID, "lease_id")),
  wrong(LeaseService, "NameSuccessor", { leaseId: UUID }, "NOT_FOUND", "LEASE_NOT_FOUND", null),
  wrong(HostService, "TestPolicy", query({ uid: 0xffffffff }), ...INVALID, "uid"),
  wrong(HostService, "TestPolicy", query({ gids: [0, 0xffffffff] }), ...INVALID, "gids"),
  wrong(HostService, "TestPolicy", query({ gids: upTo(4_097) }), ...INVALID, "gids"),
  ...(["executable", "cgroup"] as const).flatMap((field) =>
    ["x", "../../etc/passwd", "/bin/\0", `/${"a".repeat(4_095)}`].map((path) =>
      wrong(HostService, "TestPolicy", query({ [field]: path }), ...INVALID, field),
    ),
  ),
  ...HOSTILE_TEXTS.map((address) => wrong(HostService, "TestPolicy", query({ address }), ...MALFORMED, "address")),
  wrong(HostService, "TestPolicy", query({ address: NOTHING }), "NOT_FOUND", "DEVICE_NOT_FOUND", null),
  wrong(HostService, "TestPolicy", query({ kind: 99 }), ...INVALID, "kind"),
  wrong(HostService, "TestPolicy", query({ mode: -1 }), ...INVALID, "mode"),
  wrong(HostService, "TestPolicy", query({ kind: "LEASE_KIND_REGION", mode: "LEASE_MODE_RETAIN" }), ...INVALID, "mode"),
  ...WRONG_VMM.flatMap(([options, field]) => [
    wrong(VmmService, "GetArguments", { options, addresses: [NVME] }, ...INVALID, `options.${field}`),
    wrong(LeaseService, "AcquireLease", acquire({ vmm: options }), ...INVALID, `vmm.${field}`),
  ]),
  wrong(LeaseService, "AcquireLease", { ...regions(0), vmm: QEMU }, ...INVALID, "vmm"),
  wrong(LeaseService, "AcquireLease", acquire({ devices: [device(NOTHING)], vmm: QEMU }), "NOT_FOUND", "DEVICE_NOT_FOUND", null),
  wrong(VmmService, "GetArguments", { addresses: [NVME] }, ...INVALID, "options.vmm"),
  wrong(VmmService, "GetArguments", { options: QEMU }, ...INVALID, "addresses"),
  wrong(VmmService, "GetArguments", { options: QEMU, addresses: addresses(17) }, ...INVALID, "addresses"),
  wrong(VmmService, "GetArguments", { options: QEMU, addresses: [NVME, NVME] }, ...INVALID, "addresses[1]"),
  ...HOSTILE_TEXTS.map((address) =>
    wrong(VmmService, "GetArguments", { options: QEMU, addresses: [address] }, ...MALFORMED, "addresses[0]"),
  ),
  wrong(VmmService, "GetArguments", { options: QEMU, addresses: [NOTHING] }, "NOT_FOUND", "DEVICE_NOT_FOUND", null),
  wrong(VmmService, "GetArguments", { options: QEMU, addresses: [SYSTEM_DRIVE] }, "FAILED_PRECONDITION", "DEVICE_NOT_PROBED", null),
  wrong(VmmService, "GetArguments", { options: QEMU, addresses: [NVME], leaseId: UUID }, ...INVALID, "addresses"),
  ...HOSTILE_TEXTS.map((leaseId) => wrong(VmmService, "GetArguments", { options: QEMU, leaseId }, ...INVALID, "lease_id")),
  wrong(VmmService, "GetArguments", { options: QEMU, leaseId: UUID }, "NOT_FOUND", "LEASE_NOT_FOUND", null),
];

/** Fields that no value makes wrong, and why. The test of all fields fails on one that is neither here nor in the table. */
const NEVER_WRONG: Readonly<Record<string, string>> = {
  "ListDevices.filter.leasable_only": "a truth value",
  "TestPolicy.delegate": "a truth value",
};

interface FieldShape {
  readonly name: string;
  readonly type: string;
  readonly typeName: string;
}

/** Every field of a message, those of messages within by their path; a Duration is one field. */
function fieldPaths(message: string): readonly string[] {
  const { field } = (packageDefinition()[message] as unknown as { readonly type: { readonly field: readonly FieldShape[] } }).type;
  return field.flatMap(({ name: camel, type, typeName }) => {
    const name = camel.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
    if (type !== "TYPE_MESSAGE" || typeName.endsWith("Duration")) return [name];
    return fieldPaths(`aperture.v1.${typeName.split(".").at(-1)}`).map((inner) => `${name}.${inner}`);
  });
}

describe("[real processes, simulated host] wrong requests", () => {
  let daemon: DaemonProcess;
  let bench: LeaseBench;
  before(async () => {
    // Without a rule the second user would be told POLICY_DENIED instead of what a test is about.
    const policy = '[[policy]]\nname = "all"\ndevice = "*"\n';
    daemon = await DaemonProcess.start({ config: `[limits]\nack_ms = 300\nretry_min_ms = 50\nretry_max_ms = 50\n${policy}` });
    bench = await LeaseBench.at(daemon);
  });
  afterEach(async () => {
    RawChannel.closeAll();
    await ClientProcess.killAll();
    await bench.allFree([GPU, NVME, VF]);
    await daemon.isAsBefore();
  });
  after(async () => {
    Rpc.closeAll();
    await daemon.stop();
  });

  it(`are refused with status, reason and field: ${TABLE.length} of them`, async () => {
    await RawChannel.attached(daemon.socket);
    for (const { service, method, request, expected } of TABLE) {
      const { code, reason, fields, text } = await bench.rpc.call(service, method, request);
      const what = `${method} ${JSON.stringify(request).slice(0, 200)}`;
      assert.deepEqual([code, reason, fields[0] ?? null], expected, what);
      assert.match(text, /^[\x20-\x7e]+\. Next: [\x20-\x7e]+\.$/, `${what}: what to do next, in printable ASCII`);
      assert.ok(text.length < 400, `${what}: ${text.length} characters`);
    }
    assert.equal(daemon.records().filter((record) => record.event === "lease.granted").length, 0);
  });

  it("have a wrong value for every field of every request", () => {
    const tried = new Set(TABLE.map(({ method, expected: [, , field] }) => `${method}.${field?.replaceAll(/\[\d+\]/g, "") ?? ""}`));
    const untried = [DeviceService, LeaseService, HostService, VmmService].flatMap(({ service }) =>
      Object.keys(service).flatMap((method) =>
        // What its requests carry is read by the same code; session.test.ts has what is its own.
        method === "Session"
          ? []
          : fieldPaths(`aperture.v1.${method}Request`)
              .map((field) => `${method}.${field}`)
              .filter((field) => !tried.has(field) && NEVER_WRONG[field] === undefined),
      ),
    );
    assert.deepEqual(untried, []);
  });

  it("answers for a lease of another user byte by byte as for one that never was", {
    skip: OTHER === null ? "needs root for a second user" : false,
  }, async () => {
    const { channel } = await RawChannel.attached(daemon.socket);
    const { frame } = await bench.held(channel, NVME);
    const missing = randomUUID();
    const stranger = await ClientProcess.start(daemon.socket, OTHER);
    for (const method of ["GetLease", "ReleaseLease"]) {
      const ask = async (id: string): Promise<readonly string[]> => {
        const hex = bytesField(1, id).toString("hex");
        const { code, text, details } = await stranger.must(`call /aperture.v1.LeaseService/${method} ${hex}`);
        const plain = Buffer.from(String(details), "hex").toString("latin1");
        return [String(code), String(text), plain].map((part) => part.replaceAll(id, "ID"));
      };
      const answers = [await ask(frame.leaseId), await ask(missing)] as const;
      assert.equal(answers[0][0], "NOT_FOUND");
      assert.deepEqual(answers[0], answers[1]);
    }
    const list = await stranger.must("call /aperture.v1.LeaseService/ListLeases ");
    // Not a lease, and no next_page_token.
    assert.deepEqual([list["code"], list["answer"]], ["OK", ""], "nor is it in the stranger's list");
    assert.equal(await bench.stateOf(NVME), "HELD");
    // The operator sees it, and an ended one as well.
    channel.drop();
    assert.equal((await bench.release(frame.leaseId)).code, "OK");
    assert.equal(await bench.endOf(frame.leaseId), "RELEASED");
  });

  it("cannot use a request id again for something else, and may repeat it for the same", async () => {
    const { channel } = await RawChannel.attached(daemon.socket);
    const requestId = randomUUID();
    const first = await bench.held(channel, NVME, { requestId });
    const same = await bench.acquire(NVME, { requestId });
    assert.equal(same.answer?.lease?.id, first.frame.leaseId);
    for (const [address, more] of [
      [VF, {}],
      [NVME, { kind: "LEASE_KIND_REGION", devices: [device(NVME, [0])] }],
      [NVME, { channel: "1" }],
    ] as const) {
      const refused = await bench.acquire(address, { requestId, ...more });
      assert.deepEqual([refused.code, refused.reason, refused.fields], ["INVALID_ARGUMENT", "REQUEST_ID_REUSED", ["request_id"]]);
    }
    channel.drop();
    await bench.release(first.frame.leaseId);
  });

  it("makes one lease of one request id that is sent eight times at once", async () => {
    const { channel } = await RawChannel.attached(daemon.socket);
    const requestId = randomUUID();
    const answers = await Promise.all(upTo(8).map(() => bench.acquire(NVME, { requestId })));
    const ids = new Set(answers.map(({ answer, text }) => answer?.lease?.id ?? text));
    assert.equal(ids.size, 1, [...ids].join());
    const { frame, descriptors } = await channel.offer();
    channel.acknowledge(frame.leaseId, descriptors.length);
    channel.drop();
    assert.equal((await bench.release(frame.leaseId)).code, "OK");
  });

  it("undoes what a caller with a deadline of nothing has asked for and does not collect", async () => {
    for (let round = 0; round < 20; round += 1) {
      const { channel } = await RawChannel.attached(daemon.socket);
      const { code } = await bench.rpc.call(LeaseService, "AcquireLease", acquire({}), round % 4);
      assert.ok(code === "DEADLINE_EXCEEDED" || code === "OK", code);
      channel.close();
      await bench.becomes(NVME, "FREE");
    }
  });

  it("lists leases oldest first, page by page, each once", async () => {
    const ids: string[] = [];
    const { channel } = await RawChannel.attached(daemon.socket);
    for (const address of [VF, NVME, GPU]) ids.push((await bench.held(channel, address)).frame.leaseId);
    const seen: string[] = [];
    let pageToken = "";
    do {
      const page = await bench.rpc.call<ListLeasesResponse__Output>(LeaseService, "ListLeases", { pageSize: 1, pageToken });
      seen.push(...(page.answer?.leases ?? []).map((lease) => lease.id));
      pageToken = page.answer?.nextPageToken ?? "";
    } while (pageToken !== "" && seen.length < 10);
    assert.deepEqual(seen, ids);
    channel.drop();
    for (const id of ids) assert.equal((await bench.release(id)).code, "OK");
  });

  it("refuses the lease beyond limits.leases_per_uid, and not the one at it", async () => {
    const small = await DaemonProcess.start({ config: "[limits]\nleases_per_uid = 2\n" });
    const other = await LeaseBench.at(small);
    const { channel } = await RawChannel.attached(small.socket);
    const first = await other.held(channel, VF);
    await other.held(channel, NVME);
    const { code, reason } = await other.acquire(GPU);
    assert.deepEqual([code, reason], ["RESOURCE_EXHAUSTED", "LEASE_QUOTA"]);
    for (const { descriptors } of [first]) for (const descriptor of descriptors) descriptor.close();
    assert.equal((await other.release(first.frame.leaseId)).code, "OK");
    const again = (await other.acquire(GPU)).answer as AcquireLeaseResponse__Output;
    assert.equal(again.lease?.state, "LEASE_STATE_OFFERED");
    other.close();
    channel.close();
    await small.stop();
  });
});
