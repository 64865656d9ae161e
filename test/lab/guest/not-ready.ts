// A Grace Hopper whose link or memory is not ready: its driver's probe polls for 30 s and gives up. The daemon must say so, and must not stand still meanwhile:
// all that time the kernel holds the device's lock. Takes those 30 s, so it comes last.

import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, it } from "node:test";
import type { DeviceFacts } from "../../../src/broker/device.js";
import { ineligibleReasons } from "../../../src/broker/eligibility.js";
import { IommufdHost } from "../../../src/host/iommufd-host.js";
import { openDescriptors } from "../../contract/client-side.js";
import { BARE_PROBE } from "../../fakes/facts.js";
import { edu, graceHopper } from "../devices.js";
import type { LiveDaemon, Told } from "./live-daemon.js";
import { linkName } from "./sysfs.js";

const folder = join("/sys/bus/pci/devices", graceHopper.address);

/** One of the two words that the driver polls. */
function setLinkWord(value: number): void {
  const [bar0 = ""] = readFileSync(join(folder, "resource"), "utf8").split(" ");
  const at = `0x${(BigInt(bar0) + 0x1498n).toString(16)}`;
  writeFileSync(join(folder, "enable"), "1");
  execFileSync("busybox", ["devmem", at, "32", `0x${value.toString(16)}`]);
  writeFileSync(join(folder, "enable"), "0");
}

/** Asks the drivers for the device, in a process of its own: the write returns when the driver's probe does. */
async function askDrivers(): Promise<void> {
  const child = spawn("sh", ["-c", `echo ${graceHopper.address} >/sys/bus/pci/drivers_probe`], { stdio: "ignore" });
  await once(child, "exit");
}

function reasonOf(facts: DeviceFacts): string | undefined {
  return ineligibleReasons({ facts, probe: null, probeRefusal: null, state: "FREE", stateDetail: "" })[0]?.reason;
}

/** Inside the suite that starts the daemon. */
export function notReady(daemon: () => LiveDaemon): void {
  let live: LiveDaemon;
  let told: Told | null = null;
  before(() => {
    live = daemon();
  });
  after(async () => {
    await told?.end();
    // For the tests that come after a failure of this one.
    if (linkName(graceHopper.address, "driver") !== null) return;
    setLinkWord(0xff);
    await askDrivers();
  });

  it("is told with the reason, holds nobody up, and is a new device once it is ready, which watchers are told without a rescan", async () => {
    const created = await IommufdHost.create({
      sysRoot: "/sys",
      devRoot: "/dev",
      observer: { fault: (_where, error) => assert.fail(String(error)) },
    });
    const host = created.value ?? assert.fail(created.refusal?.message ?? "");
    const find = async (address: string): Promise<DeviceFacts> =>
      (await host.scan()).find((facts) => facts.address === address) ?? assert.fail(`${address} is missing`);
    const open = openDescriptors();
    const ready = await find(graceHopper.address);
    assert.equal(ready.vfioBound, true);

    told = await live.watch(graceHopper.address);
    assert.deepEqual(told.events, ["SNAPSHOT FREE"]);
    writeFileSync(join(folder, "driver/unbind"), graceHopper.address);
    setLinkWord(0);
    const probing = askDrivers();
    let ended = false;
    void probing.then(() => {
      ended = true;
    });

    let scans = 0;
    while (!ended) {
      const begin = performance.now();
      const facts = await find(graceHopper.address);
      assert.deepEqual([facts.driver, facts.driverOverride, facts.vfioBound], ["", "nvgrace_gpu_vfio_pci", false]);
      assert.equal(reasonOf(facts), "DRIVER_NOT_READY");
      assert.equal((await host.probe(facts)).refusal?.reason, "NO_VFIO_DRIVER");
      const other = await host.probe(await find(edu.address));
      assert.equal(other.refusal, null, other.refusal?.message);
      if (ended) break;
      assert.ok(performance.now() - begin < 10_000, `the daemon stood still for ${performance.now() - begin} ms`);
      scans += 1;
      await new Promise((resolve) => setTimeout(resolve, 2000));
    }
    assert.ok(scans >= 3, `${scans} scans while the driver polled`);

    const failed = await find(graceHopper.address);
    assert.deepEqual([failed.driver, failed.driverOverride, failed.vfioBound], ["", "nvgrace_gpu_vfio_pci", false]);
    assert.equal(reasonOf(failed), "DRIVER_NOT_READY");
    // What the broker knew of it before is of another binding.
    assert.notEqual((await host.probe(ready)).refusal, null);
    assert.equal((await host.prove([{ facts: ready, probe: { ...BARE_PROBE, resetSupported: false } }])).result, "GONE");

    setLinkWord(0xff);
    await askDrivers();
    // Read by the daemon first: two who probe at once are in each other's way.
    await live.leasable(graceHopper.address);
    assert.ok(told.events.includes("CHANGED FREE DRIVER_NOT_READY"), told.events.join());
    assert.equal(told.events.at(-1), "CHANGED FREE");
    await live.holder.must(`acquire ${graceHopper.address}`);
    assert.deepEqual((await live.holder.must("release"))["quarantined"], []);
    await live.leasable(graceHopper.address);
    const again = await find(graceHopper.address);
    assert.equal(again.vfioBound, true);
    assert.notEqual(again.bindKey, ready.bindKey);
    const probe = await host.probe(again);
    assert.equal(probe.value?.regions.find((region) => region.index === 4)?.backedSize, 0x2000_0000n);
    assert.equal(openDescriptors(), open);
    await host.close();
  });
}
