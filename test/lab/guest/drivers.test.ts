// The daemon changes drivers on a real kernel: to VFIO and back, a whole IOMMU group, virtual functions, and a device that somebody does not let go of.

import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { existsSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, afterEach, before, describe, it } from "node:test";
import { ApertureError, connect, type DriverStep } from "../../../src/client/index.js";
import { DaemonProcess, socketFolder } from "../../harness/daemon.js";
import { HolderProcess } from "../../harness/holder.js";
import { until } from "../../harness/until.js";
import { edu, groupSpoiler, igb, igbVfs, nvme, southBridge, spoiledEdu } from "../devices.js";
import { folderOf } from "./binding.js";
import { LiveDaemon, reasons } from "./live-daemon.js";
import { attribute, linkName, vfioNode } from "./sysfs.js";
import { world } from "./world.js";

const PATIENT_MS = 60_000;
const SHORT_MS = 2_000;
const ENABLE_SRIOV = "/sys/module/vfio_pci/parameters/enable_sriov";

const driverOf = (address: string): string | null => linkName(address, "driver");
const overrideOf = (address: string): string => (attribute(address, "driver_override") ?? "").replace("(null)", "");

async function refusal(work: Promise<unknown>): Promise<ApertureError> {
  try {
    await work;
  } catch (error) {
    if (error instanceof ApertureError) return error;
    throw error;
  }
  return assert.fail("it was granted");
}

