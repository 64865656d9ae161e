// How the daemon starts on a machine with VFIO: without the permission to use it, and after a daemon whose clients are still there.

import assert from "node:assert/strict";
import { chownSync } from "node:fs";
import { describe, it } from "node:test";
import { connect } from "../../../src/client/index.js";
import { DaemonProcess, socketFolder } from "../../harness/daemon.js";
import { HolderProcess } from "../../harness/holder.js";
import { until } from "../../harness/until.js";
import { igbVfs } from "../devices.js";
import { world } from "./world.js";

const LIMITS = "[limits]\nack_ms = 60000\nfirst_call_ms = 60000\n";

describe("[lab kernel] starting", () => {
  it("without permission on the VFIO nodes says which, and does not run on made-up devices instead", async () => {
    const folder = socketFolder();
    chownSync(folder, 65534, 65534);
    const unprivileged = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    const daemon = DaemonProcess.spawn({ host: "auto", config: LIMITS, under: unprivileged }, folder);
    const { status, stderr } = await daemon.ended();
    assert.equal(status, 1);
    assert.match(stderr, world === "iommufd" ? /\/dev\/(iommu|vfio\/devices\/vfio\d+)/ : /\/dev\/vfio\/\d+/);
    assert.match(stderr, /Next: /);
    assert.doesNotMatch(stderr, /SIMULATED/);
  });

  it("with a device still held from before lists it as in use, and leases it when its holder is gone", async () => {
    const [{ address }] = igbVfs;
    const config = `inventory.rescan_ms = 1000\n${LIMITS}`;
    const first = await DaemonProcess.start({ host: "auto", config });
    const holder = await HolderProcess.start(first.socket);
    await holder.must(`acquire ${address}`);
    await holder.must(`map ${address} 0`);
    // Descriptors that are handed over are the client's: the daemon's end does not take them away.
    await first.stop();
    await holder.must(`peek ${address} 0 8`);

    const second = await DaemonProcess.start({ host: "auto", config });
    const client = await connect({ socket: second.socket, timeoutMs: 60_000 });
    const seen = await client.device(address);
    assert.deepEqual(
      seen.ineligibleReasons.map((each) => each.reason),
      ["DEVICE_IN_USE"],
    );
    await holder.kill();
    await until(
      "device",
      () => client.device(address),
      (device) => device.ineligibleReasons.length === 0,
      60_000,
    );
    await client.close();
    await second.isAsBefore();
    await second.stop();
  });
});
