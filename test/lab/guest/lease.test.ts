// The main job on a real kernel: the daemon owns VFIO devices, processes of other users ask it over gRPC, receive descriptors and use them. The client's side is
// test/lab/clients: holder.ts with our library, plain.py with none of our code.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { after, afterEach, before, describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { type ApertureClient, connect, type Device } from "../../../src/client/index.js";
import { DaemonProcess } from "../../harness/daemon.js";
import { HolderProcess } from "../../harness/holder.js";
import { until } from "../../harness/until.js";
import { edu, graceHopper, groupSpoiler, igbVfs, ivshmem, nvme, southBridge, spoiledEdu, testdev } from "../devices.js";
import { world } from "./world.js";

const ALICE = 65534;
const BOB = 65533;
/** May have what weakens isolation: descriptors of a whole device for a region, devices that cannot be reset. */
const TRUSTED = 65532;

// Emulated processors are slow: a Node client takes longer than 2 s from the offer to its acknowledgement when the guest is busy.
const CONFIG = `inventory.rescan_ms = 600000
[limits]
ack_ms = 60000
first_call_ms = 60000
retry_min_ms = 600000
retry_max_ms = 600000
[[policy]]
name = "trusted"
uid = [${TRUSTED}, 0]
device = "*"
allow_device_scope = true
allow_unreset = true
[[policy]]
name = "tenants"
uid = [${ALICE}, ${BOB}]
device = "*"
`;

/** Clients that live through the whole file, because starting Node takes ten seconds here. One that a test has ended is started anew for the next. */
class People {
  readonly #socket: string;
  readonly #uids = { alice: ALICE, bob: BOB, trusted: TRUSTED, other: TRUSTED } as const;
  readonly #running = new Map<string, HolderProcess>();

  constructor(socket: string) {
    this.#socket = socket;
  }

  get(name: "alice" | "bob" | "trusted" | "other"): HolderProcess {
    const holder = this.#running.get(name);
    if (!holder) throw new Error(`${name} is not there`);
    return holder;
  }

