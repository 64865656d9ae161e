// The poller, with peers in processes of their own.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { writeSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import { native, PollColumn, PollEvent, type Poller } from "../../../src/native.js";
import { until } from "../../harness/until.js";
import { inFolder, leavesNoDescriptor, must, PEER, PeerProcess, refused, Script } from "./support.js";

const LISTENER = 1;

type Kind = keyof typeof PollEvent;

interface Event {
  readonly kind: Kind;
  readonly id: number;
  /** Columns a to e. */
  readonly columns: readonly number[];
  readonly text: string;
  readonly batch: number;
}

function writeEventfd(fd: number, value: bigint): void {
  writeSync(fd, new BigUint64Array([value]));
}

function kindOf(value: number): Kind {
  const found = Object.entries(PollEvent).find(([, number]) => number === value);
  assert.ok(found, `kind ${value}`);
  return found[0] as Kind;
}

/** A poller that writes down what it reports. */
class Recorder {
  readonly poller: Poller;
  readonly events: Event[] = [];
  batches = 0;
  /** Called after a row was written down, in the batch. */
  during: (event: Event) => void = () => {};

  constructor() {
    this.poller = new native.Poller((count) => {
      this.batches += 1;
      for (let row = 0; row < count; row += 1) this.#take(row);
    });
  }

  #take(row: number): void {
    const { rows, frames } = this.poller.buffers;
    const at = row * PollColumn.width;
    if (rows[at] === 0) return;
    const kind = kindOf(rows[at] ?? -1);
    const columns = Array.from(rows.subarray(at + PollColumn.a, at + PollColumn.width));
    const begin = row * this.poller.frameBytes;
    const text = kind === "frame" ? Buffer.from(frames.subarray(begin, begin + (columns[0] ?? 0))).toString() : "";
    const event = { kind, id: rows[at + PollColumn.id] ?? -1, columns, text, batch: this.batches };
    this.events.push(event);
    this.during(event);
  }

  /** Waits for the next event that nobody has waited for yet. */
  async next(): Promise<Event> {
    await until(
      "an event",
      () => this.events.length,
      (length) => length > 0,
    );
    const event = this.events.shift();
    assert.ok(event);
    return event;
  }

  async nextIs(kind: Kind, id: number): Promise<Event> {
    const event = await this.next();
    assert.deepEqual({ kind: event.kind, id: event.id }, { kind, id }, JSON.stringify(event));
    return event;
  }

  listen(folder: string, backlog = 128): string {
    const [fd] = must(native.listenUnix("seqpacket", folder, "s", 0o666, -1, backlog));
    must(this.poller.addListener(fd, LISTENER));
    return join(folder, "s");
  }

  /** Turns an accepted event into a channel. */
  channel(event: Event, id: number): void {
    const [fd = -1, pid = -1, uid = -1, , pidfd = -1] = event.columns;
    must(this.poller.addChannel(fd, id, pid, uid >>> 0, pidfd));
    native.closeDescriptor(pidfd);
  }

  async connect(peer: PeerProcess, path: string, id: number): Promise<Event> {
    await peer.does("connect", path);
    const event = await this.nextIs("accepted", LISTENER);
    this.channel(event, id);
    return event;
  }
}

/** A recorder, a listener and one peer; everything closed afterwards, and no descriptor left. */
async function withPeer(body: (recorder: Recorder, peer: PeerProcess, path: string) => Promise<void>): Promise<void> {
  await inFolder(async (folder) => {
    await leavesNoDescriptor(async () => {
      const recorder = new Recorder();
      const peer = new PeerProcess();
      try {
        await body(recorder, peer, recorder.listen(folder));
      } finally {
        recorder.poller.close();
        await peer.end();
      }
    });
  });
}

