// The client against a daemon that misbehaves on purpose. Every test ends with the descriptors it began with.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { afterEach, beforeEach, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { status } from "@grpc/grpc-js";
import { type ApertureClient, ApertureError, connect, HandoverError } from "../../../src/client/index.js";
import type { Lease } from "../../../src/generated/aperture/v1/Lease.js";
import {
  ACK_MS,
  closeMemfds,
  endedFrame,
  FakeDaemon,
  frameOf,
  goodbyeFrame,
  memfd,
  offerFrame,
  openDescriptors,
  refusal,
} from "./fake-daemon.js";

const ADDRESS = "0000:01:00.0";
const LEASE = "00112233-4455-4677-8899-aabbccddeeff";
const OTHER = "10112233-4455-4677-8899-aabbccddeeff";
const TARGET = { kind: "device", addresses: [ADDRESS] } as const;

/** Padded to 8 KiB, 4 KiB and a half page backed. */
const BACKED = 6144;
const PADDED = 8192n;

/** What an attached channel costs, both ends of it being in this process: the socket, and the copy that the event loop watches. */
const CHANNEL = 4;

let daemon: FakeDaemon;
let client: ApertureClient;
let before: number;

beforeEach(async () => {
  daemon = await FakeDaemon.start();
  client = await connect({ socket: daemon.socketPath });
  before = openDescriptors();
});

afterEach(async () => {
  await client.close();
  daemon.stop();
});

function leaseOf(id: string, regions: readonly number[] = [0, 4]): Lease {
  return {
    id,
    kind: "LEASE_KIND_DEVICE",
    state: "LEASE_STATE_OFFERED",
    backend: "BACKEND_SIMULATED",
    devices: [
      {
        address: ADDRESS,
        regions: regions.map((index) => ({
          index,
          kind: "REGION_KIND_BAR",
          bar: index,
          size: PADDED.toString(),
          backedSize: String(BACKED),
          areas: [{ offset: "0", size: "4096" }],
          readable: true,
          writable: true,
          mappable: true,
        })),
      },
    ],
    descriptors: regions.map((region) => ({
      kind: "DESCRIPTOR_KIND_REGION",
      scope: "SCOPE_REGION",
      address: ADDRESS,
      region,
      size: PADDED.toString(),
    })),
  };
}

function sendOffer(id: string, regions: readonly number[] = [0, 4]): void {
  const fds = regions.map(() => memfd(BACKED));
  daemon.send(offerOf(id, regions), fds);
  closeMemfds(fds);
}

function offerOf(id: string, regions: readonly number[]): Uint8Array {
  return offerFrame(
    id,
    ADDRESS,
    regions.map((index) => ({ index, size: PADDED })),
  );
}

async function settles(expected: number): Promise<void> {
  for (let round = 0; round < 100 && openDescriptors() !== expected; round++) await sleep(5);
  assert.equal(openDescriptors(), expected);
}

async function refusedWith(reason: string, acquiring: Promise<unknown>): Promise<void> {
  await assert.rejects(acquiring, (error: unknown) => {
    assert.ok(error instanceof HandoverError, String(error));
    assert.equal(error.reason, reason);
    return true;
  });
}

test("an offer that comes before the answer is acknowledged and held until release [real sockets]", async () => {
  daemon.acquire = async () => {
    sendOffer(LEASE);
    await sleep(20);
    return leaseOf(LEASE);
  };
  const lease = await client.acquire(TARGET);
  await daemon.acked(1);
  assert.deepEqual(daemon.acks, [2]);
  assert.equal(lease.id, LEASE);
  assert.deepEqual(
    lease.descriptors.map(({ info }) => info.region),
    [0, 4],
  );
  const ended = await lease.release();
  assert.equal(ended.state, "ENDED");
  assert.deepEqual(daemon.released, [LEASE]);
  assert.deepEqual(await lease.ended, { cause: "RELEASED" });
  assert.equal(await lease.release(), ended, "a second release is the first one");
  await settles(before + CHANNEL);
});