describe("[lab kernel] drivers", () => {
  let live: LiveDaemon;
  before(async () => {
    live = await LiveDaemon.start();
  });
  afterEach(async () => {
    // Of a test that failed: what it held must not fail the next one too.
    await live.holder.say("unmap");
    await live.holder.say("release");
    await live.isAsBefore();
  });
  after(() => live.stop());

  it("a disk goes to vfio-pci, to a client, and back to its own driver, with its node", async () => {
    const { address } = nvme;
    const disk = (): Promise<boolean> =>
      until(
        "/dev/nvme of its own driver",
        () => readdirSync("/dev").some((name) => /^nvme\d+$/.test(name) && existsSync(join(folderOf(address), "nvme", name))),
        (there) => there,
        PATIENT_MS,
      );
    await disk();
    const steps: DriverStep[] = [];
    const bound = await live.observer.bindDriver(address, { onStep: (step) => void steps.push(step) });
    assert.deepEqual(bound, [{ address, driverBefore: "nvme", driver: "vfio-pci", changed: true }]);
    assert.deepEqual([driverOf(address), overrideOf(address)], ["vfio-pci", "vfio-pci"]);
    for (const action of ["UNBINDING", "BINDING", "READING"])
      assert.ok(
        steps.some((step) => step.action === action),
        action,
      );
    assert.deepEqual(
      (await live.observer.bindDriver(address)).map(({ changed }) => changed),
      [false],
    );

    // It can be leased in the moment in which the call returns.
    await live.holder.must(`acquire ${address}`);
    if (world === "iommufd") await live.holder.must(`bind ${address}`);
    await live.holder.must(`map ${address} 0`);
    assert.equal((await refusal(live.observer.restoreDriver(address))).reason, "DEVICE_BUSY");
    await live.holder.must("unmap");
    await live.holder.must("release");
    await live.leasable(address);

    assert.deepEqual(await live.observer.restoreDriver(address), [{ address, driverBefore: "vfio-pci", driver: "nvme", changed: true }]);
    assert.deepEqual([driverOf(address), overrideOf(address)], ["nvme", ""]);
    await disk();
    assert.deepEqual(
      (await live.observer.restoreDriver(address)).map(({ changed }) => changed),
      [false],
    );
  });

  it("a group is refused as a whole with the members named, taken as a whole with consent, leased as one, and given back", async () => {
    const addresses = southBridge.map(({ address }) => address);
    const [lpc = "", sata = "", smbus = ""] = addresses;
    const refused = await refusal(live.observer.bindDriver(sata));
    assert.equal(refused.reason, "GROUP_CONSENT_REQUIRED");
    for (const other of [lpc, smbus]) assert.match(refused.message, new RegExp(`${other} \\(no driver\\)`));
    assert.deepEqual(addresses.map(driverOf), [null, null, null]);
    const bound = await live.observer.bindDriver(sata, { wholeGroup: true });
    assert.deepEqual(bound.map(({ address }) => address).sort(), addresses);
    assert.deepEqual(addresses.map(driverOf), ["vfio-pci", "vfio-pci", "vfio-pci"]);
    for (const address of addresses) await live.leasable(address);
    const { devices } = await live.holder.must(`acquire ${addresses.join(" ")}`);
    assert.equal((devices as readonly unknown[]).length, 3);
    await live.holder.must("release");
    for (const address of addresses) await live.leasable(address);
    await live.observer.restoreDriver(lpc);
    assert.deepEqual(addresses.map(driverOf), [null, null, null]);
    assert.deepEqual(addresses.map(overrideOf), ["", "", ""]);
  });

  it("a member that spoils its group is taken with consent, and the group is then of use", async () => {
    const refused = await refusal(live.observer.bindDriver(spoiledEdu.address));
    assert.deepEqual([refused.reason, refused.message.includes(`${groupSpoiler.address} (nvme)`)], ["GROUP_CONSENT_REQUIRED", true]);
    const bound = await live.observer.bindDriver(spoiledEdu.address, { wholeGroup: true });
    assert.deepEqual(
      bound.map(({ address, changed }) => `${address} ${changed}`),
      [`${spoiledEdu.address} false`, `${groupSpoiler.address} true`],
    );
    await live.leasable(spoiledEdu.address);
    await live.holder.must(`acquire ${spoiledEdu.address}`);
    await live.holder.must("release");
    await live.leasable(spoiledEdu.address);
    // What others had bound stays.
    await live.observer.restoreDriver(groupSpoiler.address);
    assert.deepEqual([driverOf(groupSpoiler.address), driverOf(spoiledEdu.address)], ["nvme", "vfio-pci"]);
  });

  it("a driver that the kernel has not got, or that does not take the device, changes nothing", async () => {
    const { address } = nvme;
    const missing = await refusal(live.observer.bindDriver(address, { driver: "no_such_vfio_pci" }));
    assert.deepEqual([missing.reason, driverOf(address), overrideOf(address)], ["DRIVER_UNAVAILABLE", "nvme", ""]);
    assert.equal((await refusal(live.observer.bindDriver(address, { driver: "igb" }))).reason, "INVALID_FIELD");
    assert.equal((await refusal(live.observer.restoreDriver(edu.address))).reason, "NO_FORMER_DRIVER");
  });

  it("virtual functions come and go with their physical one's consent; two clients, and a reset of one between its clients", async () => {
    const [first, second] = igbVfs.map(({ address }) => address) as [string, string];
    assert.deepEqual(await live.observer.setVirtualFunctions(igb.address, 0, { timeoutMs: PATIENT_MS }), []);
    assert.deepEqual([existsSync(folderOf(first)), existsSync(folderOf(second))], [false, false]);
    assert.deepEqual(await live.observer.setVirtualFunctions(igb.address, 2, { timeoutMs: PATIENT_MS }), [first, second]);
    assert.deepEqual([driverOf(first), driverOf(second)], [null, null]);
    assert.equal((await refusal(live.observer.setVirtualFunctions(igb.address, 1))).reason, "VIRTUAL_FUNCTIONS_EXIST");
    for (const address of [first, second]) await live.observer.bindDriver(address);

    const other = await HolderProcess.start(live.daemon.socket);
    await live.holder.must(`acquire ${first}`);
    await other.must(`acquire ${second}`);
    const held = await refusal(live.observer.setVirtualFunctions(igb.address, 0));
    assert.deepEqual([held.reason, held.message.includes(first), held.message.includes(second)], ["DEVICE_BUSY", true, true]);
    assert.equal((await refusal(live.observer.bindDriver(igb.address))).reason, "VIRTUAL_FUNCTIONS_EXIST");
    await other.must("release");
    await other.kill();

    // The MSI-X table of a function is cleared by its reset and by nothing else.
    if (world === "iommufd") await live.holder.must(`bind ${first}`);
    await live.holder.must(`map ${first} 3`);
    await live.holder.must(`poke ${first} 3 0 0x12345678`);
    assert.equal((await live.holder.must(`peek ${first} 3 0`))["value"], 0x12345678);
    await live.holder.must("unmap");
    await live.holder.must("release");
    await live.leasable(first);
    await live.holder.must(`acquire ${first}`);
    if (world === "iommufd") await live.holder.must(`bind ${first}`);
    await live.holder.must(`map ${first} 3`);
    assert.equal((await live.holder.must(`peek ${first} 3 0`))["value"], 0);
    await live.holder.must("unmap");
    await live.holder.must("release");
    for (const address of [first, second]) await live.leasable(address);
    await live.isAsBefore();
  });

  it("virtual functions of a physical one on VFIO: the kernel asks for the token, and their holder alone is told", async () => {
    const [first, second] = igbVfs.map(({ address }) => address) as [string, string];
    await live.observer.setVirtualFunctions(igb.address, 0, { timeoutMs: PATIENT_MS });
    await live.observer.bindDriver(igb.address);
    assert.equal((await refusal(live.observer.setVirtualFunctions(igb.address, 2))).reason, "DRIVER_CHANGE_FAILED");
    writeFileSync(ENABLE_SRIOV, "1");
    try {
      await live.observer.setVirtualFunctions(igb.address, 2, { timeoutMs: PATIENT_MS });
      for (const address of [first, second]) {
        await live.observer.bindDriver(address);
        await live.leasable(address);
      }
      const { lease, devices } = await live.holder.must(`acquire ${first}`);
      if (world === "iommufd") await bindsWithTokenOnly(first, devices);
      else assert.equal(tokenIn(devices), null);
      await live.holder.must(`map ${first} 0`);

      // Somebody else: the operator, and a client with another lease of no such device.
      const seen = [await live.observer.lease(String(lease))];
      for await (const each of live.observer.leases()) seen.push(each);
      assert.deepEqual(
        seen.map((each) => [each.id, tokenIn(each.devices)]),
        [
          [lease, null],
          [lease, null],
        ],
      );
      await anotherDaemonIsRefused([igb.address, second]);

      await live.holder.must("unmap");
      await live.holder.must("release");
      await live.leasable(first);
      // The token holds for the next one, and for the physical function itself.
      const next = await live.holder.must(`acquire ${first}`);
      if (world === "iommufd") await live.holder.must(`bind ${first}`);
      const owner = await HolderProcess.start(live.daemon.socket);
      const physical = await owner.must(`acquire ${igb.address}`);
      if (world === "iommufd") {
        assert.deepEqual(tokenIn(physical["devices"]), tokenIn(next["devices"]));
        assert.equal((await owner.must(`bind-with ${igb.address} none`))["code"], "EACCES");
        await owner.must(`bind ${igb.address}`);
      }
      await owner.must("release");
      await owner.kill();
      await live.holder.must("release");
      for (const address of [igb.address, first, second]) await live.leasable(address);
      const capability = (await live.observer.hostInfo()).capabilities.find(({ name }) => name === "bind_token");
      assert.equal(capability?.availability, world === "iommufd" ? "AVAILABLE" : "UNAVAILABLE");
      await live.observer.setVirtualFunctions(igb.address, 0, { timeoutMs: PATIENT_MS });
    } finally {
      writeFileSync(ENABLE_SRIOV, "0");
    }
    await live.observer.restoreDriver(igb.address);
    assert.equal(driverOf(igb.address), "igb");
    await live.observer.setVirtualFunctions(igb.address, 2, { timeoutMs: PATIENT_MS });
    for (const vf of igbVfs) {
      await live.observer.bindDriver(vf.address);
      const { devices } = await live.leasable(vf.address).then(() => live.holder.must(`acquire ${vf.address}`));
      assert.equal(tokenIn(devices), null);
      await live.holder.must("release");
      await live.leasable(vf.address);
    }
  });

  it("what a device had before is known to the next daemon too", async () => {
    const { address } = nvme;
    const folder = socketFolder();
    const options = { host: "auto", config: "inventory.rescan_ms = 600000\n[limits]\ndriver_ms = 60000\n" } as const;
    const first = await DaemonProcess.start(options, folder, false);
    const binding = await connect({ socket: first.socket, timeoutMs: PATIENT_MS });
    await binding.bindDriver(address);
    await binding.close();
    await first.stop();
    assert.equal(driverOf(address), "vfio-pci");
    const second = await DaemonProcess.start(options, folder);
    const restoring = await connect({ socket: second.socket, timeoutMs: PATIENT_MS });
    await restoring.restoreDriver(address);
    await restoring.close();
    await second.stop();
    assert.deepEqual([driverOf(address), overrideOf(address)], ["nvme", ""]);
    await live.becomes("with its own driver", address, (device) => device?.driver === "nvme");
  });

  /** The kernel itself refuses BIND without the token and with a wrong one. */
  async function bindsWithTokenOnly(address: string, devices: unknown): Promise<void> {
    const token = tokenIn(devices);
    assert.equal(token?.length, 16);
    for (const wrong of ["none", randomUUID()]) {
      assert.equal((await live.holder.must(`bind-with ${address} ${wrong}`))["code"], "EACCES", wrong);
    }
    await live.holder.must(`bind ${address}`);
  }

  /** A daemon that starts while a virtual function is in use does not know the token, and cannot set another. */
  async function anotherDaemonIsRefused(addresses: readonly string[]): Promise<void> {
    const stranger = await LiveDaemon.start();
    try {
      for (const address of addresses) {
        const seen = await stranger.becomes("read", address, (device) => !["", "DEVICE_NOT_PROBED"].includes(reasons(device)));
        assert.equal(reasons(seen), "VF_TOKEN_REQUIRED", address);
      }
    } finally {
      await stranger.holder.kill();
      await stranger.observer.close();
      await stranger.daemon.stop();
    }
  }

  describe("a device that somebody does not let go of", () => {
    const { address } = nvme;
    before(async () => {
      await live.observer.bindDriver(address);
      await live.setLimit("driver_ms", SHORT_MS);
    });
    after(async () => {
      await live.setLimit("driver_ms", PATIENT_MS);
      await live.observer.restoreDriver(address);
      assert.equal(driverOf(address), "nvme");
    });

    it("is left alone, and the refusal names the process; others are served meanwhile", async () => {
      const node = world === "iommufd" ? `/dev/vfio/devices/${vfioNode(address)}` : `/dev/vfio/${linkName(address, "iommu_group")}`;
      const holder = spawn("sh", ["-c", `exec 3<>${node}; echo open; exec sleep 600`], { stdio: ["ignore", "pipe", "inherit"] });
      try {
        await once(holder.stdout, "data");
        const begin = performance.now();
        const refused = refusal(live.observer.restoreDriver(address));
        await live.becomes("locked", address, (device) => device?.state === "REBINDING");
        await live.holder.must(`acquire ${edu.address}`);
        await live.holder.must("release");
        const { reason, message } = await refused;
        assert.equal(reason, "DRIVER_BUSY");
        assert.match(message, new RegExp(`pid ${holder.pid} \\(sleep, ${node}\\)`));
        assert.match(message, /nothing was changed/);
        assert.ok(performance.now() - begin >= SHORT_MS);
        assert.equal(driverOf(address), "vfio-pci");
      } finally {
        await ended(holder);
      }
      await live.leasable(edu.address);
      await live.leasable(address);
    });

    it("and that nobody sees: the caller is answered, the device stays locked, and goes back when the kernel has finished", async () => {
      // Another daemon's client, of which this one knows nothing, with a mapping alone: no descriptor tells of it.
      const stranger = await LiveDaemon.start();
      try {
        await stranger.leasable(address);
        await stranger.holder.must(`acquire ${address}`);
        if (world === "iommufd") await stranger.holder.must(`bind ${address}`);
        await stranger.holder.must(`map ${address} 0`);
        await stranger.holder.must("drop-descriptors");
        const { reason, message } = await refusal(live.observer.restoreDriver(address));
        assert.equal(reason, "DRIVER_BUSY");
        assert.match(message, /has not finished taking it from vfio-pci after 2 s \(nobody is seen to hold it\)/);
        const stuck = await live.becomes("locked", address, (device) => device?.state === "REBINDING");
        assert.match(stuck?.stateDetail ?? "", /the kernel has not finished/);
        assert.notEqual((await refusal(live.observer.bindDriver(address))).reason, "");
        await live.holder.must(`acquire ${edu.address}`);
        await live.holder.must("release");
        await stranger.holder.must("unmap");
        await live.leasable(address);
        assert.equal(driverOf(address), "vfio-pci");
        await live.daemon.event("driver.settled");
      } finally {
        await stranger.holder.kill();
        await stranger.observer.close();
        await stranger.daemon.stop();
      }
      await live.leasable(edu.address);
    });
  });
});

async function ended(child: ChildProcess): Promise<void> {
  child.kill("SIGKILL");
  if (child.exitCode === null && child.signalCode === null) await once(child, "exit");
}

/** The VF token of the only device that was told; null: none. */
function tokenIn(devices: unknown): readonly number[] | null {
  const [{ vfToken = null } = {}] = JSON.parse(
    JSON.stringify(devices, (_, part: unknown) => (typeof part === "bigint" ? String(part) : part)),
  ) as {
    readonly vfToken?: { readonly data: readonly number[] };
  }[];
  return vfToken?.data ?? null;
}
