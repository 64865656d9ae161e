// The plain calls: sockets, frames with descriptors, processes, memfds.

import assert from "node:assert/strict";
import { existsSync, lstatSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import { native, PollColumn, PollEvent } from "../../../src/native.js";
import { until } from "../../harness/until.js";
import { inFolder, leavesNoDescriptor, must, PeerProcess, refused } from "./support.js";

const O_CLOEXEC = 0o2000000;

function flags(fd: number): number {
  return Number.parseInt(/^flags:\s+(\d+)$/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, "utf8"))?.[1] ?? "", 8);
}

/** Two connected SEQPACKET sockets of this process: an accepted one (which the poller made ask for credentials) and a client's. */
async function withPair(body: (accepted: number, client: number) => void | Promise<void>): Promise<void> {
  await inFolder(async (folder) => {
    await leavesNoDescriptor(async () => {
      const [listener] = must(native.listenUnix("seqpacket", folder, "s", 0o600, -1, 4));
      const accepted: number[] = [];
      const poller = new native.Poller((count) => {
        for (let row = 0; row < count; row += 1) {
          const columns = poller.buffers.rows.subarray(row * PollColumn.width, (row + 1) * PollColumn.width);
          assert.equal(columns[PollColumn.kind], PollEvent.accepted);
          accepted.push(columns[PollColumn.a] ?? -1);
          native.closeDescriptor(columns[PollColumn.e] ?? -1);
        }
      });
      must(poller.addListener(listener, 1));
      const client = must(native.connectSeqpacket(join(folder, "s")));
      const [fd = -1] = await until(
        "a connection",
        () => accepted,
        (fds) => fds.length === 1,
      );
      poller.close();
      await body(fd, client);
      for (const number of [fd, client]) native.closeDescriptor(number);
    });
  });
}

describe("[real kernel] frames", () => {
  const frame = Uint8Array.from({ length: 20 }, (_, i) => i);

  it("arrive with their descriptors, close-on-exec, as open files of the receiver's own", async () => {
    await withPair((near, far) => {
      const memory = must(native.memfdCreate("sent", 4096n));
      must(native.sendFrame(near, frame, [memory, near, memory]));
      const got = must(native.receiveFrame(far, 64, 3));
      assert.deepEqual(got.frame, frame);
      assert.equal(got.truncated, false);
      assert.equal(got.descriptors.length, 3);
      for (const fd of [...got.descriptors]) {
        assert.equal(flags(fd) & O_CLOEXEC, O_CLOEXEC);
        native.closeDescriptor(fd);
      }
      native.closeDescriptor(memory);
    });
  });

  it("with more descriptors than wanted are truncated, and none stays", async () => {
    await withPair((near, far) => {
      for (const [sent, room] of [
        [1, 0],
        [2, 1], // the kernel's rounding has room for both
        [3, 1],
        [32, 31],
        [253, 32],
      ] as const) {
        must(native.sendFrame(near, frame, new Array<number>(sent).fill(near)));
        assert.deepEqual(must(native.receiveFrame(far, 64, room)), { frame, descriptors: [], truncated: true });
      }
    });
  });

  it("longer than wanted are an error, and their descriptors closed", async () => {
    await withPair((near, far) => {
      must(native.sendFrame(near, frame, [near]));
      const error = refused(native.receiveFrame(far, 19, 1));
      assert.deepEqual([error.operation, error.errno, error.code], ["recvmsg", 0, "BAD_ANSWER"]);
      must(native.sendFrame(near, frame, []));
      assert.equal(must(native.receiveFrame(far, 20, 1)).frame.length, 20);
    });
  });

  it("none there, none any more, none taken", async () => {
    await withPair((near, far) => {
      assert.equal(refused(native.receiveFrame(far, 64, 1)).code, "EAGAIN");
      let sent = 0;
      while (native.sendFrame(near, frame, []).error === null) sent += 1;
      assert.equal(refused(native.sendFrame(near, frame, [])).code, "EAGAIN");
      for (let i = 0; i < sent; i += 1) must(native.receiveFrame(far, 64, 0));
      assert.equal(refused(native.sendFrame(999_999, frame, [])).code, "EBADF");
      const dead = must(native.duplicate(near));
      native.closeDescriptor(dead);
    });
  });
});