test("an offer that comes after the answer is acknowledged too [real sockets]", async () => {
  daemon.acquire = () => {
    setTimeout(() => sendOffer(LEASE), 20);
    return leaseOf(LEASE);
  };
  const lease = await client.acquire(TARGET);
  await daemon.acked(1);
  assert.deepEqual(daemon.acks, [2]);
  await lease.release();
  await settles(before + CHANNEL);
});

test("an offer that differs from the answer is closed and given back [real sockets]", async () => {
  daemon.acquire = () => {
    sendOffer(LEASE, [0, 2]);
    return leaseOf(LEASE);
  };
  await refusedWith("HANDOVER_MISMATCH", client.acquire(TARGET));
  assert.deepEqual(daemon.acks, [2]);
  assert.deepEqual(daemon.released, [LEASE]);
  await settles(before + CHANNEL);
});

test("an offer is acknowledged when it comes, however late the answer is [real sockets]", async () => {
  daemon.acquire = async () => {
    sendOffer(LEASE);
    await daemon.acked(1);
    return leaseOf(LEASE);
  };
  await (await client.acquire(TARGET)).release();
});

test("an offer of a call that failed, or that nobody made, is closed and given back [real sockets]", async () => {
  daemon.acquire = async (_request, attempt) => {
    sendOffer(OTHER);
    // Both sockets are read by one event loop: without this the refusal can be read before the offer.
    await daemon.acked(daemon.acks.length + 1);
    if (attempt === 0) throw refusal(status.ABORTED, "DEVICE_BUSY");
    sendOffer(LEASE);
    return leaseOf(LEASE);
  };
  await assert.rejects(client.acquire(TARGET), (error: unknown) => error instanceof ApertureError && error.reason === "DEVICE_BUSY");
  assert.deepEqual(daemon.acks, [2]);
  assert.deepEqual(daemon.released, [OTHER]);
  const lease = await client.acquire(TARGET);
  assert.deepEqual(daemon.acks, [2, 2, 2]);
  assert.deepEqual(daemon.released, [OTHER, OTHER]);
  sendOffer(OTHER);
  await daemon.acked(4);
  assert.equal(daemon.acks[3], 0, "outside of an acquisition it is refused");
  await lease.release();
  await settles(before + CHANNEL);
});

test("release waits for descriptors that are being closed already [real sockets]", async () => {
  const sizes = Array.from({ length: 32 }, (_, index) => index);
  daemon.acquire = () => {
    sendOffer(LEASE, sizes);
    return leaseOf(LEASE, sizes);
  };
  const lease = await client.acquire(TARGET);
  const closing = lease.closeDescriptors();
  await lease.release();
  await closing;
  assert.deepEqual(daemon.openAtRelease, [before + CHANNEL]);
});

test("a lease that ended before it could be used is an error, and its descriptors are closed [real sockets]", async () => {
  daemon.acquire = async () => {
    sendOffer(LEASE);
    await daemon.acked(1);
    daemon.send(endedFrame(LEASE, 3));
    await sleep(20);
    return leaseOf(LEASE);
  };
  await refusedWith("LEASE_ENDED", client.acquire(TARGET));
  await settles(before + CHANNEL);
});

test("an acknowledgement that comes too late tells the daemon's reason [real sockets]", async () => {
  daemon.acquire = () => {
    sendOffer(LEASE);
    daemon.send(endedFrame(LEASE, 3));
    daemon.send(goodbyeFrame("HANDOVER_FAILED"));
    daemon.closeChannels();
    return leaseOf(LEASE);
  };
  await refusedWith("HANDOVER_FAILED", client.acquire(TARGET));
  await settles(before);
});

test("a grant without an offer fails after the acknowledgement time [real sockets]", async () => {
  daemon.acquire = () => leaseOf(LEASE);
  const start = performance.now();
  await refusedWith("HANDOVER_TIMEOUT", client.acquire(TARGET));
  assert.ok(performance.now() - start >= ACK_MS - 1);
  await settles(before + CHANNEL);
});

