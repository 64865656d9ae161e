// native/client against the real daemon: a process in C, without gRPC, receives leases by ticket, uses them and gives them back. Devices are simulated.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { after, afterEach, before, describe, it } from "node:test";
import { promisify } from "node:util";
import { buildCPrograms, EXAMPLES } from "../harness/c-programs.js";
import { DaemonProcess } from "../harness/daemon.js";
import { descriptorsOf, settlesAt } from "../harness/descriptors.js";
import { LeaseBench } from "../harness/lease-bench.js";
import { TenantProcess } from "../harness/tenant.js";

const GPU = "0009:01:00.0";
const VF = "0000:41:01.0";
const NVME = "0000:02:00.0";
const NOBODY = 65534;
const GIB = 1n << 30n;

describe("[real processes, simulated host] the client in C", () => {
  let daemon: DaemonProcess;
  let bench: LeaseBench;
  before(async () => {
    await buildCPrograms();
    const limits = "ack_ms = 60000\nfirst_call_ms = 60000\nretry_min_ms = 50\nretry_max_ms = 50\nrecall_grace_ms = 60000\n";
    const policy = '[[policy]]\nname = "all"\ndevice = "*"\nmode = ["hand_off", "retain"]\ndelegate = true\n';
    daemon = await DaemonProcess.start({ config: `[limits]\n${limits}${policy}` });
    bench = await LeaseBench.at(daemon);
  });
  afterEach(async () => {
    await TenantProcess.killAll();
    await bench.allFree([GPU, VF, NVME]);
    await daemon.isAsBefore();
  });
  after(async () => {
    bench.close();
    await daemon.stop();
  });

  it("receives a GH200 by ticket as another user, maps its padded aperture with two mappings, and gives it back by closing", async () => {
    const tenant = await TenantProcess.start(daemon.socket, { uid: NOBODY });
    const descriptors = descriptorsOf(tenant.pid);
    const { id, ticket } = await bench.reserved(GPU, { ticket: { uid: NOBODY } });
    const offer = await tenant.must(`show ${ticket.toString("hex")}`);
    assert.deepEqual([offer["event"], offer["lease"], offer["backend"], offer["kind"], offer["flags"]], ["OFFER", id, 3, 1, 0]);
    const entries = offer["descriptors"] as { kind: number; scope: number; number: number; address: string; size: string }[];
    assert.ok(entries.length >= 4 && entries.every((entry) => entry.kind === 6 && entry.scope === 2 && entry.address === GPU));
    await tenant.must("accept");
    await bench.becomes(GPU, "HELD");

    assert.deepEqual(
      await tenant.must(`region ${GPU} 4`),
      Object.assign(
        { ok: true, size: String(128n * GIB), backed: String(95n * GIB), offset: "0", flags: 7 },
        { areas: [["0", String(95n * GIB)]] },
      ),
    );
    const mapped = await tenant.must(`map ${GPU} 4 1`);
    assert.deepEqual(mapped["vmas"], [`rw-s ${95n * GIB}`, `---p ${33n * GIB}`]);
    assert.equal(BigInt(String(mapped["base"])) % GIB, 0n);
    const last = 95n * GIB - 4n;
    await tenant.must(`poke ${last} 01020304`);
    assert.equal((await tenant.must(`read ${last} 8`))["hex"], "01020304ffffffff", "by pread, across the end of the memory");
    await tenant.must(`write ${last} 0a0b0c0daaaaaaaa`);
    assert.equal((await tenant.must(`peek ${last} 8`))["hex"], "0a0b0c0dffffffff", "by mapping");
    assert.equal((await tenant.must(`load ${last}`))["value"], 0x0d0c0b0a);
    await tenant.must("unmap");

    const tail = await tenant.must(`map ${GPU} 4 2`);
    assert.deepEqual(tail["vmas"], [`r--s ${95n * GIB}`, `r--p ${33n * GIB}`]);
    assert.equal((await tenant.must(`load ${95n * GIB}`))["value"], 0);
    assert.equal((await tenant.must(`peek ${95n * GIB} 4`))["hex"], "ffffffff");
    assert.match(String((await tenant.say(`poke 0 00`))["text"]), /Permission denied/);

    // A mapping alone keeps the device, and unmapping it gives it back.
    await tenant.must("close");
    assert.equal((await bench.release(id)).code, "OK");
    const ended = await tenant.must("wait");
    assert.deepEqual([ended["event"], ended["lease"], ended["cause"]], ["ENDED", id, "RELEASED"]);
    assert.equal(await bench.stateOf(GPU), "QUARANTINED");
    await tenant.must("unmap");
    await bench.becomes(GPU, "FREE");
    await settlesAt(tenant.pid, descriptors);
  });

  for (const { language, command } of EXAMPLES) {
    it(`the page's program in ${language} takes a lease by its ticket, maps what is backed, and ends it by its exit`, async () => {
      const { id, ticket } = await bench.reserved(GPU);
      const [program = "", ...args] = command;
      const { stdout } = await promisify(execFile)(program, [...args, daemon.socket, ticket.toString("hex"), "4"]);
      assert.equal(stdout, `${id} 4 ${128n * GIB} ${95n * GIB} 0x00000000\n`);
      assert.equal(await bench.endOf(id), "HOLDER_DIED");
      await assert.rejects(promisify(execFile)(program, [...args, daemon.socket, ticket.toString("hex"), "4"]), /TICKET_USED/);
    });
  }

  it("is refused tickets with the reason, keeps its channel, and loses it for a guess", async () => {
    const tenant = await TenantProcess.start(daemon.socket);
    const { id, ticket } = await bench.reserved(VF);
    assert.equal((await bench.release(id)).code, "OK");
    const expired = await tenant.must(`show ${ticket.toString("hex")}`);
    assert.deepEqual([expired["event"], expired["reason"]], ["REFUSED", "TICKET_EXPIRED"]);
    const other = await bench.reserved(VF, { ticket: { uid: NOBODY } });
    assert.equal((await tenant.must(`show ${other.ticket.toString("hex")}`))["reason"], "TICKET_OTHER_USER");
    assert.equal((await bench.release(other.id)).code, "OK");
    const guess = await tenant.must(`show ${"5a".repeat(16)}`);
    assert.deepEqual([guess["event"], guess["reason"]], ["GOODBYE", "TICKET_UNKNOWN"]);
    assert.match(String((await tenant.say("wait"))["text"]), /the channel is over/);
  });

  it("declines an offer for which it has no numbers left, and the lease is undone", async () => {
    // The standard three, the channel, and two more: a GH200 has more regions.
    const tenant = await TenantProcess.start(daemon.socket, { under: ["prlimit", "--nofile=6"] });
    const descriptors = descriptorsOf(tenant.pid);
    const { id, ticket } = await bench.reserved(GPU);
    const cut = await tenant.must(`show ${ticket.toString("hex")}`);
    assert.deepEqual([cut["event"], cut["lease"]], ["TRUNCATED", id]);
    assert.equal(await bench.endOf(id), "SHORT_HANDOVER");
    await settlesAt(tenant.pid, descriptors);
    assert.deepEqual([(await tenant.must("wait"))["cause"]], ["SHORT_HANDOVER"]);
  });

  it("declines by itself, and is offered the next", async () => {
    const tenant = await TenantProcess.start(daemon.socket);
    const first = await bench.reserved(NVME);
    await tenant.must(`show ${first.ticket.toString("hex")}`);
    await tenant.must("decline");
    assert.equal((await tenant.must("wait"))["cause"], "SHORT_HANDOVER");
    await bench.becomes(NVME, "FREE");
    const second = await bench.reserved(NVME);
    assert.equal((await tenant.must(`show ${second.ticket.toString("hex")}`))["lease"], second.id);
    await tenant.must("accept");
    await bench.becomes(NVME, "HELD");
    await tenant.exit();
    assert.equal(await bench.endOf(second.id), "HOLDER_DIED");
  });

  it("is told RECALL with the time it has, and that its successor has taken over", async () => {
    const tenant = await TenantProcess.start(daemon.socket);
    const short = await bench.reserved(NVME, { maxDuration: { seconds: 1 } });
    await tenant.must(`show ${short.ticket.toString("hex")}`);
    await tenant.must("accept");
    const recall = await tenant.must("wait");
    assert.deepEqual([recall["event"], recall["lease"], recall["cause"]], ["RECALL", short.id, "EXPIRED"]);
    assert.ok(Number(recall["grace_ms"]) > 50_000 && Number(recall["grace_ms"]) <= 60_000);
    await tenant.must("close");
    assert.equal((await bench.release(short.id)).code, "OK");
    assert.equal((await tenant.must("wait"))["event"], "ENDED");

    const kept = await bench.reserved(VF, { mode: "LEASE_MODE_RETAIN" });
    await tenant.must(`show ${kept.ticket.toString("hex")}`);
    await tenant.must("accept");
    await bench.becomes(VF, "HELD");
    await tenant.must(`map ${VF} 0 1`);
    await tenant.must("poke 0 78563412");
    const successor = await TenantProcess.start(daemon.socket, { uid: NOBODY });
    const ticket = await bench.successor(kept.id);
    const offer = await successor.must(`show ${ticket.toString("hex")}`);
    assert.deepEqual([offer["event"], offer["lease"], offer["flags"]], ["OFFER", kept.id, 1]);
    await successor.must("accept");
    assert.equal((await tenant.must("wait"))["cause"], "SUCCEEDED");
    await tenant.exit();
    await successor.must(`map ${VF} 0 0`);
    assert.equal((await successor.must("load 0"))["value"], 0x12345678, "no reset in between");
    await successor.exit();
  });
});
