// The machine changes under a running daemon. Its clock is switched off (scans and retries every ten minutes), so whatever it finds out here it was told by the kernel.

import assert from "node:assert/strict";
import { closeSync, constants, openSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, afterEach, before, describe, it } from "node:test";
import type { HolderProcess } from "../../harness/holder.js";
import { edu, hotplugPort, igb, igbVfs } from "../devices.js";
import { bind, folderOf, unbind } from "./binding.js";
import { LiveDaemon, reasons } from "./live-daemon.js";
import { notReady } from "./not-ready.js";
import { plugIn, pullOut } from "./outside.js";
import { storms } from "./storm.js";
import { pulledOut } from "./unplug.js";
import { world } from "./world.js";

const PLUGGED = hotplugPort.deviceAddress;

describe("[lab kernel] the machine changes under the daemon", () => {
  let live: LiveDaemon;
  let holder: HolderProcess;
  before(async () => {
    live = await LiveDaemon.start();
    holder = live.holder;
  });
  afterEach(() => live.isAsBefore());
  after(() => live.stop());

  it("says how it will know", async () => {
    const { capabilities } = await live.observer.hostInfo();
    const availability = (name: string): string | undefined => capabilities.find((each) => each.name === name)?.availability;
    assert.equal(availability("uevents"), "AVAILABLE");
    assert.equal(availability("open_count"), world === "iommufd" ? "AVAILABLE" : "UNAVAILABLE");
  });

  it("a device is plugged in, bound, and pulled out while it is free", async () => {
    await plugIn("edu");
    await live.becomes("there without driver", PLUGGED, (device) => device !== null && reasons(device) === "NO_VFIO_DRIVER");
    bind(PLUGGED);
    await live.leasable(PLUGGED);
    await pullOut();
    await live.gone(PLUGGED);
  });

  it("a device is pulled out while it is held: leaving, the daemon answers meanwhile, gone when its holder lets go; plugged in again it is leased again", async () => {
    await plugIn("edu");
    await live.there(PLUGGED);
    bind(PLUGGED);
    await live.leasable(PLUGGED);
    await holder.must(`acquire ${PLUGGED}`);
    if (world === "iommufd") await holder.must(`bind ${PLUGGED}`);
    await holder.must(`map ${PLUGGED} 0`);
    await pullOut();
    await live.leaving(PLUGGED);
    assert.equal((await holder.must(`peek ${PLUGGED} 0 0`))["value"], 0x010000ed);
    await holder.must(`unmap`);
    await holder.say("release");
    await live.gone(PLUGGED);

    await plugIn("edu");
    await live.there(PLUGGED);
    bind(PLUGGED);
    await live.leasable(PLUGGED);
    await holder.must(`acquire ${PLUGGED}`);
    await holder.must("release");
    await live.leasable(PLUGGED);
    await pullOut();
    await live.gone(PLUGGED);
  });

  it("a device whose lease ended is pulled out while somebody has a mapping of it: quarantined, and gone when the mapping is", async () => {
    await plugIn("edu");
    await live.there(PLUGGED);
    bind(PLUGGED);
    await live.leasable(PLUGGED);
    const { lease } = await holder.must(`acquire ${PLUGGED}`);
    await holder.must(`map ${PLUGGED} 0`);
    await holder.must("drop-descriptors");
    await pullOut();
    await live.leaving(PLUGGED);
    // The recall may have ended it already.
    await live.observer.release(String(lease)).catch(() => {});
    await live.becomes("quarantined", PLUGGED, (device) => device?.state === "QUARANTINED");
    await holder.must("unmap");
    await live.gone(PLUGGED);
  });

  it("a driver is taken away behind our back while its device is held", async () => {
    const { address } = edu;
    await holder.must(`acquire ${address}`);
    if (world === "iommufd") await holder.must(`bind ${address}`);
    const { done } = unbind(address);
    const seen = await live.leaving(address);
    assert.equal(seen?.driver, "vfio-pci");
    await holder.say("release");
    await done;
    await live.becomes("without driver", address, (device) => device?.state === "FREE" && reasons(device) !== "DEVICE_LEAVING");
    writeFileSync("/sys/bus/pci/drivers_probe", address);
    await live.leasable(address);
  });

  it("virtual functions go and come", async () => {
    const addresses = igbVfs.map((vf) => vf.address);
    const count = (n: number): void => writeFileSync(join(folderOf(igb.address), "sriov_numvfs"), String(n));
    count(0);
    for (const address of addresses) await live.gone(address);
    await live.becomes("without VFs", igb.address, (device) => device?.virtualFunctions?.addresses.length !== 2);
    count(2);
    for (const address of addresses) {
      await live.there(address);
      bind(address);
    }
    for (const address of addresses) await live.leasable(address);
  });

  if (world === "iommufd") {
    const [{ address }] = igbVfs;

    it("a copy that was never bound is counted: quarantined until it is closed, and free at once", async () => {
      await holder.must(`acquire ${address}`);
      await holder.must(`keep ${address}`);
      assert.deepEqual((await holder.must("release"))["quarantined"], [address]);
      const held = await live.becomes("quarantined", address, (device) => device?.state === "QUARANTINED");
      assert.match(held?.stateDetail ?? "", /one open file .* never bound/);
      await holder.must("drop-kept");
      await live.leasable(address);
    });

    it("an open by somebody else holds a device back until it is closed, and no longer", async () => {
      const [name = ""] = readdirSync(join(folderOf(address), "vfio-dev"));
      await holder.must(`acquire ${address}`);
      const foreign = openSync(join("/dev/vfio/devices", name), constants.O_RDWR);
      try {
        assert.deepEqual((await holder.must("release"))["quarantined"], [address]);
      } finally {
        closeSync(foreign);
      }
      await live.leasable(address);
    });
  }

  describe("a device that", () => pulledOut(() => live));
  describe("a storm of uevents", () => storms(() => live));
  // Last: it takes the driver's own 30 s, and leaves the fake Grace Hopper without a driver in between.
  if (world === "iommufd") describe("a Grace Hopper that is not ready", () => notReady(() => live));
});
