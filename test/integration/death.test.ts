// Clients that die, hang up or stop at each point of their way: whatever they had comes back, and the daemon has exactly the descriptors that it had before. What ends a
// lease is the exit of its process, seen by its pidfd, and nothing else.

import assert from "node:assert/strict";
import { after, afterEach, before, describe, it } from "node:test";
import { ClientProcess } from "../harness/client-process.js";
import { DaemonProcess } from "../harness/daemon.js";
import { LeaseBench } from "../harness/lease-bench.js";

/** All that can be leased: one for each client of a round. */
const DEVICES = ["0000:02:00.0", "0000:41:01.0", "0000:41:01.1", "0009:01:00.0", "0019:01:00.0"] as const;
const ROUNDS = 2;

interface Point {
  readonly name: string;
  readonly words: readonly string[];
  /** What becomes of the device of a client that has closed its sockets or stopped, and not died. */
  readonly closed: "FREE" | "HELD";
  readonly stopped: "FREE" | "QUARANTINED" | "HELD";
  /** Descriptors of the daemon for a stopped client are as before. */
  readonly stoppedCostsNothing: boolean;
}

const CONNECT = ["connect"] as const;
const PREFACE = [...CONNECT, "preface"] as const;
const CHANNEL = [...PREFACE, "channel"] as const;
const ACQUIRE = [...CHANNEL, "acquire"] as const;
const OFFER = [...ACQUIRE, "offer"] as const;
const ACK = [...OFFER, "ack"] as const;

const POINTS: readonly Point[] = [
  { name: "connected", words: CONNECT, closed: "FREE", stopped: "FREE", stoppedCostsNothing: true },
  { name: "preface sent", words: PREFACE, closed: "FREE", stopped: "FREE", stoppedCostsNothing: true },
  { name: "channel attached", words: CHANNEL, closed: "FREE", stopped: "FREE", stoppedCostsNothing: false },
  // The offer lies unread in the channel of a process that will not read it.
  { name: "acquire running", words: ACQUIRE, closed: "FREE", stopped: "QUARANTINED", stoppedCostsNothing: false },
  { name: "offered, not acknowledged", words: OFFER, closed: "FREE", stopped: "QUARANTINED", stoppedCostsNothing: false },
  { name: "held", words: ACK, closed: "HELD", stopped: "HELD", stoppedCostsNothing: false },
  { name: "release running", words: [...ACK, "release"], closed: "FREE", stopped: "FREE", stoppedCostsNothing: false },
];

describe("[real processes, simulated host] the end of a client", () => {
  let daemon: DaemonProcess;
  let bench: LeaseBench;
  before(async () => {
    daemon = await DaemonProcess.start({
      config: "[limits]\nfirst_call_ms = 400\nack_ms = 300\nretry_min_ms = 100\nretry_max_ms = 100\n",
    });
    bench = await LeaseBench.at(daemon);
  });
  afterEach(async () => {
    await ClientProcess.killAll();
    await bench.allFree(DEVICES);
    await daemon.isAsBefore();
  });
  after(async () => {
    bench.close();
    await daemon.stop();
  });

  function startAll(): Promise<readonly ClientProcess[]> {
    return Promise.all(DEVICES.map(() => ClientProcess.start(daemon.socket)));
  }

  /** One client a device, all at this point of their way. */
  async function bringTo(point: Point, clients: readonly ClientProcess[]): Promise<void> {
    await Promise.all(
      DEVICES.map(async (address, i) => {
        for (const word of point.words) {
          await clients[i]?.must(word === "acquire" ? `acquire ${address}` : word);
          if (word === "ack") await bench.becomes(address, "HELD");
        }
      }),
    );
  }

  async function allBecome(state: string): Promise<void> {
    for (const address of DEVICES) await bench.becomes(address, state);
  }

  for (const point of POINTS) {
    it(`killed when ${point.name}, ${ROUNDS * DEVICES.length} times`, async () => {
      for (let round = 0; round < ROUNDS; round += 1) {
        const clients = await startAll();
        await bringTo(point, clients);
        for (const client of clients) await client.kill();
        await bench.allFree(DEVICES);
        await daemon.isAsBefore();
      }
    });

    it(`has closed its sockets when ${point.name}, comes again, is stopped there and killed, ${ROUNDS * DEVICES.length} times`, async () => {
      for (let round = 0; round < ROUNDS; round += 1) {
        const clients = await startAll();
        await bringTo(point, clients);
        for (const client of clients) await client.must("close");
        await allBecome(point.closed);
        // Its process lives on, and so does what it holds.
        if (point.closed === "HELD") await bench.releaseAll();
        await daemon.isAsBefore();

        await bringTo(point, clients);
        for (const client of clients) client.signal("SIGSTOP");
        await allBecome(point.stopped);
        if (point.stoppedCostsNothing) await daemon.isAsBefore();
        for (const client of clients) await client.kill();
        await bench.allFree(DEVICES);
        await daemon.isAsBefore();
      }
    });
  }

  it("is its exit, although a child has inherited both sockets and lives on", async () => {
    const children: number[] = [];
    try {
      for (const point of POINTS.filter(({ name }) => ["channel attached", "offered, not acknowledged", "held"].includes(name))) {
        const clients = await startAll();
        await bringTo(point, clients);
        for (const client of clients) children.push(Number((await client.must("child"))["pid"]));
        const begin = performance.now();
        for (const client of clients) await client.kill();
        await bench.allFree(DEVICES);
        // The sockets are open in the children: nothing but the exit has told the daemon.
        await daemon.isAsBefore();
        const took = performance.now() - begin;
        assert.ok(took < 5_000, `${point.name}: ${Math.round(took)} ms`);
        for (const pid of children) assert.doesNotThrow(() => process.kill(pid, 0), "the child is alive");
      }
    } finally {
      for (const pid of children) process.kill(pid, "SIGKILL");
    }
  });

  it("frees no device of which a child still has the descriptors, unread in an inherited socket, until that is gone as well", async () => {
    const [client] = await startAll();
    for (const word of [...CHANNEL, `acquire ${DEVICES[0]}`]) await client?.must(word);
    await bench.becomes(DEVICES[0], "OFFERED");
    const pid = Number((await client?.must("child"))?.["pid"]);
    try {
      await client?.kill();
      await bench.becomes(DEVICES[0], "QUARANTINED");
      await daemon.isAsBefore();
    } finally {
      process.kill(pid, "SIGKILL");
    }
    await bench.becomes(DEVICES[0], "FREE");
  });

  it("right after its acknowledgement is a death, and no frame of somebody else", async () => {
    const other = await DaemonProcess.start();
    const there = await LeaseBench.at(other);
    const client = await ClientProcess.start(other.socket);
    for (const word of [...CHANNEL, `acquire ${DEVICES[0]}`]) await client.must(word);
    const { lease } = await client.must("offer");
    // The daemon reads the frame when its sender is gone.
    other.signal("SIGSTOP");
    await client.must("ack");
    await client.kill();
    other.signal("SIGCONT");
    assert.equal(await there.endOf(String(lease)), "HOLDER_DIED");
    assert.match(await other.metrics(), /^aperture_peer_rejections_total\{reason="FOREIGN_SENDER"\} 0$/m);
    there.close();
    await other.stop();
  });
});