  /** Starts who is missing, each with its channel attached, which the first acquire does, whatever becomes of it. */
  async complete(): Promise<void> {
    // One after the other: at once they would only share the guest's one processor, and each take four times as long.
    for (const [name, uid] of Object.entries(this.#uids)) {
      if (this.#running.get(name)?.running === true) continue;
      const holder = await HolderProcess.start(this.#socket, uid);
      assert.equal((await holder.say("acquire 0000:ff:1f.7"))["reason"], "DEVICE_NOT_FOUND");
      this.#running.set(name, holder);
    }
  }
}

interface InfoAnswer {
  readonly size: string;
  readonly offset: string;
  readonly flags: number;
}

describe("[lab kernel] leases on VFIO", () => {
  let daemon: DaemonProcess;
  let observer: ApertureClient;
  let people: People;
  before(async () => {
    daemon = await DaemonProcess.start({ host: "auto", config: CONFIG });
    observer = await connect({ socket: daemon.socket, timeoutMs: 60_000 });
    people = new People(daemon.socket);
    await people.complete();
    await observer.hostInfo();
    daemon.rebase();
  });
  afterEach(async () => {
    await people.complete();
    // In a guest this slow the daemon may have taken a starved client for dead (keepalive); the next call connects again.
    await observer.hostInfo();
    await daemon.isAsBefore();
  });
  after(async () => {
    await HolderProcess.killAll();
    await observer.close();
    await daemon.stop();
  });

  const free = (address: string): Promise<Device> =>
    until(
      `${address} free`,
      () => observer.device(address),
      (device) => device.state === "FREE",
      60_000,
    );

  it("runs on the back end of this kernel", async () => {
    const info = await observer.hostInfo();
    assert.equal(info.backend, world === "iommufd" ? "IOMMUFD" : "LEGACY");
    assert.equal(info.simulated, false);
  });

  it("lists what cannot be leased with the reason, and what can without one", async () => {
    const reasons = async (address: string): Promise<readonly string[]> =>
      (await observer.device(address)).ineligibleReasons.map((each) => each.reason);
    for (const device of [edu, testdev, ivshmem, graceHopper, ...igbVfs])
      assert.deepEqual(await reasons(device.address), [], device.address);
    assert.deepEqual(await reasons(nvme.address), ["NO_VFIO_DRIVER"]);
    assert.match((await observer.device(nvme.address)).ineligibleReasons[0]?.message ?? "", /bound to nvme/);
    assert.deepEqual(await reasons(spoiledEdu.address), ["GROUP_NOT_VIABLE"]);
    assert.match(
      (await observer.device(spoiledEdu.address)).ineligibleReasons[0]?.message ?? "",
      new RegExp(`${groupSpoiler.address} \\(nvme\\)`),
    );
    for (const { address } of southBridge) {
      assert.deepEqual(await reasons(address), ["NO_VFIO_DRIVER"]);
      assert.deepEqual(
        (await observer.device(address)).iommuGroup?.members.map((member) => member.address),
        southBridge.map((each) => each.address),
      );
    }
  });

  it("hands edu to another user, who binds it, is told by the driver what the broker told, and drives its registers", async () => {
    const alice = people.get("alice");
    const lease = await alice.must(`acquire ${edu.address}`);
    const kinds = (lease["descriptors"] as { kind: string }[]).map((descriptor) => descriptor.kind);
    assert.deepEqual(kinds, world === "iommufd" ? ["IOMMUFD", "DEVICE_UNBOUND"] : ["CONTAINER", "GROUP", "DEVICE"]);
    if (world === "iommufd") await alice.must(`bind ${edu.address}`);
    const told = (await observer.device(edu.address)).regions;
    assert.ok(told.length >= 2);
    for (const region of told) {
      const driver = (await alice.must(`info ${edu.address} ${region.index}`)) as unknown as InfoAnswer;
      assert.deepEqual([driver.size, driver.offset], [String(region.size), String(region.offset)], `region ${region.index}`);
    }
    await alice.must(`map ${edu.address} 0`);
    // QEMU's edu: an identification at 0, and a register at 4 that reads the inverse of what was written.
    assert.equal((await alice.must(`peek ${edu.address} 0 0`))["value"], 0x010000ed);
    await alice.must(`poke ${edu.address} 0 4 0x12345678`);
    assert.equal((await alice.must(`peek ${edu.address} 0 4`))["value"], 0xedcba987);
    assert.equal((await alice.must(`read ${edu.address} 0 0 4`))["hex"], "ed000001");
    const released = await alice.must("release");
    assert.deepEqual([released["state"], released["quarantined"]], ["ENDED", []]);
    assert.equal((await observer.device(edu.address)).state, "FREE");
  });

  it("hands edu to a client with no code of ours", async () => {
    const client = fileURLToPath(new URL("../../../../test/lab/clients/plain.py", import.meta.url));
    const { stdout } = await promisify(execFile)("/usr/bin/python3", [client, daemon.socket, edu.address], {
      uid: ALICE,
      gid: ALICE,
      timeout: 300_000,
    });
    const seen = JSON.parse(stdout) as { regions: Record<string, { size: number; offset: number; word: number | null }> };
    assert.equal(seen.regions["0"]?.size, 1 << 20);
    assert.equal(seen.regions["0"]?.word, 0x010000ed);
    for (const region of (await observer.device(edu.address)).regions) {
      assert.deepEqual(
        [BigInt(seen.regions[region.index]?.size ?? -1), BigInt(seen.regions[region.index]?.offset ?? -1)],
        [region.size, region.offset],
      );
    }
    await free(edu.address);
  });

  it("shows a padded aperture as the driver does, and its client the same memory by mapping and by read", {
    skip: world !== "iommufd" && "Debian's kernel has no nvgrace driver",
  }, async () => {
    const gpu = await observer.device(graceHopper.address);
    const region = (index: number): object => {
      const found = gpu.regions.find((each) => each.index === index);
      return {
        size: found?.size,
        backed: found?.backedSize,
        type: found?.memoryType,
        bar: found?.bar,
        is64bit: found?.is64bit,
        prefetchable: found?.prefetchable,
      };
    };
    assert.deepEqual(region(2), {
      size: 0x80000000n,
      backed: 0x50000000n,
      type: "WRITE_COMBINE",
      bar: 2,
      is64bit: true,
      prefetchable: true,
    });
    assert.deepEqual(region(4), { size: 0x40000000n, backed: 0x20000000n, type: "WRITE_BACK", bar: 4, is64bit: true, prefetchable: true });
    const { address } = graceHopper;
    const alice = people.get("alice");
    await alice.must(`acquire ${address}`);
    for (const [index, backed] of [
      [2, 0x50000000],
      [4, 0x20000000],
    ] as const) {
      await alice.must(`map ${address} ${index}`);
      const last = backed - 4;
      await alice.must(`poke ${address} ${index} ${last} ${0xc0ffee00 + index}`);
      assert.equal((await alice.must(`read ${address} ${index} ${last} 4`))["hex"], `0${index}eeffc0`, "pread at the last backed bytes");
      await alice.must(`write ${address} ${index} ${last} 0${index}000001`);
      assert.equal((await alice.must(`peek ${address} ${index} ${last}`))["value"], 0x01000000 + index, "the mapping after pwrite");
      assert.equal((await alice.must(`read ${address} ${index} ${backed} 8`))["hex"], "ffffffffffffffff", "the tail");
      assert.equal((await alice.must(`read ${address} ${index} ${last} 8`))["hex"], `0${index}000001ffffffff`, "across the end");
      assert.equal((await alice.must(`peek ${address} ${index} ${backed}`))["value"], 0xffffffff, "the tail by mapping");
      await alice.must(`write ${address} ${index} ${backed} 00000000`);
      assert.equal((await alice.must(`read ${address} ${index} ${backed} 4`))["hex"], "ffffffff", "a write to the tail is dropped");
    }
    await alice.must("release");
    await free(address);
  });

  it("takes two virtual functions in one lease: all or none, one IOMMU context", async () => {
    const [one, two] = igbVfs.map((vf) => vf.address);
    const alice = people.get("alice");
    const bob = people.get("bob");
    await bob.must(`acquire ${two}`);
    assert.equal((await alice.say(`acquire ${one} ${two}`))["reason"], "DEVICE_BUSY");
    assert.equal((await observer.device(one ?? "")).state, "FREE");
    await bob.must("release");
    const lease = await alice.must(`acquire ${one} ${two}`);
    const kinds = (lease["descriptors"] as { kind: string }[]).map((descriptor) => descriptor.kind);
    assert.deepEqual(
      kinds,
      world === "iommufd" ? ["IOMMUFD", "DEVICE_UNBOUND", "DEVICE_UNBOUND"] : ["CONTAINER", "GROUP", "GROUP", "DEVICE", "DEVICE"],
    );
    for (const address of [one, two]) {
      await alice.must(`map ${address} 0`);
      await alice.must(`peek ${address} 0 8`);
    }
    assert.deepEqual((await alice.must("release"))["quarantined"], []);
  });

  it("gives a killed client's device to another user, reset", async () => {
    const [{ address }] = igbVfs;
    const alice = people.get("alice");
    await alice.must(`acquire ${address}`);
    await alice.must(`map ${address} 0`);
    await alice.kill();
    await free(address);
    const bob = people.get("bob");
    await bob.must(`acquire ${address}`);
    await bob.must(`map ${address} 0`);
    await bob.must("release");
  });

  it("keeps a device of which a client has only a mapping in quarantine until that client exits", async () => {
    const [{ address }] = igbVfs;
    const alice = people.get("alice");
    const { lease } = await alice.must(`acquire ${address}`);
    await alice.must(`map ${address} 0`);
    await alice.must("drop-descriptors");
    const ended = await observer.release(String(lease));
    assert.deepEqual(ended.quarantined, [address]);
    assert.equal((await observer.device(address)).state, "QUARANTINED");
    const bob = people.get("bob");
    assert.equal((await bob.say(`acquire ${address}`))["reason"], "DEVICE_QUARANTINED");
    // The next try by the clock would be in ten minutes: it comes free by the exit.
    await alice.exit();
    await free(address);
    await bob.must(`acquire ${address}`);
    await bob.must("release");
  });

  it("does not give a device without reset to another user, unless policy says so", async () => {
    const { address } = ivshmem;
    const alice = people.get("alice");
    await alice.must(`acquire ${address}`);
    await alice.must(`map ${address} 2`);
    await alice.must(`poke ${address} 2 0 0x5ec2e7`);
    await alice.must("release");
    const bob = people.get("bob");
    assert.equal((await bob.say(`acquire ${address}`))["reason"], "RESET_UNAVAILABLE");
    const trusted = people.get("trusted");
    await trusted.must(`acquire ${address}`);
    await trusted.must(`map ${address} 2`);
    // What the rule is for: the word of the tenant before is still there.
    assert.equal((await trusted.must(`peek ${address} 2 0`))["value"], 0x5ec2e7);
    await trusted.must("release");
  });

  it("leases regions with the scope that the kernel can give, and says which", async () => {
    const { address } = ivshmem;
    const bob = people.get("bob");
    assert.equal((await bob.say(`acquire-regions ${testdev.address} 2`))["reason"], "REGION_SCOPE_UNAVAILABLE");
    const trusted = people.get("trusted");
    const lease = await trusted.must(`acquire-regions ${address} 2`);
    const [descriptor] = lease["descriptors"] as { kind: string; scope: string }[];
    assert.deepEqual([descriptor?.kind, descriptor?.scope], ["DEVICE", "DEVICE"]);
    await trusted.must(`map ${address} 2`);
    await trusted.must(`poke ${address} 2 4096 77`);
    assert.equal((await trusted.must(`peek ${address} 2 4096`))["value"], 77);
    assert.deepEqual((await trusted.must("release"))["quarantined"], []);
  });

  // The rounds are the broker's, not the kernel's: all of them where the guest has less else to do.
  const ROUNDS = world === "legacy" ? 200 : 40;
  it(`lets exactly one of two clients at once win, ${ROUNDS} times`, async () => {
    const clients = [people.get("trusted"), people.get("other")] as const;
    for (let round = 0; round < ROUNDS; round += 1) {
      const answers = await Promise.all(clients.map((client) => client.say(`acquire ${edu.address}`)));
      const lost = answers.filter((answer) => !answer.ok).map((answer) => answer["reason"]);
      assert.deepEqual(lost, ["DEVICE_BUSY"], `round ${round}`);
      await clients[answers.findIndex((answer) => answer.ok)]?.must("release");
    }
  });
});
