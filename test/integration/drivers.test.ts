// Drivers changed through a daemon of its own process on made-up devices: by aperturectl, by a caller that goes away, by one who may not, and with a kernel that does not finish.

import assert from "node:assert/strict";
import { once } from "node:events";
import { existsSync, readFileSync, statSync } from "node:fs";
import { after, afterEach, before, describe, it } from "node:test";
import { connect } from "../../src/client/index.js";
import type { ListDevicesResponse__Output } from "../../src/generated/aperture/v1/ListDevicesResponse.js";
import { aperturectl } from "../harness/cli.js";
import { DaemonProcess } from "../harness/daemon.js";
import { LeaseBench } from "../harness/lease-bench.js";
import { OwnDaemon } from "../harness/own-daemon.js";
import { RawChannel } from "../harness/raw-channel.js";
import { DeviceService, DriverService, Rpc } from "../harness/rpc.js";
import { until } from "../harness/until.js";

const DISK = "0000:01:00.0";
const NVME = "0000:02:00.0";
const GPU = "0000:31:00.0";
const AUDIO = "0000:31:00.1";
const PHYSICAL = "0000:41:00.0";
const [VF0, VF1] = ["0000:41:01.0", "0000:41:01.1"] as const;
const CONFIG = '[[policy]]\nname = "all"\ndevice = "*"\nallow_unreset = true\n';

interface Seen {
  readonly driver: string;
  readonly state: string;
  readonly reasons: string;
}

async function seen(socket: string, address: string): Promise<Seen | null> {
  const rpc = new Rpc(socket);
  const { answer } = await rpc.call<ListDevicesResponse__Output>(DeviceService, "ListDevices", { filter: { addresses: [address] } });
  rpc.close();
  const [device] = answer?.devices ?? [];
  if (device === undefined) return null;
  return {
    driver: device.driver,
    state: device.state.replace("DEVICE_STATE_", ""),
    reasons: device.ineligibleReasons.map(({ reason }) => reason).join(),
  };
}

describe("[real processes, simulated host] drivers", () => {
  let daemon: DaemonProcess;
  const ctl = (...args: readonly string[]) => aperturectl(daemon.socket, args);
  before(async () => {
    daemon = await DaemonProcess.start({ config: CONFIG });
  });
  afterEach(async () => {
    RawChannel.closeAll();
    Rpc.closeAll();
    await daemon.isAsBefore();
  });
  after(() => daemon.stop());

  it("a device is bound, leased in the same moment, refused while it is, restored, and all of it is told", async () => {
    const file = `${daemon.socket}.drivers`;
    assert.equal(existsSync(file), false);
    const bound = await ctl("driver", "bind", DISK);
    assert.equal(bound.code, 0, bound.err);
    assert.match(bound.out, /^0000:01:00\.0 +nvme +vfio-pci +yes$/m);
    assert.match(bound.err, /0000:01:00\.0: taking it from nvme\n.*giving it to vfio-pci/);
    assert.deepEqual([statSync(file).mode & 0o777, JSON.parse(readFileSync(file, "utf8")).devices.length], [0o600, 1]);
    const leased = await ctl(
      "exec",
      DISK,
      "--",
      process.execPath,
      "-e",
      `
      const { spawnSync } = require("node:child_process");
      const { status, stderr } = spawnSync(process.execPath, [${JSON.stringify(new URL("../../src/cli/main.js", import.meta.url).pathname)}, "--socket", ${JSON.stringify(daemon.socket)}, "driver", "restore", "${DISK}"], { encoding: "utf8" });
      process.stdout.write(status + " " + stderr);`,
    );
    assert.match(leased.out, /^6 .*DEVICE_BUSY/s, leased.err);
    const restored = await ctl("driver", "restore", DISK, "-o", "json");
    assert.deepEqual(JSON.parse(restored.out), [{ address: DISK, driverBefore: "vfio-pci", driver: "nvme", changed: true }]);
    assert.deepEqual(await seen(daemon.socket, DISK), { driver: "nvme", state: "FREE", reasons: "NO_VFIO_DRIVER" });
    const events = daemon.records().filter(({ event }) => event.startsWith("driver."));
    assert.deepEqual(
      events.map(({ event, fields }) => `${event} ${fields["reason"] ?? fields["drivers"]}`),
      [`driver.bound ${DISK}: nvme -> vfio-pci`, "driver.refused DEVICE_BUSY", `driver.restored ${DISK}: vfio-pci -> nvme`],
    );
    const page = await daemon.metrics();
    assert.match(page, /^aperture_operation_seconds_count\{operation="driver_bind",result="ok"\} 1$/m);
    assert.match(page, /^aperture_operation_seconds_count\{operation="driver_restore",result="failed"\} 1$/m);
  });

  it("a group is taken as a whole only with consent, makes its other member of use, and goes back", async () => {
    assert.equal((await seen(daemon.socket, GPU))?.reasons, "GROUP_NOT_VIABLE");
    const refused = await ctl("driver", "bind", GPU);
    assert.equal(refused.code, 6);
    assert.match(refused.err, /0000:31:00\.1 \(snd_hda_intel\)/);
    assert.equal((await ctl("driver", "bind", GPU, "--whole-group")).code, 0);
    assert.deepEqual(await seen(daemon.socket, GPU), { driver: "vfio-pci", state: "FREE", reasons: "" });
    assert.equal((await ctl("driver", "restore", AUDIO)).code, 0);
    assert.deepEqual(
      [(await seen(daemon.socket, GPU))?.reasons, (await seen(daemon.socket, AUDIO))?.driver],
      ["GROUP_NOT_VIABLE", "snd_hda_intel"],
    );
  });

  it("virtual functions go only when nobody holds one, come without a driver, and are bound like others", async () => {
    const bench = await LeaseBench.at({ socket: daemon.socket, rebase: () => {} });
    const { channel } = await RawChannel.attached(daemon.socket);
    const { frame } = await bench.held(channel, VF1);
    const held = await ctl("vfs", PHYSICAL, "0");
    assert.deepEqual([held.code, held.err.includes(`${VF1} (held)`)], [6, true]);
    RawChannel.closeAll();
    await bench.release(frame.leaseId);
    await bench.becomes(VF1, "FREE");
    bench.close();
    assert.equal((await ctl("vfs", PHYSICAL, "0")).code, 0);
    assert.equal(await seen(daemon.socket, VF0), null);
    assert.equal((await ctl("vfs", PHYSICAL, "129")).code, 2);
    assert.equal((await ctl("vfs", PHYSICAL, "two")).code, 2);
    const made = await ctl("vfs", PHYSICAL, "2", "-o", "name");
    assert.equal(made.out, `${VF0}\n${VF1}\n`);
    assert.deepEqual(await seen(daemon.socket, VF0), { driver: "", state: "FREE", reasons: "NO_VFIO_DRIVER" });
    for (const address of [VF0, VF1]) assert.equal((await ctl("driver", "bind", address)).code, 0);
    assert.deepEqual(await seen(daemon.socket, VF1), { driver: "vfio-pci", state: "FREE", reasons: "" });
  });

  it("is for the operator", { skip: process.geteuid?.() === 0 ? false : "needs root to be somebody else" }, async () => {
    for (const args of [
      ["driver", "bind", DISK],
      ["driver", "restore", DISK],
      ["vfs", PHYSICAL, "0"],
    ]) {
      const { code, err } = await aperturectl(daemon.socket, args, { uid: 65534 });
      assert.deepEqual([code, err.includes("NOT_OPERATOR")], [4, true], err);
    }
  });

  it("names a wrong field", async () => {
    const rpc = new Rpc(daemon.socket);
    const { path, requestSerialize } = DriverService.service.BindDriver;
    for (const request of [
      { address: "x" },
      { address: DISK, driver: "../vfio" },
      { address: DISK, driver: "nvme" },
      { address: DISK, driver: "v".repeat(65) },
    ]) {
      const stream = rpc.stream(path, requestSerialize({ driver: "", wholeGroup: false, ...request }), (bytes) => bytes);
      const [error] = (await once(stream.resume(), "error")) as [{ readonly code: number }];
      assert.equal(error.code, 3, JSON.stringify(request));
    }
  });
});