describe("[real processes] Poller", () => {
  it("accepts with the facts of the peer", async () => {
    await withPeer(async (recorder, peer, path) => {
      await peer.does("connect", path);
      const { columns } = await recorder.nextIs("accepted", LISTENER);
      const [fd = -1, pid, uid, gid, pidfd = -1] = columns;
      assert.deepEqual([pid, uid, gid], [peer.pid, process.getuid?.(), process.getgid?.()]);
      assert.equal(native.isAlive(pidfd), true);
      const asked = must(native.peerCredentials(fd));
      assert.equal(native.pidfdInode(asked.pidfd), native.pidfdInode(pidfd));
      await peer.kill();
      assert.equal(native.isAlive(pidfd), false);
      for (const number of [fd, pidfd, asked.pidfd]) native.closeDescriptor(number);
    });
  });

  it("a peer that is dead by then is not reported", async () => {
    await withPeer(async (recorder, peer, path) => {
      // The loop of this process stands still meanwhile.
      for (let i = 0; i < 3; i += 1) assert.equal(spawnSync(process.execPath, [PEER, "connect", path]).status, 0);
      await peer.does("connect", path);
      const { columns } = await recorder.nextIs("accepted", LISTENER);
      assert.equal(columns[1], peer.pid);
      for (const fd of [columns[0] ?? -1, columns[4] ?? -1]) native.closeDescriptor(fd);
      assert.deepEqual(recorder.events, []);
    });
  });

  it("another user's process is itself", { skip: process.getuid?.() !== 0 }, async () => {
    await inFolder(async (folder) => {
      await leavesNoDescriptor(async () => {
        const recorder = new Recorder();
        const path = recorder.listen(folder);
        const peer = new PeerProcess(65534);
        const { columns } = await recorder.connect(peer, path, 7);
        assert.deepEqual(columns.slice(1, 4), [peer.pid, 65534, 65534]);
        await peer.does("send", "hello");
        assert.equal((await recorder.nextIs("frame", 7)).columns[1], 1);
        recorder.poller.close();
        await peer.end();
      });
    });
  });

  it("carries frames both ways, with descriptors to the peer", async () => {
    await withPeer(async (recorder, peer, path) => {
      await recorder.connect(peer, path, 7);
      await peer.does("send", "attach");
      const event = await recorder.nextIs("frame", 7);
      assert.deepEqual([event.text, event.columns[1]], ["attach", 1]);

      const { poller } = recorder;
      const memory = must(native.memfdCreate("out", 4096n));
      // Three rows: one that goes out, one to nobody, one without bytes.
      const send = (row: number, id: number, text: string, count: number): void => {
        poller.buffers.out.set([id, text.length, count, -1], row * 4);
        poller.buffers.outFrames.set(Buffer.from(text), row * poller.frameBytes);
        for (let i = 0; i < count; i += 1) poller.buffers.outDescriptors[row * poller.maxDescriptors + i] = memory;
      };
      send(0, 7, "offer", poller.maxDescriptors);
      send(1, 8, "nobody", 0);
      send(2, 7, "", 0);
      send(3, 7, "too many", poller.maxDescriptors + 1);
      poller.flush(4);
      assert.deepEqual(
        [3, 7, 11, 15].map((i) => poller.buffers.out[i]),
        [0, 9, 22, 22],
      );
      assert.deepEqual(await peer.say("receive"), { text: "offer", descriptors: 32, truncated: false });
      assert.equal(await peer.say("receive"), "EAGAIN");
      native.closeDescriptor(memory);
      assert.throws(() => poller.flush(65), RangeError);
    });
  });

  it("knows who sent what was sent before the channel was there", async () => {
    await withPeer(async (recorder, peer, path) => {
      // In the backlog, before accept; and accepted, before addChannel.
      let held: Event | null = null;
      recorder.during = (event) => {
        if (event.kind === "accepted") held = event;
      };
      await peer.does("connect", path);
      await peer.does("send", "before accept or just after");
      await recorder.nextIs("accepted", LISTENER);
      await peer.does("send", "before addChannel");
      assert.ok(held);
      recorder.channel(held, 7);
      for (const text of ["before accept or just after", "before addChannel"]) {
        const event = await recorder.nextIs("frame", 7);
        assert.deepEqual([event.text, event.columns[1]], [text, 1]);
      }
    });
  });

  it("tells a frame that another process sent over the same socket", async () => {
    await withPeer(async (recorder, peer, path) => {
      await recorder.connect(peer, path, 7);
      assert.equal(await peer.say("sendFromChild", "borrowed"), 0);
      const borrowed = await recorder.nextIs("frame", 7);
      assert.deepEqual([borrowed.text, borrowed.columns[1]], ["borrowed", 0]);
      await peer.does("send", "own");
      assert.equal((await recorder.nextIs("frame", 7)).columns[1], 1);
    });
  });

  it("a frame of a process that has died since is foreign", async () => {
    await withPeer(async (recorder, peer, path) => {
      await peer.does("connect", path);
      const accepted = await recorder.nextIs("accepted", LISTENER);
      await peer.does("send", "last words");
      await peer.kill();
      recorder.channel(accepted, 7);
      const event = await recorder.nextIs("frame", 7);
      assert.deepEqual([event.text, event.columns[1]], ["last words", 0]);
      assert.deepEqual((await recorder.nextIs("hangup", 7)).columns[0], 0);
    });
  });

  it("in one batch only the frames of the dead are foreign", async () => {
    await withPeer(async (recorder, peer, path) => {
      const [first, last] = [new PeerProcess(), new PeerProcess()];
      const accepted: Event[] = [];
      for (const each of [first, peer, last]) {
        await each.does("connect", path);
        accepted.push(await recorder.nextIs("accepted", LISTENER));
        await each.does("send", "hello");
      }
      for (const each of [first, last]) await each.kill();
      for (const [i, event] of accepted.entries()) recorder.channel(event, 7 + i);
      const frames = [await recorder.next(), await recorder.next(), await recorder.next()];
      assert.deepEqual(frames.map(({ kind, id, columns }) => [kind, id, columns[1]]).sort(), [
        ["frame", 7, 0],
        ["frame", 8, 1],
        ["frame", 9, 0],
      ]);
      assert.equal(new Set(frames.map(({ batch }) => batch)).size, 1);
      for (const id of [7, 9]) await recorder.nextIs("hangup", id);
    });
  });

  it("the wrong pid or uid at addChannel, or the pidfd of a process that is dead, makes every frame foreign", async () => {
    await withPeer(async (recorder, peer, path) => {
      const other = new PeerProcess();
      const dead = must(native.pidfdOpen(other.pid));
      await other.kill();
      for (const [id, pid, uid, pidfd, expected] of [
        [7, 1, 0, null, 0],
        [8, 0, 1, null, 0],
        [9, 0, 0, dead, 0],
        [10, 0, 0, null, 1],
      ] as const) {
        await peer.does("connect", path);
        const [fd = -1, realPid = -1, realUid = -1, , realPidfd = -1] = (await recorder.nextIs("accepted", LISTENER)).columns;
        must(recorder.poller.addChannel(fd, id, realPid + pid, (realUid >>> 0) + uid, pidfd ?? realPidfd));
        native.closeDescriptor(realPidfd);
        await peer.does("send", "hello");
        assert.equal((await recorder.nextIs("frame", id)).columns[1], expected);
        recorder.poller.remove(id);
        await peer.does("close");
      }
      native.closeDescriptor(dead);
    });
  });

  it("descriptors, long frames: violation, all closed, nothing of the id afterwards", async () => {
    for (const [command, argument] of [
      ["sendDescriptors", "1"],
      ["sendDescriptors", "2"],
      ["sendDescriptors", "3"],
      ["sendDescriptors", "253"],
      ["sendLong", "2049"],
    ] as const) {
      await withPeer(async (recorder, peer, path) => {
        await recorder.connect(peer, path, 7);
        await peer.does("send", "before");
        await peer.does(command, argument);
        // Fails when the poller was faster.
        await peer.say("send", "after");
        assert.equal((await recorder.nextIs("frame", 7)).text, "before");
        assert.equal((await recorder.nextIs("violation", 7)).columns[0], 71);
        // The channel is closed and the id free.
        assert.match(String(await peer.say("send", "more")), /^(EPIPE|ECONNRESET)$/);
        recorder.poller.buffers.out.set([7, 1, 0, 0]);
        recorder.poller.flush(1);
        assert.equal(recorder.poller.buffers.out[3], 9);
        assert.deepEqual(recorder.events, []);
      });
    }
  });

  it("the longest frame passes", async () => {
    await withPeer(async (recorder, peer, path) => {
      await recorder.connect(peer, path, 7);
      await peer.does("sendLong", "2048");
      assert.equal((await recorder.nextIs("frame", 7)).columns[0], 2048);
    });
  });

  it("end of file is a hangup, the exit of the process another event", async () => {
    await withPeer(async (recorder, peer, path) => {
      await peer.does("connect", path);
      const accepted = await recorder.nextIs("accepted", LISTENER);
      must(recorder.poller.watchExit(accepted.columns[4] ?? -1, 100));
      recorder.channel(accepted, 7); // closes the pidfd: the watch has its own
      await peer.does("close");
      assert.equal((await recorder.nextIs("hangup", 7)).columns[0], 0);
      await peer.kill();
      await recorder.nextIs("exited", 100);
      assert.deepEqual(recorder.events, []);
    });
  });

  it("the exit is seen although the socket lives on in another process", async () => {
    await withPeer(async (recorder, peer, path) => {
      await peer.does("connect", path);
      const accepted = await recorder.nextIs("accepted", LISTENER);
      must(recorder.poller.watchExit(accepted.columns[4] ?? -1, 100));
      recorder.channel(accepted, 7);
      const heir = Number(await peer.say("leaveSocketBehind"));
      await peer.kill();
      await recorder.nextIs("exited", 100);
      assert.deepEqual(recorder.events, []); // no hangup
      process.kill(heir, "SIGKILL");
      await recorder.nextIs("hangup", 7);
    });
  });

  it("watches one process several times, and one that has exited already", async () => {
    await leavesNoDescriptor(async () => {
      const recorder = new Recorder();
      const peer = new PeerProcess();
      const pidfd = must(native.pidfdOpen(peer.pid));
      for (const id of [1, 2, 3]) must(recorder.poller.watchExit(pidfd, id));
      recorder.poller.remove(2);
      await peer.kill();
      const seen = [(await recorder.next()).id, (await recorder.next()).id];
      assert.deepEqual(seen.sort(), [1, 3]);
      must(recorder.poller.watchExit(pidfd, 4));
      await recorder.nextIs("exited", 4);
      native.closeDescriptor(pidfd);
      recorder.poller.close();
    });
  });

  it("reports an eventfd with its counter, again and again", async () => {
    await leavesNoDescriptor(async () => {
      const recorder = new Recorder();
      const fd = must(native.eventfdCreate());
      must(recorder.poller.watchEventfd(fd, 5));
      for (const value of [1n, 41n, (5n << 31n) + 3n]) {
        writeEventfd(fd, value);
        assert.equal((await recorder.nextIs("signalled", 5)).columns[0], Number(value & 0x7fffffffn));
      }
      native.closeDescriptor(fd);
      recorder.poller.close();
    });
  });

  it("64 at most in one batch, every source in it, in order for each channel", async () => {
    await inFolder(async (folder) => {
      await leavesNoDescriptor(async () => {
        const recorder = new Recorder();
        const path = recorder.listen(folder);
        recorder.during = (event) => {
          if (event.kind === "accepted") recorder.channel(event, 100 + event.batch * 64 + recorder.events.length);
        };
        // Clients in this process: while it writes, its loop does not run, so everything is ready at once.
        const clients = Array.from({ length: 30 }, () => must(native.connectSeqpacket(path)));
        await until(
          "connections",
          () => recorder.events.length,
          (length) => length === 30,
        );
        recorder.events.length = 0;
        const texts = Array.from({ length: 12 }, (_, i) => `${i}`);
        for (const text of texts) for (const client of clients) must(native.sendFrame(client, Buffer.from(text), []));
        const before = recorder.batches;
        await until(
          "frames",
          () => recorder.events.length,
          (length) => length === 360,
        );
        const ids = [...new Set(recorder.events.map((event) => event.id))];
        assert.equal(ids.length, 30);
        for (const id of ids) {
          const own = recorder.events.filter((event) => event.id === id);
          assert.deepEqual(
            own.map((event) => event.text),
            texts,
          );
          assert.equal(own[0]?.batch, before + 1); // however loud the others are
        }
        for (let batch = before + 1; batch <= recorder.batches; batch += 1) {
          assert.ok(recorder.events.filter((event) => event.batch === batch).length <= recorder.poller.batchSize);
        }
        recorder.poller.close();
        for (const client of clients) native.closeDescriptor(client);
      });
    });
  });

  it("100 sources ready at once: full batches, everybody served", async () => {
    await leavesNoDescriptor(async () => {
      const recorder = new Recorder();
      const fds = Array.from({ length: 100 }, () => must(native.eventfdCreate()));
      for (const [i, fd] of fds.entries()) {
        must(recorder.poller.watchEventfd(fd, i));
        writeEventfd(fd, 1n);
      }
      await until(
        "events",
        () => recorder.events.length,
        (length) => length === 100,
      );
      assert.deepEqual(
        recorder.events.map((event) => event.id).sort((a, b) => a - b),
        fds.map((_, i) => i),
      );
      assert.deepEqual(
        [1, 2].map((batch) => recorder.events.filter((event) => event.batch === batch).length),
        [64, 36],
      );
      for (const fd of fds) native.closeDescriptor(fd);
      recorder.poller.close();
    });
  });

  it("an id removed in a batch is not heard of again, not even later in that batch", async () => {
    await leavesNoDescriptor(async () => {
      const recorder = new Recorder();
      const fds = Array.from({ length: 40 }, () => must(native.eventfdCreate()));
      for (const [i, fd] of fds.entries()) {
        must(recorder.poller.watchEventfd(fd, i));
        writeEventfd(fd, 1n);
      }
      recorder.during = (first) => {
        recorder.during = () => {};
        for (let id = 0; id < 40; id += 1) if (id !== first.id && id % 2 === 0) recorder.poller.remove(id);
      };
      const survivors = (count: number): boolean => count >= 20;
      await until("events", () => recorder.events.length, survivors);
      const first = recorder.events[0]?.id ?? -1;
      assert.deepEqual(
        recorder.events.map((event) => event.id).sort((a, b) => a - b),
        fds.map((_, i) => i).filter((i) => i === first || i % 2 === 1),
      );
      for (const fd of fds) writeEventfd(fd, 1n);
      recorder.events.length = 0;
      await until("events", () => recorder.events.length, survivors);
      assert.equal(
        recorder.events.every((event) => event.id === first || event.id % 2 === 1),
        true,
      );
      for (const fd of fds) native.closeDescriptor(fd);
      recorder.poller.close();
    });
  });

  it("close in a batch ends the batch", async () => {
    await leavesNoDescriptor(async () => {
      const recorder = new Recorder();
      const fds = Array.from({ length: 10 }, () => must(native.eventfdCreate()));
      for (const [i, fd] of fds.entries()) {
        must(recorder.poller.watchEventfd(fd, i));
        writeEventfd(fd, 1n);
      }
      recorder.during = () => recorder.poller.close();
      await until(
        "events",
        () => recorder.events.length,
        (length) => length > 0,
      );
      await new Promise((resolve) => setImmediate(resolve));
      assert.equal(recorder.events.length, 1);
      for (const fd of fds) native.closeDescriptor(fd);
    });
  });

  it("ids are taken once, sources of the wrong kind are refused and stay the caller's", async () => {
    await inFolder(async (folder) => {
      await leavesNoDescriptor(async () => {
        const recorder = new Recorder();
        const { poller } = recorder;
        const eventfd = must(native.eventfdCreate());
        must(poller.watchEventfd(eventfd, 3));
        assert.deepEqual(refused(poller.watchEventfd(eventfd, 3)), {
          operation: "Poller.watchEventfd",
          errno: 17,
          code: "EEXIST",
          subject: "id 3",
        });
        const [listener, inode] = must(native.listenUnix("seqpacket", folder, "s", 0o600, -1, 4));
        assert.equal(refused(poller.addListener(eventfd, 4)).code, "EINVAL");
        assert.equal(refused(poller.addListener(listener, 3)).code, "EEXIST");
        assert.equal(refused(poller.addChannel(eventfd, 4, 1, 0, -1)).code, "NOT_UNIX");
        assert.equal(refused(poller.addChannel(listener, 3, 1, 0, -1)).code, "EEXIST");
        assert.equal(refused(poller.watchExit(999_999, 4)).code, "EBADF");
        const nothing = must(native.duplicate(eventfd));
        for (const fd of [listener, eventfd, nothing]) must(native.closeDescriptor(fd));
        must(native.unlinkSocket(folder, "s", inode));
        poller.close();
        assert.equal(poller.close(), null);
        assert.deepEqual(refused(poller.watchEventfd(0, 9)), {
          operation: "Poller.watchEventfd",
          errno: 0,
          code: "CLOSED",
          subject: "id 9",
        });
        assert.equal(poller.remove(3), null);
        assert.throws(() => poller.flush(0), /closed/);
      });
    });
  });

  it("keeps the process alive until it is closed or told not to", async () => {
    for (const end of ["poller.ref(false);", "poller.close();", "poller.ref(false); poller.ref(true); poller.ref(false);"]) {
      const script = new Script(`const poller = new native.Poller(() => {}); ${end}`);
      assert.deepEqual(await script.ended(), { status: 0, signal: null, stdout: "" });
    }
    const script = new Script(`
      const { writeSync } = await import("node:fs");
      const poller = new native.Poller(() => { process.stdout.write("event\\n"); poller.close(); });
      const fd = native.eventfdCreate().value;
      poller.watchEventfd(fd, 1);
      // When the input is gone, the poller alone holds the process.
      process.stdin.resume().once("close", () => setTimeout(() => writeSync(fd, new BigUint64Array([1n])), 10).unref());
    `);
    assert.deepEqual(await script.ended(), { status: 0, signal: null, stdout: "event" });
  });

  it("a throwing callback is an uncaught exception, as of any event", async () => {
    const script = new Script(`
      process.on("uncaughtException", (error) => { process.stdout.write(error.message + "\\n"); poller.close(); });
      const poller = new native.Poller(() => { throw new Error("thrown in a batch"); });
      const { writeSync } = await import("node:fs");
      const fd = native.eventfdCreate().value;
      poller.watchEventfd(fd, 1);
      writeSync(fd, new BigUint64Array([1n]));
    `);
    assert.deepEqual(await script.ended(), { status: 0, signal: null, stdout: "thrown in a batch" });
  });

  it("out of descriptors: says so, sheds the one that waits, and serves the next when there are some again", async () => {
    await inFolder(async (folder) => {
      // A process of its own, because its limit would be ours.
      const script = new Script(
        `
        const say = (what) => process.stdout.write(JSON.stringify(what) + "\\n");
        const [listener] = native.listenUnix("seqpacket", ${JSON.stringify(folder)}, "s", 0o600, -1, 16).value;
        const poller = new native.Poller((count) => {
          for (let row = 0; row < count; row += 1) {
            const [kind, , a, , , , e] = poller.buffers.rows.subarray(row * 7, row * 7 + 7);
            say({ kind, errno: kind === 7 ? a : 0 });
            if (kind === 1) { native.closeDescriptor(a); native.closeDescriptor(e); poller.close(); process.stdin.destroy(); }
          }
        });
        poller.addListener(listener, 1);
        let full = [];
        process.stdin.on("data", (line) => {
          if (String(line).startsWith("fill")) {
            for (;;) { const fd = native.eventfdCreate(); if (fd.error) break; full.push(fd.value); }
            say("full");
          } else {
            for (const fd of full) native.closeDescriptor(fd);
            say("free");
          }
        });
        say("ready");
      `,
        { nofile: 100 },
      );
      assert.equal(await script.line(), '"ready"');
      script.say("fill");
      assert.equal(await script.line(), '"full"');
      const peer = new PeerProcess();
      await peer.does("connect", join(folder, "s"));
      assert.equal(await script.line(), '{"kind":7,"errno":24}');
      // Shed: end of file, not a connection that waits for ever.
      await until(
        "end of file",
        () => peer.say("receive"),
        (got) => typeof got === "object" || got === "ECONNRESET",
      );
      await peer.does("close");
      script.say("free");
      assert.equal(await script.line(), '"free"');
      await peer.does("connect", join(folder, "s"));
      assert.equal(await script.line(), '{"kind":1,"errno":0}');
      await peer.end();
      assert.equal((await script.ended()).status, 0);
    });
  });
});
