// The machine changes under a running daemon. Its clock is switched off (scans and retries every ten minutes), so whatever it finds out here it was told by the kernel.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, constants, existsSync, openSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, afterEach, before, describe, it } from "node:test";
import { type ApertureClient, ApertureError, connect, type Device } from "../../../src/client/index.js";
import { DaemonProcess } from "../../harness/daemon.js";
import { HolderProcess } from "../../harness/holder.js";
import { until } from "../../harness/until.js";
import { edu, hotplugPort, igb, igbVfs } from "../devices.js";
import { plugIn, pullOut } from "./outside.js";
import { world } from "./world.js";

const PLUGGED = hotplugPort.deviceAddress;
const PATIENCE_MS = 60_000;

const CONFIG = `inventory.rescan_ms = 600000
[limits]
ack_ms = 60000
first_call_ms = 60000
retry_min_ms = 600000
retry_max_ms = 600000
[[policy]]
name = "root"
uid = [0]
device = "*"
allow_unreset = true
`;

const folder = (address: string): string => join("/sys/bus/pci/devices", address);

function bind(address: string): void {
  writeFileSync(join(folder(address), "driver_override"), "vfio-pci");
  if (existsSync(join(folder(address), "driver"))) writeFileSync(join(folder(address), "driver/unbind"), address);
  writeFileSync("/sys/bus/pci/drivers_probe", address);
}

/** Unbinds in a process of its own: the write returns when the last holder has let go. */
function unbind(address: string): { readonly done: Promise<unknown> } {
  const child = spawn("sh", ["-c", `echo ${address} >${folder(address)}/driver/unbind`], { stdio: "ignore" });
  return { done: once(child, "exit") };
}

