// The configuration read again while the daemon serves: by SIGHUP and by the operator's call.

import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, afterEach, before, describe, it } from "node:test";
import { connect } from "../../src/client/index.js";
import { DaemonProcess } from "../harness/daemon.js";
import { HolderProcess } from "../harness/holder.js";

const GPU = "0009:01:00.0";
const NVME = "0000:02:00.0";
const VF = "0000:41:01.0";

describe("[real processes, simulated host] reload", () => {
  let daemon: DaemonProcess;
  let head = "";
  before(async () => {
    daemon = await DaemonProcess.start({ config: rules("all") });
    const socket = join(daemon.folder, "a.sock");
    head = `host = "simulated"\nsocket = "${socket}"\nsocket_mode = "0666"\nmetrics.listen = "127.0.0.1:0"\nlog.level = "debug"\n`;
  });
  afterEach(async () => {
    await HolderProcess.killAll();
    await reload(rules("all"));
    await daemon.isAsBefore();
  });
  after(() => daemon.stop());

  /** A policy of one rule for everything, or (none) for a device that is not there. */
  function rules(name: string, device = "*"): string {
    return `[limits]\nretry_min_ms = 60000\nretry_max_ms = 60000\n[[policy]]\nname = "${name}"\ndevice = "${device}"\n`;
  }

  function write(config: string): void {
    writeFileSync(join(daemon.folder, "aperture.toml"), head + config);
  }

  /** SIGHUP with this configuration; waits until the daemon has said what came of it. */
  async function reload(
    config: string,
    expected: "config.reloaded" | "config.refused" = "config.reloaded",
  ): Promise<Readonly<Record<string, unknown>>> {
    write(config);
    daemon.signal("SIGHUP");
    return (await daemon.event(expected)).fields;
  }

  it("applies a new policy at once, and touches no lease that is held", async () => {
    const holder = await HolderProcess.start(daemon.socket);
    const { lease } = await holder.must(`acquire ${GPU}`);
    await holder.must(`map ${GPU} 4`);
    const fields = await reload(rules("only the drive", NVME));
    assert.deepEqual([fields["policy_changed"], fields["policy_rules"]], [1, 1]);
    const client = await connect({ socket: daemon.socket });
    assert.equal((await client.device(GPU)).state, "HELD");
    await holder.must(`poke ${GPU} 4 0 0x1234`);
    assert.equal((await holder.must(`peek ${GPU} 4 0`))["value"], 0x1234, String(lease));
    const other = await HolderProcess.start(daemon.socket);
    const denied = await other.say(`acquire ${VF}`);
    assert.equal(denied["reason"], "POLICY_DENIED");
    await other.must(`acquire ${NVME}`);
    assert.equal((await holder.must("release"))["endCause"], "RELEASED");
    assert.equal((await holder.say(`acquire ${GPU}`))["reason"], "POLICY_DENIED", "from the next request on");
    await client.close();
  });

  it("keeps the old policy when the new configuration has a mistake, and says so in the log, the answer and the metrics", async () => {
    const bad = `${rules("wrong")}colour = "red"\n`;
    const fields = await reload(bad, "config.refused");
    assert.match(String(fields["why"]), /aperture\.toml:\d+: unknown key policy\.colour/);
    assert.match(await daemon.metrics(), /^aperture_config_last_reload_successful 0$/m);
    assert.match(await daemon.metrics(), /^aperture_config_reloads_total\{result="refused"\} 1$/m);
    const client = await connect({ socket: daemon.socket });
    const uid = process.geteuid?.() ?? 0;
    assert.equal((await client.testPolicy({ uid, address: GPU })).rule, "all");
    const answer = await client.reloadConfig();
    assert.deepEqual([answer.applied, answer.problems.length, answer.policyRules], [false, 1, 1]);
    assert.match(answer.problems[0] ?? "", /unknown key policy\.colour/);
    write("[limits]\nconnections = 60000\n");
    assert.match((await client.reloadConfig()).problems[0] ?? "", /RLIMIT_NOFILE is \d+/, "what would not start is not reloaded either");
    const holder = await HolderProcess.start(daemon.socket);
    await holder.must(`acquire ${GPU}`);
    await reload(rules("all"));
    assert.match(await daemon.metrics(), /^aperture_config_last_reload_successful 1$/m);
    await client.close();
  });

  it("applies the settings that can change at run time, and names the others", async () => {
    const client = await connect({ socket: daemon.socket });
    write(
      `socket_group = "0"\n[limits]\nleases_per_uid = 1\nretry_min_ms = 60000\nretry_max_ms = 60000\n[[policy]]\nname = "all"\ndevice = "*"\n`,
    );
    const answer = await client.reloadConfig();
    assert.deepEqual(answer.changed, [{ name: "limits.leases_per_uid", from: "8", to: "1" }]);
    assert.deepEqual(answer.needsRestart, [{ name: "socket_group", from: "", to: "0" }]);
    assert.equal((await client.hostInfo()).limits.find(({ name }) => name === "limits.leases_per_uid")?.value, 1n);
    const holder = await HolderProcess.start(daemon.socket);
    await holder.must(`acquire ${GPU}`);
    const second = await HolderProcess.start(daemon.socket);
    assert.equal((await second.say(`acquire ${NVME}`))["reason"], "LEASE_QUOTA");
    assert.deepEqual(await client.rescan().then(({ devices }) => devices > 0), true);
    await client.close();
  });

  it("loses no lease and refuses no good call while it is reloaded again and again under load, by turns well and badly", async () => {
    const keeper = await HolderProcess.start(daemon.socket);
    await keeper.must(`acquire ${GPU}`);
    const busy = await Promise.all([NVME, VF].map(async (address) => ({ address, holder: await HolderProcess.start(daemon.socket) })));
    for (let i = 0; i < 20; i += 1) {
      const good = i % 2 === 0;
      const rounds = busy.map(async ({ address, holder }) => {
        await holder.must(`acquire ${address}`);
        assert.equal((await holder.must("release"))["endCause"], "RELEASED");
      });
      await Promise.all([reload(good ? rules(`turn ${i}`) : "nonsense = 1\n", good ? "config.reloaded" : "config.refused"), ...rounds]);
    }
    assert.equal((await keeper.must("release"))["endCause"], "RELEASED");
  });
});