test("descriptors that do not fit RLIMIT_NOFILE: refused, closed, said so [real sockets]", async () => {
  const regions = [0, 1, 2, 3, 4, 5, 6, 7];
  daemon.acquire = async () => {
    sendOffer(LEASE, regions);
    return leaseOf(LEASE, regions);
  };
  // Attached first: what is tested is the hand-over, not the connect.
  await (await client.acquire(TARGET)).release();
  const limit = limitOfOpenFiles();
  // Made while the limit is high; they stay open, so that their numbers do not come free for what is received.
  const fds = regions.map(() => memfd(BACKED));
  daemon.acquire = () => {
    limitOpenFiles(numberWithFreeBelow(5), limit.hard);
    daemon.send(offerOf(LEASE, regions), fds);
    return leaseOf(LEASE, regions);
  };
  try {
    await refusedWith("HANDOVER_TRUNCATED", client.acquire(TARGET));
  } finally {
    limitOpenFiles(limit.soft, limit.hard);
    closeMemfds(fds);
  }
  await daemon.acked(2);
  assert.deepEqual(daemon.acks, [8, 0]);
  await settles(before + CHANNEL);
});

test("GOODBYE instead of ATTACHED is the reason of the error [real sockets]", async () => {
  daemon.attachAnswer = () => goodbyeFrame("CONNECTION_QUOTA");
  await refusedWith("CONNECTION_QUOTA", client.acquire(TARGET));
  await settles(before);
});

test("bytes that are no frame close the channel, and the next acquire attaches anew [real sockets]", async () => {
  daemon.acquire = (_request, attempt) => {
    if (attempt > 0) sendOffer(LEASE);
    else {
      const fd = memfd(BACKED);
      daemon.send(frameOf(99, new Uint8Array(8)), [fd, fd]);
      closeMemfds([fd]);
    }
    return leaseOf(LEASE);
  };
  await refusedWith("HANDOVER_PROTOCOL", client.acquire(TARGET));
  await settles(before);
  const lease = await client.acquire(TARGET);
  assert.equal(daemon.attaches, 2);
  await lease.release();
  await settles(before + CHANNEL);
});

test("ENDED settles `ended` and leaves the descriptors usable [real sockets]", async () => {
  daemon.acquire = () => {
    sendOffer(LEASE);
    return leaseOf(LEASE);
  };
  const lease = await client.acquire(TARGET);
  daemon.send(endedFrame(OTHER, 2));
  daemon.send(endedFrame(LEASE, 6));
  assert.deepEqual(await lease.ended, { cause: "DEVICE_REMOVED" });
  assert.equal((await lease.read(ADDRESS, 0, 0n, 4)).length, 4);
  await lease.release();
  await settles(before + CHANNEL);
});

test("the daemon's end is the end of the channel, not of the descriptors [real sockets]", async () => {
  daemon.acquire = () => {
    sendOffer(LEASE);
    return leaseOf(LEASE);
  };
  const lease = await client.acquire(TARGET);
  daemon.send(goodbyeFrame("DRAINING"));
  daemon.closeChannels();
  assert.deepEqual(await lease.ended, { cause: "CHANNEL_CLOSED" });
  await lease.write(ADDRESS, 0, 0n, Uint8Array.of(7));
  assert.deepEqual(await lease.read(ADDRESS, 0, 0n, 1), Uint8Array.of(7));
  await lease.release();
  await settles(before);
});

test("an acknowledgement that the daemon has not seen yet is waited for [real sockets]", async () => {
  daemon.acquire = (_request, attempt) => {
    if (attempt < 3) throw refusal(status.RESOURCE_EXHAUSTED, "HANDOVER_PENDING");
    sendOffer(LEASE);
    return leaseOf(LEASE);
  };
  const lease = await client.acquire(TARGET);
  await lease.release();
  daemon.acquire = () => {
    throw refusal(status.RESOURCE_EXHAUSTED, "HANDOVER_PENDING");
  };
  await assert.rejects(client.acquire(TARGET), (error: unknown) => error instanceof ApertureError && error.reason === "HANDOVER_PENDING");
  await settles(before + CHANNEL);
});

test("acquisitions at the same time are asked for one after the other [real sockets]", async () => {
  const ids = [LEASE, OTHER];
  let running = 0;
  daemon.acquire = async (_request, attempt) => {
    assert.equal(++running, 1);
    const id = ids[attempt] ?? "";
    sendOffer(id);
    await sleep(20);
    running--;
    return leaseOf(id);
  };
  const leases = await Promise.all([client.acquire(TARGET), client.acquire(TARGET)]);
  assert.deepEqual(
    leases.map(({ id }) => id),
    ids,
  );
  assert.equal(daemon.attaches, 1);
  for (const lease of leases) await lease.release();
  await settles(before + CHANNEL);
});

