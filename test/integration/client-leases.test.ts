// The client library against a daemon: tickets, successors, recalls, sessions and the watch of leases, each process a real one.

import assert from "node:assert/strict";
import { after, afterEach, before, describe, it } from "node:test";
import { type ApertureClient, ApertureError, connect, HandoverError, type LeaseEvent } from "../../src/client/index.js";
import { DaemonProcess } from "../harness/daemon.js";
import { HolderProcess } from "../harness/holder.js";
import { until } from "../harness/until.js";

const NVME = "0000:02:00.0";
const VF = "0000:41:01.0";
const TARGET = { kind: "device", addresses: [NVME] } as const;
const NOBODY = 65534;

describe("[real processes, simulated host] leases by the client library", () => {
  let daemon: DaemonProcess;
  let client: ApertureClient;
  before(async () => {
    const limits = "[limits]\nack_ms = 60000\nfirst_call_ms = 60000\nretry_min_ms = 50\nretry_max_ms = 50\n";
    const policy = '[[policy]]\nname = "all"\ndevice = "*"\nmode = ["hand_off", "retain"]\ndelegate = true\n';
    daemon = await DaemonProcess.start({ config: limits + policy });
  });
  afterEach(async () => {
    await HolderProcess.killAll();
    for await (const lease of client.leases()) await client.release(lease.id);
    await client.close();
    await daemon.isAsBefore();
  });
  after(async () => {
    await daemon.stop();
  });

  async function connected(): Promise<ApertureClient> {
    client = await connect({ socket: daemon.socket });
    return client;
  }

  async function becomes(address: string, state: string): Promise<void> {
    await until(
      `${address} ${state}`,
      async () => (await client.device(address)).state,
      (now) => now === state,
    );
  }

  it("a ticket: reserved here, shown by a process of another user, which maps and releases", async () => {
    await connected();
    const { lease, ticket } = await client.reserve(
      TARGET,
      { uid: NOBODY, lifetimeMs: 900_000 },
      { mode: "RETAIN", maxDurationMs: 3_600_000 },
    );
    assert.deepEqual([lease.state, lease.holderPid, lease.mode, lease.policyRule], ["RESERVED", 0, "RETAIN", "all"]);
    assert.ok(lease.ticketExpireTime !== null && lease.expireTime !== null);
    const holder = await HolderProcess.start(daemon.socket, NOBODY);
    const shown = await holder.must(`show ${Buffer.from(ticket).toString("hex")}`);
    assert.deepEqual([shown["lease"], shown["succeeded"]], [lease.id, false]);
    await holder.must(`map ${NVME} 0`);
    await holder.must(`poke ${NVME} 0 0x1000 7`);
    assert.equal((await holder.must(`peek ${NVME} 0 0x1000`))["value"], 7);
    assert.deepEqual(await holder.must("release"), { ok: true, state: "ENDED", endCause: "RELEASED", quarantined: [] });
  });

  it("a ticket that is used, unknown or malformed, each with its reason; held leases go on", async () => {
    await connected();
    const { ticket } = await client.reserve(TARGET);
    const lease = await client.showTicket(ticket);
    const refused = async (shown: Uint8Array): Promise<string> =>
      await client.showTicket(shown).then(
        () => "taken",
        (error: unknown) => (error instanceof HandoverError ? error.reason : String(error)),
      );
    assert.equal(await refused(ticket), "TICKET_USED");
    assert.equal(await refused(new Uint8Array(16)), "TICKET_UNKNOWN");
    await assert.rejects(client.showTicket(new Uint8Array(15)), RangeError);
    assert.equal((await client.lease(lease.id)).state, "HELD");
    assert.equal((await lease.release()).endCause, "RELEASED");
  });

  it("a successor goes on with the memory of the process before it", async () => {
    await connected();
    const old = await HolderProcess.start(daemon.socket);
    await old.must(`retain ${NVME}`);
    await old.must(`write ${NVME} 0 0x2000 c0ffee00`);
    const { ticket } = await old.must("successor");
    const next = await HolderProcess.start(daemon.socket);
    const shown = await next.must(`show ${String(ticket)}`);
    assert.equal(shown["succeeded"], true);
    assert.deepEqual(await old.must("ended"), { ok: true, cause: "SUCCEEDED" });
    await old.exit();
    assert.equal((await next.must(`read ${NVME} 0 0x2000 4`))["hex"], "c0ffee00");
    assert.equal((await client.lease(String(shown["lease"]))).holderPid, next.pid);
    assert.deepEqual((await next.must("release"))["quarantined"], []);
  });

  it("a lease whose time is over is recalled, with the deadline", async () => {
    await connected();
    const lease = await client.acquire(TARGET, { maxDurationMs: 1000 });
    const heard: string[] = [];
    lease.onRecalled(({ cause }) => heard.push(cause));
    const { cause, deadline } = await lease.recalled;
    assert.equal(cause, "EXPIRED");
    assert.deepEqual(heard, ["EXPIRED"]);
    const { recall } = await client.lease(lease.id);
    assert.ok(Math.abs((recall?.deadline?.getTime() ?? 0) - deadline.getTime()) < 5_000);
    assert.equal((await lease.release()).endCause, "RELEASED");
  });

  it("sessions: acquire, read, refuse, release; their end ends their leases", async () => {
    await connected();
    const session = await client.session({ endLeases: true });
    const lease = await session.acquire(TARGET);
    // The acknowledgement goes another way than this question, and can come after it.
    await until(
      "the acknowledgement",
      () => session.lease(lease.id),
      ({ state }) => state === "HELD",
    );
    await assert.rejects(session.acquire({ kind: "device", addresses: ["0000:ff:1f.7"] }), (error: unknown) => {
      assert.ok(error instanceof ApertureError);
      assert.deepEqual([error.reason, error.code], ["DEVICE_NOT_FOUND", "NOT_FOUND"]);
      assert.match(error.next ?? "", /aperturectl devices/);
      return true;
    });
    await lease.closeDescriptors();
    await session.close();
    assert.equal((await lease.ended).cause, "SESSION_ENDED");
    assert.equal(await session.ended, null);
    await assert.rejects(session.lease(lease.id), ApertureError);
    await becomes(NVME, "FREE");
  });

  it("a watch tells snapshot, SYNCED, changes and the end", async () => {
    await connected();
    const { lease: before } = await client.reserve({ kind: "device", addresses: [VF] });
    const seen: string[] = [];
    const stop = new AbortController();
    const watching = (async () => {
      for await (const { kind, lease } of client.watchLeases({ signal: stop.signal })) {
        const event: LeaseEvent = { kind, lease };
        seen.push(`${event.kind} ${event.lease?.state ?? ""} ${event.lease?.endCause ?? ""}`);
      }
    })();
    await until(
      "SYNCED",
      () => seen.length,
      (length) => length === 2,
    );
    assert.deepEqual(seen, ["SNAPSHOT RESERVED UNSPECIFIED", "SYNCED  "]);
    await client.release(before.id);
    await until(
      "the end",
      () => seen.at(-1),
      (last) => last === "ENDED ENDED RELEASED",
    );
    stop.abort();
    await watching;
  });
});
