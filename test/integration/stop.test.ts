// The end of the daemon: on request, in order, and without taking anything from those who hold a lease.

import assert from "node:assert/strict";
import { once } from "node:events";
import { lstatSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, afterEach, before, describe, it } from "node:test";
import { DaemonProcess, socketFolder } from "../harness/daemon.js";
import { HolderProcess } from "../harness/holder.js";
import { bytesField } from "../harness/http2-bytes.js";
import { RawChannel } from "../harness/raw-channel.js";
import { LeaseService, Rpc } from "../harness/rpc.js";

const GPU = "0009:01:00.0";

describe("[real processes, simulated host] SIGTERM", () => {
  let folder: string;
  let daemon: DaemonProcess;
  before(() => {
    folder = socketFolder();
  });
  afterEach(async () => {
    Rpc.closeAll();
    RawChannel.closeAll();
    await HolderProcess.killAll();
    daemon.signal("SIGKILL");
    await daemon.ended();
  });
  after(() => rmSync(folder, { recursive: true, force: true }));

  it("leaves to a client what it holds, and removes the daemon's own sockets only", async () => {
    daemon = await DaemonProcess.start({}, folder, false);
    const holder = await HolderProcess.start(daemon.socket);
    await holder.must(`acquire ${GPU}`);
    await holder.must(`map ${GPU} 4`);
    await holder.must(`poke ${GPU} 4 4096 0x600dcafe`);
    // Not the daemon's: somebody has put another file in the place of its channel socket.
    rmSync(`${daemon.socket}.channel`);
    writeFileSync(`${daemon.socket}.channel`, "not a socket");
    daemon.signal("SIGTERM");
    const { status } = await daemon.ended();
    assert.equal(status, 0);
    assert.deepEqual(readdirSync(folder).sort(), ["a.sock.channel", "aperture.toml"]);
    assert.equal(readFileSync(`${daemon.socket}.channel`, "utf8"), "not a socket");
    assert.equal((await holder.must(`peek ${GPU} 4 4096`))["value"], 0x600dcafe);
    assert.equal((await holder.must(`read ${GPU} 4 4096 4`))["hex"], "feca0d60");
    rmSync(`${daemon.socket}.channel`);
  });

  it("is seen by health before the end, and no new lease is given", async () => {
    daemon = await DaemonProcess.start({ config: "[limits]\nshutdown_ms = 500\n" }, folder, false);
    const { channel } = await RawChannel.attached(daemon.socket);
    const rpc = new Rpc(daemon.socket);
    const states: number[] = [];
    // grpc.health.v1: HealthCheckResponse.status is field 1; 1 SERVING, 2 NOT_SERVING.
    const health = rpc.stream("/grpc.health.v1.Health/Watch", bytesField(1, "aperture.v1.LeaseService"), (bytes) => bytes);
    for await (const bytes of health) {
      states.push((bytes as Buffer)[1] ?? 0);
      if (states.length > 1) break;
      daemon.signal("SIGTERM");
    }
    assert.deepEqual(states, [1, 2]);
    const refused = await rpc.call(LeaseService, "AcquireLease", { kind: "LEASE_KIND_DEVICE", devices: [{ address: GPU }] });
    // GOAWAY may have been faster: then the call does not reach the daemon at all.
    assert.ok(refused.code === "UNAVAILABLE", `${refused.code} ${refused.reason}`);
    assert.equal(await channel.goodbye(), "DRAINING");
    const { status, stderr } = await daemon.ended();
    assert.equal(status, 0);
    const events = stderr.split("\n").map((line) => (JSON.parse(line) as { event: string }).event);
    assert.deepEqual(events.slice(-1), ["daemon.stopped"]);
    assert.ok(!events.includes("daemon.fault"), stderr);
  });

  it("ends a daemon that clients and strangers hang on to within limits.shutdown_ms", async () => {
    daemon = await DaemonProcess.start({ config: "[limits]\nshutdown_ms = 300\n" }, folder, false);
    const rpc = new Rpc(daemon.socket);
    const watch = rpc.stream("/aperture.v1.DeviceService/WatchDevices", Buffer.alloc(0), (bytes) => bytes);
    await once(watch, "data");
    await RawChannel.connect(daemon.socket);
    const begin = performance.now();
    daemon.signal("SIGTERM");
    const { status } = await daemon.ended();
    assert.equal(status, 0);
    const took = performance.now() - begin;
    assert.ok(took < 2_000, `${Math.round(took)} ms`);
    assert.throws(() => lstatSync(join(folder, "a.sock")), /ENOENT/);
  });

  it("twice, or with SIGINT behind it as under npm, is once", async () => {
    daemon = await DaemonProcess.start({ config: "[limits]\nshutdown_ms = 300\n" }, folder, false);
    const rpc = new Rpc(daemon.socket);
    const watch = rpc.stream("/aperture.v1.DeviceService/WatchDevices", Buffer.alloc(0), (bytes) => bytes);
    await once(watch, "data");
    daemon.signal("SIGTERM");
    await daemon.event("daemon.stopping");
    for (const signal of ["SIGTERM", "SIGINT", "SIGINT"] as const) daemon.signal(signal);
    const { status } = await daemon.ended();
    assert.equal(status, 0);
    assert.deepEqual(readdirSync(folder), ["aperture.toml"]);
  });
});