describe("[real kernel] onReadable", () => {
  const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

  it("calls back once, for data and for the end", async () => {
    await withPair(async (near, far) => {
      let calls = 0;
      const first = new Promise<void>((resolve) => {
        native.onReadable(far, () => {
          calls += 1;
          resolve();
        });
      });
      await turn();
      assert.equal(calls, 0);
      must(native.sendFrame(near, Uint8Array.of(1), []));
      await first;
      await turn();
      await turn();
      assert.equal(calls, 1); // although the frame is still there
      must(native.receiveFrame(far, 64, 0));
      const end = new Promise<void>((resolve) => void native.onReadable(far, resolve));
      const other = must(native.duplicate(near));
      native.closeDescriptor(other);
      must(native.sendFrame(near, Uint8Array.of(2), []));
      await end;
    });
  });

  it("can be cancelled, in its own callback too, and twice", async () => {
    await withPair(async (near, far) => {
      let calls = 0;
      const cancels = [native.onReadable(far, () => assert.fail("cancelled")), native.onReadable(far, () => assert.fail("cancelled"))];
      const cancelOwn = native.onReadable(far, () => {
        calls += 1;
        cancelOwn();
      });
      for (const cancel of [...cancels, ...cancels]) cancel();
      must(native.sendFrame(near, Uint8Array.of(1), []));
      await until(
        "the call",
        () => calls,
        (count) => count === 1,
      );
      await turn();
      assert.equal(calls, 1);
    });
  });

  it("sees a peer that hangs up, and refuses what cannot be waited for", async () => {
    await inFolder(async (folder) => {
      await leavesNoDescriptor(async () => {
        const [listener] = must(native.listenUnix("seqpacket", folder, "s", 0o600, -1, 4));
        const client = must(native.connectSeqpacket(join(folder, "s")));
        const hungUp = new Promise<void>((resolve) => void native.onReadable(client, resolve));
        native.closeDescriptor(listener);
        await hungUp;
        native.closeDescriptor(client);
        const memory = must(native.memfdCreate("file", 1n));
        assert.throws(() => native.onReadable(memory, () => {}), /cannot poll descriptor \d+: EPERM/);
        assert.throws(() => native.onReadable(999_999, () => {}), /descriptor 999999: EBADF/);
        native.closeDescriptor(memory);
      });
    });
  });
});

describe("[real processes] processes", () => {
  it("a pidfd tells life from death, its inode one process from another", async () => {
    await leavesNoDescriptor(async () => {
      const peers = [new PeerProcess(), new PeerProcess()];
      const pidfds = peers.map((peer) => must(native.pidfdOpen(peer.pid)));
      const again = must(native.pidfdOpen(peers[0]?.pid ?? -1));
      const [a, b, c] = [...pidfds, again].map((fd) => native.pidfdInode(fd));
      if (a !== null) {
        assert.equal(a, c);
        assert.notEqual(a, b);
      }
      assert.deepEqual(
        pidfds.map((fd) => native.isAlive(fd)),
        [true, true],
      );
      await peers[0]?.kill();
      assert.deepEqual(
        pidfds.map((fd) => native.isAlive(fd)),
        [false, true],
      );
      await peers[1]?.end();
      for (const fd of [...pidfds, again]) native.closeDescriptor(fd);
    });
  });

  it("a number without a process, and descriptors that are none", () => {
    assert.deepEqual(refused(native.pidfdOpen(0x7ffffff0)), {
      operation: "pidfd_open",
      errno: 3,
      code: "ESRCH",
      subject: `process ${0x7ffffff0}`,
    });
    assert.equal(native.isAlive(999_999), false);
    assert.equal(native.pidfdInode(999_999), null);
    const file = must(native.memfdCreate("file", 1n));
    assert.equal(native.pidfdInode(file), null);
    assert.equal(refused(native.peerCredentials(file)).code, "ENOTSOCK");
    native.closeDescriptor(file);
  });

  it("a memfd is shared as long as a copy is on its way or held by somebody", async () => {
    await inFolder(async (folder) => {
      await leavesNoDescriptor(async () => {
        const [listener] = must(native.listenUnix("seqpacket", folder, "s", 0o600, -1, 4));
        const peer = new PeerProcess();
        const channels: number[] = [];
        const poller = new native.Poller(() => {
          const { rows } = poller.buffers;
          channels.push(rows[PollColumn.a] ?? -1);
          native.closeDescriptor(rows[PollColumn.e] ?? -1);
        });
        must(poller.addListener(listener, 1));
        await peer.does("connect", join(folder, "s"));
        const [channel = -1] = await until(
          "a connection",
          () => channels,
          (fds) => fds.length === 1,
        );
        const memory = must(native.memfdCreate("shared", 4096n));
        assert.equal(must(native.memfdShared(memory)), false);
        for (const access of ["read", "readwrite"] as const) {
          const copy = must(native.reopen(memory, access));
          must(native.sendFrame(channel, Uint8Array.of(1), [copy]));
          native.closeDescriptor(copy);
          assert.equal(must(native.memfdShared(memory)), true);
          assert.equal(((await peer.say("receive")) as { descriptors: number }).descriptors, 1); // which closes it
          assert.equal(must(native.memfdShared(memory)), false);
        }
        const copy = must(native.reopen(memory, "readwrite"));
        must(native.sendFrame(channel, Uint8Array.of(1), [copy]));
        native.closeDescriptor(copy);
        await peer.kill();
        assert.equal(must(native.memfdShared(memory)), false);
        poller.close();
        for (const fd of [channel, memory]) native.closeDescriptor(fd);
      });
    });
  });
});