describe("[lab kernel] the machine changes under the daemon", () => {
  let daemon: DaemonProcess;
  let observer: ApertureClient;
  let holder: HolderProcess;
  before(async () => {
    daemon = await DaemonProcess.start({ host: "auto", config: CONFIG });
    observer = await connect({ socket: daemon.socket, timeoutMs: 60_000 });
    holder = await HolderProcess.start(daemon.socket);
    assert.equal((await holder.say("acquire 0000:ff:1f.7"))["reason"], "DEVICE_NOT_FOUND");
    await observer.hostInfo();
    daemon.rebase();
  });
  afterEach(async () => {
    await observer.hostInfo();
    await daemon.isAsBefore();
  });
  after(async () => {
    await HolderProcess.killAll();
    await observer.close();
    await daemon.stop();
  });

  const reasons = (device: Device): string => device.ineligibleReasons.map((each) => each.reason).join(" ");
  const find = async (address: string): Promise<Device | null> => {
    try {
      return await observer.device(address);
    } catch (error) {
      if (error instanceof ApertureError && error.reason === "DEVICE_NOT_FOUND") return null;
      throw error;
    }
  };
  const becomes = (what: string, address: string, holds: (device: Device | null) => boolean): Promise<Device | null> =>
    until(`${address} ${what}`, () => find(address), holds, PATIENCE_MS);
  const leasable = (address: string): Promise<Device | null> =>
    becomes("leasable", address, (device) => device !== null && device.state === "FREE" && reasons(device) === "");
  const gone = (address: string): Promise<Device | null> => becomes("gone", address, (device) => device === null);
  const leaving = (address: string): Promise<Device | null> =>
    becomes("leaving", address, (device) => device !== null && reasons(device) === "DEVICE_LEAVING");

  it("says how it will know", async () => {
    const { capabilities } = await observer.hostInfo();
    const availability = (name: string): string | undefined => capabilities.find((each) => each.name === name)?.availability;
    assert.equal(availability("uevents"), "AVAILABLE");
    assert.equal(availability("open_count"), world === "iommufd" ? "AVAILABLE" : "UNAVAILABLE");
  });

  it("a device is plugged in, bound, and pulled out while it is free", async () => {
    await plugIn("edu");
    await becomes("there without driver", PLUGGED, (device) => device !== null && reasons(device) === "NO_VFIO_DRIVER");
    bind(PLUGGED);
    await leasable(PLUGGED);
    await pullOut();
    await gone(PLUGGED);
  });

  it("a device is pulled out while it is held: leaving, the daemon answers meanwhile, gone when its holder lets go; plugged in again it is leased again", async () => {
    await plugIn("edu");
    await becomes("there", PLUGGED, (device) => device !== null);
    bind(PLUGGED);
    await leasable(PLUGGED);
    await holder.must(`acquire ${PLUGGED}`);
    if (world === "iommufd") await holder.must(`bind ${PLUGGED}`);
    await holder.must(`map ${PLUGGED} 0`);
    await pullOut();
    await leaving(PLUGGED);
    assert.equal((await holder.must(`peek ${PLUGGED} 0 0`))["value"], 0x010000ed);
    await holder.must(`unmap`);
    await holder.say("release");
    await gone(PLUGGED);

    await plugIn("edu");
    await becomes("there again", PLUGGED, (device) => device !== null);
    bind(PLUGGED);
    await leasable(PLUGGED);
    await holder.must(`acquire ${PLUGGED}`);
    await holder.must("release");
    await leasable(PLUGGED);
    await pullOut();
    await gone(PLUGGED);
  });

  it("a device whose lease ended is pulled out while somebody has a mapping of it: quarantined, and gone when the mapping is", async () => {
    await plugIn("edu");
    await becomes("there", PLUGGED, (device) => device !== null);
    bind(PLUGGED);
    await leasable(PLUGGED);
    const { lease } = await holder.must(`acquire ${PLUGGED}`);
    await holder.must(`map ${PLUGGED} 0`);
    await holder.must("drop-descriptors");
    await pullOut();
    await leaving(PLUGGED);
    // The recall may have ended it already.
    await observer.release(String(lease)).catch(() => {});
    await becomes("quarantined", PLUGGED, (device) => device?.state === "QUARANTINED");
    await holder.must("unmap");
    await gone(PLUGGED);
  });

  it("a device is pulled out while it is leased, proven and reset again and again", async (t) => {
    await plugIn("nvme", { serial: "lab2" });
    await becomes("there", PLUGGED, (device) => device !== null);
    bind(PLUGGED);
    await leasable(PLUGGED);
    // One whole round first, then the button: the kernel takes the device somewhere in the rounds that follow.
    let rounds = 0;
    let pulled: Promise<void> | null = null;
    const refusals: unknown[] = [];
    for (;;) {
      if (rounds === 1) pulled ??= pullOut();
      const acquired = await holder.say(`acquire ${PLUGGED}`);
      if (!acquired.ok) {
        if (acquired["reason"] === "DEVICE_NOT_FOUND") break;
        assert.match(String(acquired["reason"]), /^(DEVICE_|NO_VFIO_DRIVER|HOST_OPERATION_FAILED)/, JSON.stringify(acquired));
        assert.ok(rounds > 0, JSON.stringify(acquired));
        refusals.push(acquired["reason"]);
        continue;
      }
      rounds += 1;
      await holder.say("release");
    }
    await pulled;
    await gone(PLUGGED);
    t.diagnostic(`${rounds} rounds; refused on the way: ${[...new Set(refusals)].join(", ") || "none"}`);
  });

  it("a driver is taken away behind our back while its device is held", async () => {
    const { address } = edu;
    await holder.must(`acquire ${address}`);
    if (world === "iommufd") await holder.must(`bind ${address}`);
    const { done } = unbind(address);
    const seen = await leaving(address);
    assert.equal(seen?.driver, "vfio-pci");
    await holder.say("release");
    await done;
    await becomes("without driver", address, (device) => device?.state === "FREE" && reasons(device) !== "DEVICE_LEAVING");
    writeFileSync("/sys/bus/pci/drivers_probe", address);
    await leasable(address);
  });

  it("virtual functions go and come", async () => {
    const addresses = igbVfs.map((vf) => vf.address);
    const count = (n: number): void => writeFileSync(join(folder(igb.address), "sriov_numvfs"), String(n));
    count(0);
    for (const address of addresses) await gone(address);
    await becomes("without VFs", igb.address, (device) => device?.virtualFunctions?.addresses.length !== 2);
    count(2);
    for (const address of addresses) {
      await becomes("there", address, (device) => device !== null);
      bind(address);
    }
    for (const address of addresses) await leasable(address);
  });

  if (world === "iommufd") {
    const [{ address }] = igbVfs;

    it("a copy that was never bound is counted: quarantined until it is closed, and free at once", async () => {
      await holder.must(`acquire ${address}`);
      await holder.must(`keep ${address}`);
      assert.deepEqual((await holder.must("release"))["quarantined"], [address]);
      const held = await becomes("quarantined", address, (device) => device?.state === "QUARANTINED");
      assert.match(held?.stateDetail ?? "", /one open file .* never bound/);
      await holder.must("drop-kept");
      await leasable(address);
    });

    it("an open by somebody else holds a device back until it is closed, and no longer", async () => {
      const [name = ""] = readdirSync(join(folder(address), "vfio-dev"));
      await holder.must(`acquire ${address}`);
      const foreign = openSync(join("/dev/vfio/devices", name), constants.O_RDWR);
      try {
        assert.deepEqual((await holder.must("release"))["quarantined"], [address]);
      } finally {
        closeSync(foreign);
      }
      await leasable(address);
    });
  }
});
