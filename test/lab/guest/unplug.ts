// A device is pulled out at the worst moments: while it is reset, and while its holder does not want to let go.

import assert from "node:assert/strict";
import { afterEach, before, it } from "node:test";
import type { HolderProcess } from "../../harness/holder.js";
import { heldResetPort, hotplugPort } from "../devices.js";
import { bind } from "./binding.js";
import { ejectIsWaiting, heldResetWhere, holdNextReset, letResetsPass } from "./held-reset.js";
import type { LiveDaemon, Told } from "./live-daemon.js";
import { plugIn, pullOut } from "./outside.js";
import { world } from "./world.js";

const SLOW = heldResetPort.deviceAddress;
const PLUGGED = hotplugPort.deviceAddress;
/** edu's register 0: what it is. */
const EDU_ID = 0x010000ed;

/** Tests of a device that is pulled out, inside the suite that starts the daemon. */
export function pulledOut(daemon: () => LiveDaemon): void {
  let live: LiveDaemon;
  let holder: HolderProcess;
  let told: Told | null = null;
  before(() => {
    live = daemon();
    holder = live.holder;
  });
  afterEach(async () => {
    letResetsPass();
    await told?.end();
    told = null;
    await live.isAsBefore();
  });

  async function leased(address: string): Promise<string> {
    bind(address);
    await live.leasable(address);
    const { lease } = await holder.must(`acquire ${address}`);
    return String(lease);
  }

  async function isLeasedAgain(): Promise<void> {
    await plugIn("edu", {}, heldResetPort);
    await live.there(SLOW);
    await leased(SLOW);
    assert.deepEqual((await holder.must("release"))["quarantined"], []);
    await live.leasable(SLOW);
    await pullOut(heldResetPort);
    await live.gone(SLOW);
  }

  const stateIs = async (state: string): Promise<boolean> => (await live.find(SLOW))?.state === state;

  it("is pulled out while it is RESETTING, which is held until the kernel waits for it: free when the reset is over, then gone; plugged in again it is leased again", async (t) => {
    await plugIn("edu", {}, heldResetPort);
    await live.there(SLOW);
    await leased(SLOW);
    told = await live.watch(SLOW);
    holdNextReset();
    const released = holder.must("release");
    await heldResetWhere("the daemon says RESETTING", () => stateIs("RESETTING"));
    await pullOut(heldResetPort);
    await ejectIsWaiting();
    // The device's lock is held, by the reset, and the daemon answers and looks at the whole machine all the same.
    await live.observer.rescan();
    assert.ok(await stateIs("RESETTING"), "the reset was over before the kernel wanted the device");
    assert.equal(told.events.at(-1)?.split(" ")[1], "RESETTING");
    letResetsPass();
    assert.deepEqual((await released)["quarantined"], []);
    await live.gone(SLOW);
    t.diagnostic(told.events.join(", "));
    await isLeasedAgain();
  });

  it("is pulled out before its reset begins, while the daemon proves it free: in quarantine until its driver has let go, then gone", async (t) => {
    await plugIn("edu", {}, heldResetPort);
    await live.there(SLOW);
    await leased(SLOW);
    told = await live.watch(SLOW);
    holdNextReset();
    const released = holder.must("release");
    await heldResetWhere("the daemon says RELEASING", () => stateIs("RELEASING"));
    await pullOut(heldResetPort);
    await ejectIsWaiting();
    assert.ok(await stateIs("RELEASING"));
    letResetsPass();
    await released;
    await live.gone(SLOW);
    const quarantined = await live.daemon.event("device.quarantined", 60_000, ({ fields }) => fields["pci_address"] === SLOW);
    const why = String(quarantined.fields["why"]);
    // With a cdev the removal is met by the reset; opening a group looks at the driver again, and finds it leaving.
    assert.match(why, world === "iommufd" ? /^its reset failed: .*EAGAIN \(11\), asked 4 times$/ : /is being unbound from vfio-pci/);
    t.diagnostic(told.events.join(", "));
    await isLeasedAgain();
  });

  it("is pulled out while it is held by one who lets go when asked: nothing is quarantined, and the device is gone", async () => {
    await plugIn("edu");
    await live.there(PLUGGED);
    const lease = await leased(PLUGGED);
    if (world === "iommufd") await holder.must(`bind ${PLUGGED}`);
    await holder.must(`map ${PLUGGED} 0`);
    await pullOut();
    assert.equal((await holder.must("recalled"))["cause"], "DEVICE_REMOVED");
    assert.equal((await live.find(PLUGGED))?.state, "HELD");
    assert.equal((await holder.must(`peek ${PLUGGED} 0 0`))["value"], EDU_ID);
    await holder.must("unmap");
    const released = await holder.must("release");
    assert.deepEqual(released["quarantined"], []);
    // The kernel takes the device when its last descriptor is closed, and the daemon can see that before the call that says so.
    assert.match(String(released["endCause"]), /^(RELEASED|DEVICE_REMOVED)$/);
    await live.gone(PLUGGED);
    assert.equal((await live.observer.lease(lease)).endCause, released["endCause"]);
  });

  it("is pulled out while it is held by one who was asked and uses it on: after the grace the lease is over and the device in quarantine, and gone when he lets go", async (t) => {
    await live.setGrace(1000);
    await plugIn("edu");
    await live.there(PLUGGED);
    const lease = await leased(PLUGGED);
    if (world === "iommufd") await holder.must(`bind ${PLUGGED}`);
    await holder.must(`map ${PLUGGED} 0`);
    told = await live.watch(PLUGGED);
    await pullOut();
    assert.equal((await holder.must("recalled"))["cause"], "DEVICE_REMOVED");
    assert.equal((await holder.must(`peek ${PLUGGED} 0 0`))["value"], EDU_ID);
    assert.equal((await holder.must("ended"))["cause"], "DEVICE_REMOVED");
    await live.becomes("quarantined", PLUGGED, (device) => device?.state === "QUARANTINED");
    const ended = await live.observer.lease(lease);
    assert.deepEqual([ended.state, ended.endCause, ended.quarantined], ["ENDED", "DEVICE_REMOVED", [PLUGGED]]);
    // Nobody can take a mapping back, and nothing pretends to.
    assert.equal((await holder.must(`peek ${PLUGGED} 0 0`))["value"], EDU_ID);
    await holder.must("drop-descriptors");
    assert.equal((await holder.must(`peek ${PLUGGED} 0 0`))["value"], EDU_ID);
    assert.equal((await live.find(PLUGGED))?.state, "QUARANTINED");
    await holder.must("unmap");
    await live.gone(PLUGGED);
    t.diagnostic(told.events.join(", "));
  });
}
