// WatchLeases: what a watcher of leases sees, and what it does not.

import assert from "node:assert/strict";
import { after, afterEach, before, describe, it } from "node:test";
import type { ClientReadableStream } from "@grpc/grpc-js";
import type { WatchLeasesResponse__Output } from "../../src/generated/aperture/v1/WatchLeasesResponse.js";
import { ClientProcess } from "../harness/client-process.js";
import { DaemonProcess } from "../harness/daemon.js";
import { LeaseBench } from "../harness/lease-bench.js";
import { RawChannel } from "../harness/raw-channel.js";
import { DeviceService, failed, LeaseService, Rpc } from "../harness/rpc.js";
import { until } from "../harness/until.js";

const NVME = "0000:02:00.0";
const VF = "0000:41:01.0";
const NOBODY = 65534;

type Told = readonly [kind: string, id: string, state: string, cause: string];

describe("[real processes, simulated host] watching leases", () => {
  let daemon: DaemonProcess;
  let bench: LeaseBench;
  let channel: RawChannel;
  before(async () => {
    const limits = "[limits]\nwatchers = 3\nack_ms = 60000\nfirst_call_ms = 60000\nretry_min_ms = 50\nretry_max_ms = 50\n";
    daemon = await DaemonProcess.start({ config: `${limits}[[policy]]\ndevice = "*"\nmode = ["hand_off", "retain"]\ndelegate = true\n` });
    bench = await LeaseBench.at(daemon);
    ({ channel } = await RawChannel.attached(daemon.socket));
    daemon.rebase();
  });
  afterEach(async () => {
    Rpc.closeAllBut(bench.rpc);
    await ClientProcess.killAll();
    await bench.allFree([NVME, VF]);
    await daemon.isAsBefore();
  });
  after(async () => {
    RawChannel.closeAll();
    bench.close();
    await daemon.stop();
  });

  class Watch {
    readonly stream: ClientReadableStream<WatchLeasesResponse__Output>;
    readonly told: Told[] = [];

    constructor(rpc = new Rpc(daemon.socket)) {
      const { path, requestSerialize, responseDeserialize } = LeaseService.service.WatchLeases;
      this.stream = rpc.stream(
        path,
        requestSerialize({} as never),
        responseDeserialize,
      ) as ClientReadableStream<WatchLeasesResponse__Output>;
      this.stream.on("data", ({ events }: WatchLeasesResponse__Output) => {
        assert.ok(events.length <= 100);
        for (const { kind, lease } of events) {
          const cause = lease?.endCause.replace("END_CAUSE_", "") ?? "";
          this.told.push([kind.replace("LEASE_EVENT_KIND_", ""), lease?.id ?? "", lease?.state.replace("LEASE_STATE_", "") ?? "", cause]);
        }
      });
    }

    async until(what: string, holds: (told: readonly Told[]) => boolean): Promise<void> {
      await until(what, () => this.told, holds);
    }
  }

  async function heldLease(address = NVME, more: object = {}): Promise<string> {
    const { frame } = await bench.held(channel, address, more);
    channel.drop();
    return frame.leaseId;
  }

  it("tells a snapshot, SYNCED once, changes in order, and the end once with its cause", async () => {
    const before = await heldLease(VF);
    const watch = new Watch();
    await watch.until("SYNCED", (told) => told.length === 2);
    assert.deepEqual(watch.told, [
      ["SNAPSHOT", before, "HELD", "UNSPECIFIED"],
      ["SYNCED", "", "", ""],
    ]);
    const id = await heldLease();
    assert.equal((await bench.release(id)).code, "OK");
    await watch.until("the end", (told) => told.some(([kind]) => kind === "ENDED"));
    const own = watch.told.slice(2);
    assert.ok(own.every(([, lease]) => lease === id));
    assert.deepEqual(own.at(-1), ["ENDED", id, "ENDED", "RELEASED"]);
    const order = ["OPENING", "OFFERED", "HELD", "RELEASING", "RESETTING", "ENDED"];
    const places = own.map(([, , state]) => order.indexOf(state));
    assert.deepEqual(
      places,
      [...places].sort((a, b) => a - b),
    );
    for (const state of ["OFFERED", "HELD", "ENDED"])
      assert.ok(
        own.some((each) => each[2] === state),
        state,
      );
    await bench.release(before);
  });

  it("has SYNCED at once when there is nothing", async () => {
    const watch = new Watch();
    await watch.until("SYNCED", (told) => told.length === 1);
    assert.deepEqual(watch.told, [["SYNCED", "", "", ""]]);
  });

  it("tells of tickets: reserved, expired; of a user's own leases and no others; of one that came and went out of sight", async () => {
    const watch = new Watch();
    const stranger = await ClientProcess.start(daemon.socket, NOBODY);
    await stranger.must("watch");
    const mine = await bench.reserved(VF);
    const { id, ticket } = await bench.reserved(NVME, { mode: "LEASE_MODE_RETAIN" });
    await watch.until("RESERVED", (told) => told.some(([, lease, state]) => lease === id && state === "RESERVED"));
    assert.equal((await bench.release(mine.id)).code, "OK");
    // Shown by the stranger: its lease as well, from now on.
    await stranger.must("channel");
    await stranger.must(`show ${ticket.toString("hex")}`);
    await stranger.must("offer");
    await stranger.must("ack");
    await bench.becomes(NVME, "HELD");
    // And passed on by its owner to a process of the owner.
    channel.show(await bench.successor(id));
    const { frame, descriptors } = await channel.offer();
    channel.acknowledge(frame.leaseId, descriptors.length);
    channel.drop();
    const told = await until(
      "the last that the stranger was told",
      async () => (await stranger.must("told"))["events"] as Told[],
      (events) => events.some(([kind]) => kind === "ENDED"),
    );
    assert.ok(
      told.every(([kind, lease]) => kind === "SYNCED" || lease === id),
      JSON.stringify(told),
    );
    assert.deepEqual(told.at(-1), ["ENDED", id, "ENDED", "SUCCEEDED", stranger.pid]);
    assert.equal((await bench.release(id)).code, "OK");
    await watch.until("the end", (all) => all.some(([kind, lease]) => kind === "ENDED" && lease === id));
  });

  it("of a watcher that does not read: the ends of all that it knows of, and nothing that grows with the rest", async () => {
    const known = await heldLease(VF);
    const watch = new Watch();
    await watch.until("SYNCED", (told) => told.length === 2);
    watch.stream.pause();
    // Each lease of many devices is long: it takes few to fill the pipes.
    for (let i = 0; i < 300; i += 1) {
      const { id } = await bench.reserved(NVME);
      assert.equal((await bench.release(id)).code, "OK");
    }
    assert.equal((await bench.release(known)).code, "OK");
    const after = await heldLease();
    watch.stream.resume();
    await watch.until("the newest", (told) => told.some(([, lease, state]) => lease === after && state === "HELD"));
    assert.equal(watch.told.filter(([kind, lease]) => kind === "ENDED" && lease === known).length, 1);
    const begun = new Set(watch.told.filter(([kind]) => kind === "CHANGED").map(([, lease]) => lease));
    const ended = watch.told.filter(([kind]) => kind === "ENDED").map(([, lease]) => lease);
    assert.equal(new Set(ended).size, ended.length, "an end is told once");
    for (const lease of begun) if (lease !== after) assert.ok(ended.includes(lease), "what has begun for a watcher has ended for it");
    await bench.release(after);
  });

  it("shares limits.watchers with the watches of devices", async () => {
    const rpc = new Rpc(daemon.socket);
    const { path, requestSerialize, responseDeserialize } = DeviceService.service.WatchDevices;
    const devices = rpc.stream(path, requestSerialize({} as never), responseDeserialize);
    const served = new Promise((resolve) => devices.once("data", resolve));
    const own = [new Watch(rpc), new Watch(rpc)];
    await served;
    for (const watch of own) await watch.until("SYNCED", (told) => told.length === 1);
    const { stream } = new Watch(rpc);
    const refused = await new Promise<ReturnType<typeof failed>>((resolve) =>
      stream.once("error", (error) => resolve(failed(error as never))),
    );
    assert.deepEqual([refused.code, refused.reason], ["RESOURCE_EXHAUSTED", "CONNECTION_QUOTA"]);
  });
});