describe("[real kernel] sockets and descriptors", () => {
  it("listenUnix refuses each kind of neighbour with its own code and removes none", async () => {
    await inFolder(async (folder) => {
      await leavesNoDescriptor(() => {
        const listen = (name: string) => native.listenUnix("stream", folder, name, 0o640, -1, 4);
        const [fd, inode] = must(listen("live"));
        assert.equal(BigInt(lstatSync(join(folder, "live"), { bigint: true }).ino), inode);
        assert.equal(lstatSync(join(folder, "live")).mode & 0o7777, 0o640);
        assert.deepEqual(refused(listen("live")), { operation: "bind", errno: 98, code: "EADDRINUSE", subject: join(folder, "live") });
        if (!existsSync(join(folder, "file"))) {
          writeFileSync(join(folder, "file"), "mine");
          symlinkSync("live", join(folder, "link"));
        }
        assert.equal(refused(listen("file")).code, "FOREIGN_FILE");
        assert.equal(readFileSync(join(folder, "file"), "utf8"), "mine");
        assert.equal(refused(listen("link")).code, "IS_SYMLINK");
        assert.equal(refused(native.listenUnix("stream", "/tmp", "x", 0o600, -1, 1)).code, "UNSAFE_DIRECTORY");
        native.closeDescriptor(fd);
        // Dead now, so the next one may have the place; and the old inode does not remove the new socket.
        const [next, nextInode] = must(listen("live"));
        if (nextInode !== inode) must(native.unlinkSocket(folder, "live", inode));
        assert.equal(existsSync(join(folder, "live")), true);
        must(native.unlinkSocket(folder, "live", nextInode));
        assert.equal(existsSync(join(folder, "live")), false);
        native.closeDescriptor(next);
      });
    });
  });

  it("connectSeqpacket: no socket, the wrong type, a full backlog", async () => {
    await inFolder(async (folder) => {
      await leavesNoDescriptor(() => {
        assert.equal(refused(native.connectSeqpacket(join(folder, "none"))).code, "ENOENT");
        assert.equal(refused(native.connectSeqpacket(join(folder, "no/such/folder"))).operation, "open");
        const [stream] = must(native.listenUnix("stream", folder, "stream", 0o600, -1, 1));
        assert.equal(refused(native.connectSeqpacket(join(folder, "stream"))).code, "EPROTOTYPE");
        const [listener] = must(native.listenUnix("seqpacket", folder, "s", 0o600, -1, 1));
        const clients: number[] = [];
        let answer = native.connectSeqpacket(join(folder, "s"));
        for (; answer.error === null; answer = native.connectSeqpacket(join(folder, "s"))) clients.push(answer.value);
        assert.equal(answer.error.code, "EAGAIN");
        for (const fd of [stream, listener, ...clients]) native.closeDescriptor(fd);
        assert.equal(refused(native.connectSeqpacket(join(folder, "s"))).code, "ECONNREFUSED");
      });
    });
  });

  it("what is made is close-on-exec; duplicate is the same open file, reopen another, inherit lets a child have it", async () => {
    await leavesNoDescriptor(() => {
      const memory = must(native.memfdCreate("flags", 4096n));
      const made = [memory, must(native.eventfdCreate()), must(native.duplicate(memory)), must(native.reopen(memory, "read"))];
      for (const fd of made) assert.equal(flags(fd) & O_CLOEXEC, O_CLOEXEC);
      must(native.inherit(memory));
      assert.equal(flags(memory) & O_CLOEXEC, 0);
      assert.equal(flags(made[3] ?? -1) & 3, 0);
      for (const fd of made) must(native.closeDescriptor(fd));
      assert.deepEqual(refused(native.closeDescriptor(memory)), {
        operation: "close",
        errno: 9,
        code: "EBADF",
        subject: `descriptor ${memory}`,
      });
      for (const call of [native.duplicate, native.inherit]) assert.equal(refused<unknown>(call(999_999)).code, "EBADF");
      assert.equal(refused(native.reopen(999_999, "read")).code, "ENOENT");
    });
  });

  it("a memfd keeps its size", () => {
    const memory = must(native.memfdCreate("size", 1n << 40n));
    const path = `/proc/self/fd/${memory}`;
    assert.throws(() => writeFileSync(path, "", { flag: "w" }), /EPERM/); // O_TRUNC
    native.closeDescriptor(memory);
    assert.equal(refused(native.memfdCreate("x".repeat(250), 1n)).code, "EINVAL");
  });

  it("nofileLimit says what the kernel says", () => {
    const found = /^Max open files\s+(\d+|unlimited)\s+(\d+|unlimited)/m.exec(readFileSync("/proc/self/limits", "utf8"));
    const number = (text: string | undefined): bigint => (text === "unlimited" ? (1n << 64n) - 1n : BigInt(text ?? "-1"));
    assert.deepEqual(must(native.nofileLimit()), [number(found?.[1]), number(found?.[2])]);
  });
});
