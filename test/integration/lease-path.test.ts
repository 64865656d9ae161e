// The main job from end to end, with a real daemon and real client processes. The devices are simulated; the sockets, the descriptors, the mappings and the deaths are
// real. test/lab/guest has the same on real VFIO.

import assert from "node:assert/strict";
import { after, afterEach, before, describe, it } from "node:test";
import { type ApertureClient, connect } from "../../src/client/index.js";
import { DaemonProcess } from "../harness/daemon.js";
import { HolderProcess } from "../harness/holder.js";
import { until } from "../harness/until.js";

const GPU = "0009:01:00.0";
const NVME = "0000:02:00.0";
const asRoot = process.geteuid?.() === 0;
// Another user where the test may become one; else the daemon's own, which the default policy allows too.
const OTHER = asRoot ? 65534 : null;

describe("[real processes, simulated host] the way of a lease", () => {
  let daemon: DaemonProcess;
  before(async () => {
    daemon = await DaemonProcess.start({
      config: '[limits]\nretry_min_ms = 60000\nretry_max_ms = 60000\n[[policy]]\nname = "test"\ndevice = "*"\n',
    });
  });
  afterEach(async () => {
    await HolderProcess.killAll();
    await daemon.isAsBefore();
  });
  after(() => daemon.stop());

  async function observe<T>(work: (client: ApertureClient) => Promise<T>): Promise<T> {
    const client = await connect({ socket: daemon.socket });
    try {
      return await work(client);
    } finally {
      await client.close();
    }
  }

  const stateOf = (address: string): Promise<string> => observe(async (client) => (await client.device(address)).state);

  it("hands a device to another user's process, which maps it, and takes it back", async () => {
    const holder = await HolderProcess.start(daemon.socket, OTHER);
    const lease = await holder.must(`acquire ${GPU}`);
    assert.equal((lease["descriptors"] as unknown[]).length, 4);
    assert.equal(await stateOf(GPU), "HELD");
    const mapped = await holder.must(`map ${GPU} 4`);
    assert.equal(mapped["size"], String(128n << 30n));
    const lastWord = (95n << 30n) - 4n;
    await holder.must(`poke ${GPU} 4 ${lastWord} 0xdecafbad`);
    assert.equal((await holder.must(`peek ${GPU} 4 ${lastWord}`))["value"], 0xdecafbad);
    assert.equal((await holder.must(`read ${GPU} 4 ${lastWord} 8`))["hex"], "adfbcadeffffffff", "the tail reads 0xFF");
    assert.equal((await holder.must(`peek ${GPU} 4 ${95n << 30n}`))["value"], 0xffffffff);
    const released = await holder.must("release");
    assert.deepEqual([released["state"], released["endCause"], released["quarantined"]], ["ENDED", "RELEASED", []]);
    assert.equal(await stateOf(GPU), "FREE");
    await holder.exit();
  });

  it("gives the next client memory of which nothing of the one before can be read", async () => {
    const first = await HolderProcess.start(daemon.socket, OTHER);
    await first.must(`acquire ${NVME}`);
    await first.must(`map ${NVME} 0`);
    await first.must(`poke ${NVME} 0 0 0x5ec2e7`);
    await first.must("release");
    const second = await HolderProcess.start(daemon.socket);
    await second.must(`acquire ${NVME}`);
    assert.equal((await second.must(`read ${NVME} 0 0 4`))["hex"], "00000000");
    await Promise.all([first.exit(), second.exit()]);
    await until(
      "device",
      () => stateOf(NVME),
      (state) => state === "FREE",
    );
  });

  it("gives the device of a killed client to the next one", async () => {
    const first = await HolderProcess.start(daemon.socket, OTHER);
    await first.must(`acquire ${GPU}`);
    const second = await HolderProcess.start(daemon.socket);
    assert.equal((await second.say(`acquire ${GPU}`))["reason"], "DEVICE_BUSY");
    await first.kill();
    await until(
      "device",
      () => stateOf(GPU),
      (state) => state === "FREE",
    );
    await second.must(`acquire ${GPU}`);
    await second.kill();
    await until(
      "device",
      () => stateOf(GPU),
      (state) => state === "FREE",
    );
  });

  it("quarantines a device of which a mapping is left, until the process that has it exits", async () => {
    const keeper = await HolderProcess.start(daemon.socket, OTHER);
    const { lease } = await keeper.must(`acquire ${GPU}`);
    await keeper.must(`map ${GPU} 4`);
    await keeper.must("drop-descriptors");
    const ended = await observe((client) => client.release(String(lease)));
    assert.deepEqual(ended.quarantined, [GPU]);
    assert.equal(await stateOf(GPU), "QUARANTINED");
    const other = await HolderProcess.start(daemon.socket);
    assert.equal((await other.say(`acquire ${GPU}`))["reason"], "DEVICE_QUARANTINED");
    // The timer would try again after a minute: what frees it is the exit.
    await keeper.exit();
    await until(
      "device",
      () => stateOf(GPU),
      (state) => state === "FREE",
    );
    await other.must(`acquire ${GPU}`);
    await other.must("release");
    await other.exit();
  });

  it("lets exactly one of two clients win, 200 times", async () => {
    const clients = [await HolderProcess.start(daemon.socket, OTHER), await HolderProcess.start(daemon.socket)] as const;
    for (let round = 0; round < 200; round += 1) {
      const answers = await Promise.all(clients.map((client) => client.say(`acquire ${NVME}`)));
      const won = answers.filter((answer) => answer.ok);
      assert.equal(won.length, 1, `round ${round}: ${JSON.stringify(answers.map((answer) => answer["reason"]))}`);
      assert.deepEqual(
        answers.filter((answer) => !answer.ok).map((answer) => answer["reason"]),
        ["DEVICE_BUSY"],
      );
      const winner = clients[answers.findIndex((answer) => answer.ok)];
      await winner?.must("release");
    }
    for (const client of clients) await client.exit();
  });

  it("leases regions with a scope of one region, and no descriptor of another", async () => {
    const holder = await HolderProcess.start(daemon.socket, OTHER);
    const lease = await holder.must(`acquire-regions ${GPU} 4`);
    const descriptors = lease["descriptors"] as { kind: string; scope: string; region: number }[];
    assert.deepEqual(
      descriptors.map(({ kind, scope, region }) => [kind, scope, region]),
      [["REGION", "REGION", 4]],
    );
    await holder.must("release");
    assert.equal((await holder.say(`acquire-regions ${GPU} 5`))["reason"], "REGION_NOT_FOUND");
    await holder.exit();
  });

  it("counts what happened", async () => {
    const text = await daemon.metrics();
    const value = (line: string): number =>
      Number(
        text
          .split("\n")
          .find((each) => each.startsWith(`${line} `))
          ?.split(" ")
          .at(-1),
      );
    assert.ok(value('aperture_leases_granted_total{kind="device"}') >= 200);
    assert.ok(value('aperture_lease_ends_total{cause="holder_died"}') >= 2);
    assert.ok(value('aperture_refusals_total{reason="DEVICE_BUSY"}') >= 200);
    assert.equal(value("aperture_leases"), 0);
    assert.equal(value("aperture_faults_total"), 0);
    assert.equal(value("aperture_device_quarantines_total"), 1);
    assert.ok(value('aperture_handovers_total{result="acknowledged"}') >= 200);
    assert.ok(value('aperture_operation_seconds_count{operation="reset",result="ok"}') >= 200);
    assert.ok(value("aperture_event_loop_lag_seconds") > 0);
  });
});
