// Leases that reach another process than the one that asked, on VFIO: by a ticket to another user, by succession with the device running, and on a session.

import assert from "node:assert/strict";
import { after, afterEach, before, describe, it } from "node:test";
import { type ApertureClient, connect } from "../../../src/client/index.js";
import { DaemonProcess } from "../../harness/daemon.js";
import { HolderProcess } from "../../harness/holder.js";
import { until } from "../../harness/until.js";
import { edu, igbVfs } from "../devices.js";
import { world } from "./world.js";

const ALICE = 65534;

const CONFIG = `inventory.rescan_ms = 600000
[limits]
ack_ms = 60000
first_call_ms = 60000
retry_min_ms = 600000
retry_max_ms = 600000
[[policy]]
name = "all"
device = "*"
mode = ["hand_off", "retain"]
delegate = true
`;

const hex = (ticket: Uint8Array): string => Buffer.from(ticket).toString("hex");

describe("[lab kernel] delegation and succession on VFIO", () => {
  let daemon: DaemonProcess;
  let observer: ApertureClient;
  let alice: HolderProcess;
  let second: HolderProcess;
  before(async () => {
    daemon = await DaemonProcess.start({ host: "auto", config: CONFIG });
    observer = await connect({ socket: daemon.socket, timeoutMs: 60_000 });
    alice = await HolderProcess.start(daemon.socket, ALICE);
    second = await HolderProcess.start(daemon.socket, ALICE);
    // A channel for each, which the first acquire attaches, whatever becomes of it.
    for (const holder of [alice, second]) await holder.say("acquire 0000:ff:1f.7");
    await observer.hostInfo();
    daemon.rebase();
  });
  afterEach(async () => {
    await observer.hostInfo();
    if (alice.running) await daemon.isAsBefore();
  });
  after(async () => {
    await HolderProcess.killAll();
    await observer.close();
    await daemon.stop();
  });

  const stateOf = async (address: string): Promise<string> => (await observer.device(address)).state;
  const free = (address: string): Promise<string> =>
    until(
      `${address} free`,
      () => stateOf(address),
      (state) => state === "FREE",
      60_000,
    );

  it("a ticket from root gives edu to uid 65534, who drives it; released, it is proven free", async () => {
    const { lease, ticket } = await observer.reserve({ kind: "device", addresses: [edu.address] }, { uid: ALICE });
    assert.deepEqual([lease.state, await stateOf(edu.address)], ["RESERVED", "RESERVED"]);
    // Nothing is open for it.
    await daemon.isAsBefore();
    const shown = await alice.must(`show ${hex(ticket)}`);
    assert.deepEqual([shown["lease"], shown["succeeded"]], [lease.id, false]);
    const kinds = (shown["descriptors"] as { kind: string }[]).map((descriptor) => descriptor.kind);
    assert.deepEqual(kinds, world === "iommufd" ? ["IOMMUFD", "DEVICE_UNBOUND"] : ["CONTAINER", "GROUP", "DEVICE"]);
    const held = await observer.lease(lease.id);
    assert.deepEqual([held.holderPid, held.holderUid, held.ownerUid], [alice.pid, ALICE, 0]);
    await alice.must(`map ${edu.address} 0`);
    assert.equal((await alice.must(`peek ${edu.address} 0 0`))["value"], 0x010000ed);
    assert.deepEqual(await alice.must("release"), { ok: true, state: "ENDED", endCause: "RELEASED", quarantined: [] });
    assert.equal(await stateOf(edu.address), "FREE");
  });

  it("a session's lease on VFIO ends with its stream, and is proven free", async () => {
    const { lease } = await alice.must(`session ${edu.address}`);
    await alice.must(`map ${edu.address} 0`);
    assert.equal((await alice.must(`peek ${edu.address} 0 0`))["value"], 0x010000ed);
    await alice.must("unmap");
    await alice.must("drop-descriptors");
    await alice.must("end-session");
    assert.deepEqual(await alice.must("ended"), { ok: true, cause: "SESSION_ENDED" });
    await free(edu.address);
    assert.deepEqual((await observer.lease(String(lease))).quarantined, []);
  });

  it("two functions in one lease pass together, with one IOMMU context", async () => {
    const addresses = igbVfs.slice(0, 2).map(({ address }) => address);
    const retained = await alice.must(`retain ${addresses.join(" ")}`);
    const count = (retained["descriptors"] as unknown[]).length;
    for (const address of addresses) await alice.must(`bind ${address}`);
    const { ticket } = await alice.must("successor");
    const shown = await second.must(`show ${String(ticket)}`);
    assert.deepEqual([(shown["descriptors"] as unknown[]).length, shown["succeeded"]], [count, true]);
    assert.deepEqual(await alice.must("ended"), { ok: true, cause: "SUCCEEDED" });
    await alice.must("drop-descriptors");
    for (const address of addresses) {
      assert.equal(await stateOf(address), "HELD");
      // The driver answers on the successor's descriptor, which the process before has bound.
      assert.ok(Number((await second.must(`info ${address} 0`))["size"]) > 0);
    }
    assert.deepEqual((await second.must("release"))["quarantined"], []);
    for (const address of addresses) await free(address);
  });

  it("a successor goes on with edu as it is: the old process exits, the registers stay, the release proves free", async () => {
    const { lease } = await alice.must(`retain ${edu.address}`);
    await alice.must(`map ${edu.address} 0`);
    await alice.must(`poke ${edu.address} 0 4 0x12345678`);
    const { ticket } = await alice.must("successor");
    // It exits before the successor is there: the ticket keeps the lease.
    await alice.exit();
    assert.equal(await stateOf(edu.address), "HELD");
    assert.equal((await second.must(`show ${String(ticket)}`))["lease"], lease);
    await second.must(`map ${edu.address} 0`);
    assert.equal((await second.must(`peek ${edu.address} 0 4`))["value"], 0xedcba987);
    assert.equal((await observer.lease(String(lease))).holderPid, second.pid);
    assert.deepEqual((await second.must("release"))["quarantined"], []);
    assert.equal(await stateOf(edu.address), "FREE");
  });
});