describe("[real sockets, altered host] a kernel that takes its time with a driver", () => {
  afterEach(async () => {
    Rpc.closeAll();
    await OwnDaemon.stopAll();
  });

  it("goes on when its caller goes away", async () => {
    const daemon = await OwnDaemon.start({ config: CONFIG, script: (operation) => (operation === "unbind" ? 200 : null) });
    const rpc = new Rpc(daemon.socket);
    const { path, requestSerialize, responseDeserialize } = DriverService.service.BindDriver;
    const stream = rpc.stream(path, requestSerialize({ address: DISK }), responseDeserialize);
    await once(stream, "data");
    stream.cancel();
    await until(
      "the new driver",
      () => seen(daemon.socket, DISK),
      (device) => device?.driver === "vfio-pci" && device.state === "FREE" && device.reasons === "",
    );
    assert.deepEqual(
      daemon.records().filter(({ event }) => event === "daemon.fault"),
      [],
    );
  });

  it("leaves the caller answered, the device locked and all others served, until it has finished", async () => {
    const config = `limits.driver_ms = 100\n${CONFIG}`;
    const daemon = await OwnDaemon.start({
      config,
      script: (operation, _address, n) => (operation === "unbind" && n === 1 ? 1_500 : null),
    });
    const client = await connect({ socket: daemon.socket });
    await assert.rejects(client.bindDriver(DISK), { reason: "DRIVER_BUSY", message: /has not finished taking it from nvme after 0\.1 s/ });
    await assert.rejects(client.bindDriver(DISK), { reason: "DEVICE_BUSY", message: /rebinding/ });
    assert.match((await client.device(DISK)).stateDetail, /the kernel has not finished: waiting for 0000:01:00\.0 to be taken from nvme/);
    assert.equal((await client.device(NVME)).state, "FREE");
    await client.close();
    await until(
      "the old driver",
      () => seen(daemon.socket, DISK),
      (device) => device?.driver === "nvme" && device.state === "FREE",
    );
    assert.deepEqual(
      daemon
        .records()
        .flatMap(({ event }) => (event === "driver.late" || event === "driver.settled" || event === "daemon.fault" ? [event] : [])),
      ["driver.late", "driver.settled"],
    );
  });

  it("undoes a group of which one member is not taken", async () => {
    const script = (operation: string, address: string, n: number) =>
      operation === "bind" && address === AUDIO && n === 1 ? { operation, errno: 5, code: "EIO", subject: address } : null;
    const daemon = await OwnDaemon.start({ config: CONFIG, script });
    const refused = await aperturectl(daemon.socket, ["driver", "bind", GPU, "--whole-group"]);
    assert.equal(refused.code, 6);
    assert.match(refused.err, /EIO.*it has what it had before/s);
    assert.deepEqual(await seen(daemon.socket, AUDIO), { driver: "snd_hda_intel", state: "FREE", reasons: "NO_VFIO_DRIVER" });
    assert.equal((await aperturectl(daemon.socket, ["driver", "restore", AUDIO])).code, 0);
  });
});