test("a repeated request_id gives the lease that is held already [real sockets]", async () => {
  const asked: string[] = [];
  daemon.acquire = (request, attempt) => {
    asked.push(request.requestId);
    if (attempt === 0) sendOffer(LEASE);
    return leaseOf(LEASE);
  };
  const first = await client.acquire(TARGET, { requestId: OTHER });
  assert.equal(await client.acquire(TARGET, { requestId: OTHER }), first);
  assert.deepEqual(asked, [OTHER, OTHER]);
  await first.release();
});

test("closing the client in the middle of an acquisition leaves nothing behind [real sockets]", async () => {
  let closed: Promise<void> | null = null;
  daemon.acquire = async () => {
    sendOffer(LEASE);
    closed = client.close();
    await sleep(50);
    return leaseOf(LEASE);
  };
  await assert.rejects(client.acquire(TARGET), ApertureError);
  await closed;
  // The gRPC connection is gone as well: its two ends.
  await settles(before - 2);
});

test("reads, writes and mappings have the driver's semantics on a region descriptor [real sockets]", async () => {
  daemon.acquire = () => {
    sendOffer(LEASE);
    return leaseOf(LEASE);
  };
  const lease = await client.acquire(TARGET);
  const end = BigInt(BACKED);
  await lease.write(ADDRESS, 4, end - 2n, Uint8Array.of(1, 2, 3, 4));
  assert.deepEqual(await lease.read(ADDRESS, 4, end - 3n, 6), Uint8Array.of(0, 1, 2, 0xff, 0xff, 0xff));
  await lease.write(ADDRESS, 4, end + 5n, Uint8Array.of(9));
  assert.deepEqual(await lease.read(ADDRESS, 4, PADDED - 2n, 2), Uint8Array.of(0xff, 0xff));
  await assert.rejects(lease.read(ADDRESS, 4, PADDED - 1n, 2), RangeError);
  await assert.rejects(lease.read(ADDRESS, 4, -1n, 1), RangeError);
  await assert.rejects(lease.read(ADDRESS, 3, 0n, 1), /has no 0000:01:00.0 region 3; it has 0, 4/);
  await assert.rejects(lease.read("0000:09:00.0", 0, 0n, 1), /not in this lease/);
  const mapping = await lease.map(ADDRESS, 4, { write: true });
  assert.equal(mapping.size, PADDED);
  await mapping.write(8n, Uint8Array.of(5, 6, 7, 8));
  assert.deepEqual(await lease.read(ADDRESS, 4, 8n, 4), Uint8Array.of(5, 6, 7, 8));
  const view = new Uint8Array(mapping.view(0n, 4096));
  assert.equal(view[9], 6);
  await lease.closeDescriptors();
  assert.deepEqual(await mapping.read(8n, 2), Uint8Array.of(5, 6), "a mapping outlives the descriptors");
  await assert.rejects(lease.read(ADDRESS, 4, 0n, 1), /after it was closed/);
  await lease.release();
  assert.equal(view.length, 0, "release detaches every view");
  await settles(before + CHANNEL);
});

interface Limit {
  readonly soft: string;
  readonly hard: string;
}

function limitOfOpenFiles(): Limit {
  const [soft = "", hard = ""] = execFileSync("prlimit", [`--pid=${process.pid}`, "--nofile", "--noheadings", "--output=SOFT,HARD"], {
    encoding: "utf8",
  })
    .trim()
    .split(/\s+/);
  return { soft, hard };
}

function limitOpenFiles(soft: number | string, hard: string): void {
  execFileSync("prlimit", [`--pid=${process.pid}`, `--nofile=${soft}:${hard}`], { stdio: "ignore" });
}

/** The least limit that leaves that many descriptor numbers free. */
function numberWithFreeBelow(free: number): number {
  const open = new Set(readdirSync("/proc/self/fd").map(Number));
  let number = 0;
  for (let left = free; left > 0; number++) if (!open.has(number)) left--;
  return number;
}
