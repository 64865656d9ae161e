// Devices come and go under processes that watch and hold them. The daemon is in the test's process, because only there its simulated host can be told so; the watcher and the
// holder are processes of their own. The clock of the inventory is switched off: what is shown was noticed.

import assert from "node:assert/strict";
import { after, afterEach, before, describe, it } from "node:test";
import type { Address } from "../../src/broker/device.js";
import { aperturectl, CliProcess } from "../harness/cli.js";
import { HolderProcess } from "../harness/holder.js";
import { OwnDaemon } from "../harness/own-daemon.js";

const NVME = "0000:02:00.0" as Address;
const GRACE_MS = 600_000;
const SHORT_MS = 300;

function config(graceMs: number): string {
  return `[limits]\nretry_min_ms = 600000\nretry_max_ms = 600000\nrecall_grace_ms = ${graceMs}\n[[policy]]\nname = "all"\ndevice = "*"\n`;
}

for (const graceMs of [GRACE_MS, SHORT_MS]) {
  describe(`[real processes, simulated host] devices come and go, ${graceMs} ms of grace`, () => {
    let daemon: OwnDaemon;
    let watcher: CliProcess;
    before(async () => {
      daemon = await OwnDaemon.start({ config: config(graceMs), rescanMs: 600_000 });
    });
    afterEach(async () => {
      await CliProcess.killAll();
      await HolderProcess.killAll();
    });
    after(() => daemon.stop());

    async function watching(): Promise<void> {
      watcher = new CliProcess(daemon.socket, ["watch", NVME]);
      await watcher.line(/ SNAPSHOT 0000:02:00\.0 .* FREE yes$/);
      await watcher.line(/ SYNCED$/);
    }

    async function heldAndEjected(): Promise<HolderProcess> {
      const holder = await HolderProcess.start(daemon.socket);
      await holder.must(`acquire ${NVME}`);
      await holder.must(`map ${NVME} 0`);
      await watcher.line(/ HELD /);
      await daemon.host.simulated.eject(NVME);
      await watcher.line(/ HELD .*DEVICE_LEAVING/);
      assert.equal((await holder.must("recalled"))["cause"], "DEVICE_REMOVED");
      await holder.must(`poke ${NVME} 0 0 7`);
      assert.equal((await holder.must(`peek ${NVME} 0 0`))["value"], 7);
      return holder;
    }

    async function plugged(): Promise<void> {
      daemon.host.simulated.plug(NVME);
      await watcher.line(/ CHANGED +0000:02:00\.0 .* FREE yes$/);
    }

    if (graceMs === GRACE_MS) {
      it("a watcher in another process sees a device go and come, ten times", async () => {
        await watching();
        for (let i = 0; i < 10; i += 1) {
          daemon.host.simulated.unplug(NVME);
          await watcher.line(/ REMOVED +0000:02:00\.0 /);
          await plugged();
        }
      });

      it("who holds it is asked, lets go in time, and the device goes", async () => {
        await watching();
        const holder = await heldAndEjected();
        await holder.must("unmap");
        const { endCause, quarantined } = await holder.must("release");
        assert.deepEqual([endCause, quarantined], ["RELEASED", []]);
        assert.equal((await aperturectl(daemon.socket, ["rescan"])).code, 0);
        await watcher.line(/ REMOVED +0000:02:00\.0 /);
        await plugged();
      });
    } else {
      it("who holds it is asked, does not let go, and loses the lease but not what it has; the device goes when it does", async () => {
        await watching();
        const holder = await heldAndEjected();
        assert.equal((await holder.must("ended"))["cause"], "DEVICE_REMOVED");
        await watcher.line(/ QUARANTINED .*DEVICE_LEAVING/);
        assert.equal((await holder.must(`peek ${NVME} 0 0`))["value"], 7);
        await holder.must("drop-descriptors");
        assert.equal((await aperturectl(daemon.socket, ["rescan"])).code, 0);
        assert.match((await aperturectl(daemon.socket, ["device", NVME])).out, /QUARANTINED/);
        await holder.must("unmap");
        assert.equal((await aperturectl(daemon.socket, ["rescan"])).code, 0);
        await watcher.line(/ REMOVED +0000:02:00\.0 /);
        await plugged();
      });
    }
  });
}
