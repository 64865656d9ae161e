// Leases that reach another process than the one that asked: by a ticket, and by succession. Every process is a real one; the devices are simulated.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { after, afterEach, before, describe, it } from "node:test";
import { encodeShow } from "../../src/client/frame.js";
import { ClientProcess } from "../harness/client-process.js";
import { DaemonProcess } from "../harness/daemon.js";
import { LeaseBench } from "../harness/lease-bench.js";
import { type AlteredHost, OwnDaemon } from "../harness/own-daemon.js";
import { RawChannel } from "../harness/raw-channel.js";
import { LeaseService } from "../harness/rpc.js";
import { until } from "../harness/until.js";

const NVME = "0000:02:00.0";
const VF = "0000:41:01.0";
const VF2 = "0000:41:01.1";
const NOBODY = 65534;
const OTHER = 65533;

describe("[real processes, simulated host] tickets and successors", () => {
  let daemon: DaemonProcess;
  let bench: LeaseBench;
  before(async () => {
    const limits = "ack_ms = 60000\nfirst_call_ms = 60000\nretry_min_ms = 50\nretry_max_ms = 50\nrecall_grace_ms = 0\n";
    const policy = '[[policy]]\nname = "all"\ndevice = "*"\nmode = ["hand_off", "retain"]\ndelegate = true\n';
    daemon = await DaemonProcess.start({ config: `[limits]\n${limits}${policy}` });
    bench = await LeaseBench.at(daemon);
  });
  afterEach(async () => {
    RawChannel.closeAll();
    await ClientProcess.killAll();
    await bench.allFree([NVME, VF, VF2]);
    await daemon.isAsBefore();
  });
  after(async () => {
    bench.close();
    await daemon.stop();
  });

  /** A process with an attached channel and no gRPC connection at all. */
  async function receiver(uid: number | null = null): Promise<ClientProcess> {
    const client = await ClientProcess.start(daemon.socket, uid);
    await client.must("channel");
    return client;
  }

  it("a ticket makes the process that shows it the holder, of whatever user, without a gRPC call; its death ends the lease", async () => {
    const { id, ticket } = await bench.reserved(NVME, { ticket: { uid: NOBODY, lifetime: { seconds: 900 } } });
    assert.equal(ticket.byteLength, 16);
    assert.equal(await bench.stateOf(NVME), "RESERVED");
    await daemon.isAsBefore();
    const holder = await receiver(NOBODY);
    await holder.must(`show ${ticket.toString("hex")}`);
    assert.deepEqual((await holder.must("offer"))["lease"], id);
    await holder.must("ack");
    await bench.becomes(NVME, "HELD");
    const lease = await bench.lease(id);
    assert.deepEqual([lease.holderPid, lease.holderUid, lease.ownerUid, lease.policyRule], [holder.pid, NOBODY, process.getuid?.(), "all"]);
    await holder.kill();
    assert.equal(await bench.endOf(id), "HOLDER_DIED");
    await bench.becomes(NVME, "FREE");
  });

  it("the exit of the process that acquired ends neither what is reserved nor what was passed on", async () => {
    const acquirer = await ClientProcess.start(daemon.socket);
    const { requestSerialize, path, responseDeserialize } = LeaseService.service.AcquireLease;
    const message = requestSerialize({ kind: "LEASE_KIND_DEVICE", devices: [{ address: VF }], ticket: {} } as never);
    const { answer } = await acquirer.must(`call ${path} ${message.toString("hex")}`);
    const { lease, ticket } = responseDeserialize(Buffer.from(String(answer), "hex"));
    await acquirer.kill();
    assert.equal(await bench.stateOf(VF), "RESERVED");
    const holder = await receiver(OTHER);
    await holder.must(`show ${ticket.toString("hex")}`);
    await holder.must("offer");
    await holder.must("ack");
    await bench.becomes(VF, "HELD");
    assert.equal((await bench.release(lease?.id ?? "")).code, "OK");
    assert.deepEqual(await holder.must("frame"), { ok: true, type: "ENDED", leaseId: lease?.id, cause: "RELEASED" });
  });

  it("shown 1,000 times more, it gives nothing and costs nothing", async () => {
    const { channel } = await RawChannel.attached(daemon.socket);
    const { id, ticket } = await bench.reserved(NVME);
    channel.show(ticket);
    const { frame, descriptors } = await channel.offer();
    channel.acknowledge(frame.leaseId, descriptors.length);
    await bench.becomes(NVME, "HELD");
    const { channel: thief } = await RawChannel.attached(daemon.socket);
    for (let i = 0; i < 1000; i += 1) {
      thief.show(ticket);
      const answer = await thief.next();
      assert.deepEqual([answer?.frame, answer?.descriptors], [{ type: "REFUSED", reason: "TICKET_USED" }, []]);
    }
    channel.drop();
    assert.equal((await bench.release(id)).code, "OK");
    thief.show(ticket);
    assert.deepEqual((await thief.next())?.frame, { type: "REFUSED", reason: "TICKET_USED" });
  });

  it("of another user it is refused and stays good; released, it is over", async () => {
    const { id, ticket } = await bench.reserved(NVME, { ticket: { uid: NOBODY } });
    const { channel } = await RawChannel.attached(daemon.socket);
    channel.show(ticket);
    assert.deepEqual((await channel.next())?.frame, { type: "REFUSED", reason: "TICKET_OTHER_USER" });
    assert.equal(await bench.stateOf(NVME), "RESERVED");
    assert.equal((await bench.release(id)).code, "OK");
    await bench.becomes(NVME, "FREE");
    channel.show(ticket);
    assert.deepEqual((await channel.next())?.frame, { type: "REFUSED", reason: "TICKET_EXPIRED" });
    assert.equal(await bench.endOf(id), "RELEASED");
  });

  it("a guess costs the channel, and is counted", async () => {
    const { ticket } = await bench.reserved(NVME);
    for (let bit = 0; bit < 8; bit += 1) {
      const { channel } = await RawChannel.attached(daemon.socket);
      const guess = Buffer.from(ticket);
      guess[15 - bit] = (guess[15 - bit] ?? 0) ^ (1 << bit);
      channel.show(guess);
      assert.equal(await channel.goodbye(), "TICKET_UNKNOWN");
    }
    const metrics = await daemon.metrics();
    assert.match(metrics, /^aperture_peer_rejections_total\{reason="TICKET_UNKNOWN"\} 8$/m);
    await bench.releaseAll();
  });

  it("shown by another process over an inherited socket it closes the channel, and stays good", async () => {
    const { ticket } = await bench.reserved(NVME);
    const { channel } = await RawChannel.attached(daemon.socket);
    const child = spawn("cat", [], { stdio: ["pipe", channel.fd, "inherit"] });
    child.stdin?.end(encodeShow(ticket));
    await once(child, "close");
    assert.equal(await channel.goodbye(), "FOREIGN_SENDER");
    assert.equal(await bench.stateOf(NVME), "RESERVED");
    const { channel: own } = await RawChannel.attached(daemon.socket);
    own.show(ticket);
    const { frame, descriptors } = await own.offer();
    own.acknowledge(frame.leaseId, descriptors.length);
    await bench.becomes(NVME, "HELD");
    own.drop();
    await bench.releaseAll();
  });

  it("a SHOW before ATTACH is a violation, and so is a second one before the answer to the first", async () => {
    const early = await RawChannel.connect(daemon.socket);
    early.show(Buffer.alloc(16));
    assert.equal(await early.goodbye(), "PROTOCOL_VIOLATION");
    let open = (): void => {};
    const opening = new Promise<null>((resolve) => {
      open = () => resolve(null);
    });
    const alter = (host: AlteredHost): void => {
      host.opening = () => opening;
    };
    const slow = await OwnDaemon.start({ alter });
    try {
      const slowly = await LeaseBench.at(slow);
      const { ticket } = await slowly.reserved(NVME);
      const { channel } = await RawChannel.attached(slow.socket);
      channel.show(ticket);
      await slowly.becomes(NVME, "OPENING");
      channel.show(ticket);
      assert.equal(await channel.goodbye(), "PROTOCOL_VIOLATION");
      open();
      await slowly.becomes(NVME, "FREE");
      slowly.close();
    } finally {
      await slow.stop();
    }
  });

  it("expires by the daemon's clock", async () => {
    const { id } = await bench.reserved(NVME, { ticket: { lifetime: { seconds: 1 } } });
    assert.equal(await bench.endOf(id), "TICKET_EXPIRED");
    assert.equal(await bench.stateOf(NVME), "FREE");
  });

  it("is in no log", async () => {
    const { id, ticket } = await bench.reserved(NVME);
    assert.equal((await bench.release(id)).code, "OK");
    const log = daemon.log.all.join("\n");
    for (const encoding of ["hex", "base64", "base64url"] as const) assert.ok(!log.includes(ticket.toString(encoding)), encoding);
    assert.ok(log.includes(id));
  });

  it("several devices go to the holder in one message, or stay reserved together", async () => {
    const devices = [{ address: VF }, { address: VF2 }];
    const { id, ticket } = await bench.reserved(VF, { devices });
    assert.deepEqual([await bench.stateOf(VF), await bench.stateOf(VF2)], ["RESERVED", "RESERVED"]);
    const holder = await receiver();
    await holder.must(`show ${ticket.toString("hex")}`);
    assert.deepEqual(await holder.must("offer"), { ok: true, lease: id, count: 6 });
    await holder.must("ack");
    await bench.becomes(VF2, "HELD");
    await holder.kill();
    await bench.becomes(VF, "FREE");
    await bench.becomes(VF2, "FREE");
  });

  it("a successor receives the same open files; the old process is told, exits, and the lease goes on", async () => {
    const old = await receiver();
    await old.must("connect");
    await old.must("preface");
    const { channel } = await RawChannel.attached(daemon.socket);
    // Acquired here, because this process can ask for RETAIN.
    const offer = await bench.held(channel, NVME, { mode: "LEASE_MODE_RETAIN" });
    const id = offer.frame.leaseId;
    const retained = offer.descriptors.length;
    assert.equal((await bench.lease(id)).mode, "LEASE_MODE_RETAIN");
    const first = await bench.successor(id);
    await old.must(`show ${first.toString("hex")}`);
    assert.deepEqual(await old.must("offer"), { ok: true, lease: id, count: retained });
    assert.equal((await bench.lease(id)).holderPid, process.pid);
    await old.must("ack");
    assert.deepEqual((await channel.next())?.frame, { type: "ENDED", leaseId: id, cause: "SUCCEEDED" });
    channel.drop();
    assert.equal((await bench.lease(id)).holderPid, old.pid);
    // And from that one, which dies while the ticket is out, to a third.
    const second = await bench.successor(id, { uid: OTHER });
    await old.kill();
    const third = await receiver(OTHER);
    assert.equal(await bench.stateOf(NVME), "HELD");
    await third.must(`show ${second.toString("hex")}`);
    await third.must("offer");
    await third.must("ack");
    await until(
      "the holder",
      () => bench.lease(id),
      (lease) => lease.holderPid === third.pid,
    );
    assert.equal((await bench.lease(id)).holderUid, OTHER);
    await third.kill();
    assert.equal(await bench.endOf(id), "HOLDER_DIED");
    await bench.becomes(NVME, "FREE");
  });

  it("a lease whose holder has exited ends with the ticket of a successor who never came", async () => {
    const { channel } = await RawChannel.attached(daemon.socket);
    const { ticket } = await bench.reserved(NVME, { mode: "LEASE_MODE_RETAIN" });
    const holder = await receiver();
    await holder.must(`show ${ticket.toString("hex")}`);
    const { lease } = await holder.must("offer");
    await holder.must("ack");
    await bench.becomes(NVME, "HELD");
    await bench.successor(String(lease), { lifetime: { seconds: 1 } });
    await holder.kill();
    assert.equal(await bench.endOf(String(lease)), "TICKET_EXPIRED");
    await bench.becomes(NVME, "FREE");
    channel.close();
  });

  it("a lease whose time is over is recalled, and ends after the grace", async () => {
    const { channel } = await RawChannel.attached(daemon.socket);
    const { frame } = await bench.held(channel, NVME, { maxDuration: { seconds: 1 } });
    assert.deepEqual((await channel.next())?.frame, { type: "RECALL", leaseId: frame.leaseId, cause: "EXPIRED", graceMs: 0 });
    assert.deepEqual((await channel.next())?.frame, { type: "ENDED", leaseId: frame.leaseId, cause: "EXPIRED" });
    await bench.becomes(NVME, "QUARANTINED");
    channel.drop();
    await bench.becomes(NVME, "FREE");
    const { recall, expireTime, createTime } = await bench.lease(frame.leaseId);
    assert.equal(recall?.cause, "END_CAUSE_EXPIRED");
    assert.equal(Number(expireTime?.seconds) - Number(createTime?.seconds), 1);
  });
});
