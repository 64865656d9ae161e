// How many connections and channels one user, and all users together, may have: n are served, the next is closed, and a place that is given back is a place again.

import assert from "node:assert/strict";
import { after, afterEach, before, describe, it } from "node:test";
import { Attacker } from "../harness/attacker.js";
import { DaemonProcess } from "../harness/daemon.js";
import { HolderProcess } from "../harness/holder.js";
import { RawChannel } from "../harness/raw-channel.js";
import { HostService, Rpc } from "../harness/rpc.js";
import { until } from "../harness/until.js";

const asRoot = process.geteuid?.() === 0;
const OTHER = 65534;
const NVME = "0000:02:00.0";

function peerOf(fields: Readonly<Record<string, unknown>>): { readonly pid: number } {
  return fields["peer"] as { readonly pid: number };
}

describe("[real processes, simulated host] caps", () => {
  let daemon: DaemonProcess;
  before(async () => {
    daemon = await DaemonProcess.start({
      config: '[limits]\nconnections = 6\nconnections_per_uid = 4\nfirst_call_ms = 60000\n[[policy]]\ndevice = "*"\n',
    });
  });
  afterEach(async () => {
    Attacker.stopAll();
    Rpc.closeAll();
    RawChannel.closeAll();
    await HolderProcess.killAll();
    await daemon.isAsBefore();
  });
  after(() => daemon.stop());

  async function served(): Promise<Rpc> {
    const rpc = new Rpc(daemon.socket);
    const { code } = await rpc.call(HostService, "GetHostInfo", {});
    assert.equal(code, "OK");
    return rpc;
  }

  async function isClosed(): Promise<void> {
    const attacker = await Attacker.start(daemon.socket, Buffer.alloc(0));
    await until(
      "the connection beyond the cap",
      () => attacker.closedByDaemon,
      (closed) => closed,
    );
    attacker.stop();
  }

  function gauge(text: string, name: string): number {
    const line = text.split("\n").find((each) => each.startsWith(`${name} `));
    return Number(line?.split(" ")[1]);
  }

  /** Waits until the daemon has noticed what was closed on this side. */
  async function counted(name: string, count: number): Promise<void> {
    await until(
      name,
      async () => gauge(await daemon.metrics(), name),
      (now) => now === count,
    );
  }

  it("serves exactly limits.connections_per_uid connections of one user", async () => {
    const all = [await served(), await served(), await served(), await served()];
    for (let i = 0; i < 3; i += 1) await isClosed();
    for (const rpc of all) assert.equal((await rpc.call(HostService, "GetHostInfo", {})).code, "OK", "the others are unaffected");
    all[1]?.close();
    await counted("aperture_connections", 3);
    await served();
    await isClosed();
    const { fields } = await daemon.event("peer.rejected");
    assert.deepEqual([fields["reason"], peerOf(fields).pid], ["CONNECTION_LIMIT", process.pid]);
  });

  it("counts a connection that has said nothing yet", async () => {
    for (let i = 0; i < 4; i += 1) await Attacker.start(daemon.socket, Buffer.alloc(0));
    await isClosed();
  });

  it("serves exactly limits.connections of all users", { skip: asRoot ? false : "needs root for a second user" }, async () => {
    const own = [await served(), await served(), await served(), await served()];
    const others = [await HolderProcess.start(daemon.socket, OTHER), await HolderProcess.start(daemon.socket, OTHER)];
    // Their third connection is below their own cap of 4.
    await assert.rejects(HolderProcess.start(daemon.socket, OTHER), /the holder could not connect/);
    own[0]?.close();
    await counted("aperture_connections", 5);
    others.push(await HolderProcess.start(daemon.socket, OTHER));
    await isClosed();
  });

  it("keeps exactly limits.connections_per_uid channels of one user, and counts them apart from connections", async () => {
    const connections = [await served(), await served(), await served(), await served()];
    const attached: RawChannel[] = [];
    for (let i = 0; i < 4; i += 1) attached.push((await RawChannel.attached(daemon.socket)).channel);
    const refused = await RawChannel.connect(daemon.socket);
    assert.equal(await refused.goodbye(), null);
    refused.close();
    attached[0]?.close();
    await counted("aperture_channels", 3);
    await RawChannel.attached(daemon.socket);
    assert.equal(connections.length, 4);
    const { fields } = await daemon.event("peer.rejected", 10_000, (record) => record.fields["reason"] === "CHANNEL_LIMIT");
    assert.equal(peerOf(fields).pid, process.pid);
  });

  it("keeps exactly limits.connections channels of all users", { skip: asRoot ? false : "needs root for a second user" }, async () => {
    const own: RawChannel[] = [];
    for (let i = 0; i < 4; i += 1) own.push((await RawChannel.attached(daemon.socket)).channel);
    const others = await Promise.all([1, 2, 3].map(() => HolderProcess.start(daemon.socket, OTHER)));
    // Each attaches with its first acquire.
    const [first, second, third] = others;
    for (const holder of [first, second]) {
      await holder?.must(`acquire ${NVME}`);
      await holder?.must("release");
    }
    const refused = await third?.say(`acquire ${NVME}`);
    assert.equal(refused?.ok, false, JSON.stringify(refused));
    own[0]?.close();
    await counted("aperture_channels", 5);
    await third?.must(`acquire ${NVME}`);
    await third?.must("release");
  });
});
