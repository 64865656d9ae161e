// The rules of a socket's path, asked of the real file system through the function that the daemon calls; test/integration/socket-path.test.ts asks the daemon itself.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { once } from "node:events";
import { chmodSync, chownSync, lstatSync, mkdirSync, readdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, it } from "node:test";
import { Worker } from "node:worker_threads";
import { native } from "../../../src/native.js";
import { type ListeningSocket, listenAt } from "../../../src/peer/socket-path.js";
import { socketFolder } from "../../harness/daemon.js";

const asRoot = process.geteuid?.() === 0;
const NEEDS_ROOT = asRoot ? false : "needs root for a second user";
const NOBODY = 65534;

function listen(path: string, mode = 0o660): ListeningSocket {
  const made = listenAt({ path, type: "stream", mode, gid: -1 });
  if (made.problem !== null) throw new Error(made.problem);
  return made.socket;
}

/** A socket that nobody listens on. */
function deadSocket(path: string): void {
  native.closeDescriptor(listen(path).fd);
}

/** Everything that would change if somebody touched the file. */
function identity(path: string): readonly (number | bigint)[] {
  const { ino, mode, uid, ctimeNs } = lstatSync(path, { bigint: true });
  return [ino, mode, uid, ctimeNs];
}

describe("[real file system] listenAt", () => {
  let folder: string;
  let path: string;
  beforeEach(() => {
    folder = socketFolder();
    path = join(folder, "a.sock");
  });
  afterEach(() => rmSync(folder, { recursive: true, force: true }));

  function refuses(expected: RegExp, at = path): void {
    const made = listenAt({ path: at, type: "stream", mode: 0o660, gid: -1 });
    if (made.socket !== null) assert.fail(`${at} was made`);
    assert.match(made.problem, expected);
  }

  const foreign: readonly (readonly [string, () => void, RegExp])[] = [
    ["a symbolic link to nothing", () => symlinkSync(join(folder, "elsewhere"), path), /a\.sock is a symbolic link .*Remove it/],
    [
      "a symbolic link to a dead socket of ours",
      () => {
        deadSocket(join(folder, "dead.sock"));
        symlinkSync(join(folder, "dead.sock"), path);
      },
      /a\.sock is a symbolic link/,
    ],
    ["a regular file", () => writeFileSync(path, "kept"), /a\.sock exists and is not a socket of this user .*nothing was changed/],
    ["a folder", () => mkdirSync(path), /exists and is not a socket of this user/],
    ["a fifo", () => assert.equal(spawnSync("mkfifo", [path]).status, 0), /exists and is not a socket of this user/],
    ["a live socket", () => void listen(path), /another daemon listens on .*Stop it first/],
  ];
  for (const [what, make, expected] of foreign) {
    it(`takes no name from ${what}, and changes nothing`, () => {
      make();
      const before = identity(path);
      const files = readdirSync(folder);
      refuses(expected);
      assert.deepEqual(identity(path), before);
      assert.deepEqual(readdirSync(folder), files);
    });
  }

  it("takes no name from another user's dead socket", { skip: NEEDS_ROOT }, () => {
    deadSocket(path);
    chownSync(path, NOBODY, NOBODY);
    const before = identity(path);
    refuses(/exists and is not a socket of this user/);
    assert.deepEqual(identity(path), before);
  });

  it("replaces a dead socket of its own", () => {
    deadSocket(path);
    const before = identity(path);
    native.closeDescriptor(listen(path).fd);
    assert.ok(lstatSync(path).isSocket());
    assert.notDeepEqual(identity(path), before);
    assert.deepEqual(readdirSync(folder), ["a.sock"]);
  });

  const unsafe: readonly (readonly [string, () => void])[] = [
    ["writable by all", () => chmodSync(folder, 0o777)],
    ["writable by all, sticky", () => chmodSync(folder, 0o1777)],
    ["writable by its group", () => chmodSync(folder, 0o775)],
  ];
  for (const [what, spoil] of unsafe) {
    it(`makes nothing in a folder that is ${what}`, () => {
      spoil();
      refuses(/belongs to another user or is writable by others .*mode 0755 or narrower/);
      assert.deepEqual(readdirSync(folder), []);
    });
  }

  it("makes nothing in another user's folder", { skip: NEEDS_ROOT }, () => {
    chownSync(folder, NOBODY, NOBODY);
    refuses(/belongs to another user/);
    assert.deepEqual(readdirSync(folder), []);
  });

  it("makes nothing in a folder that is missing, a link or a file, and names the folder", () => {
    mkdirSync(join(folder, "real"), { mode: 0o755 });
    symlinkSync("real", join(folder, "link"));
    writeFileSync(join(folder, "file"), "");
    refuses(/the folder .*missing does not exist/, join(folder, "missing", "a.sock"));
    refuses(/link is a symbolic link .*Name the real folder with --socket/, join(folder, "link", "a.sock"));
    refuses(/file is a symbolic link or no folder/, join(folder, "file", "a.sock"));
    assert.deepEqual(readdirSync(join(folder, "real")), []);
  });

  it("says when a name is too long for a socket", () => {
    refuses(/ENAMETOOLONG.*Choose a shorter name with --socket/, join(folder, "s".repeat(120)));
  });

  it("unlinks the file that it made, and no other", () => {
    const first = listen(path);
    rmSync(path);
    const second = listen(path);
    first.unlink();
    assert.ok(lstatSync(path).isSocket());
    second.unlink();
    assert.deepEqual(readdirSync(folder), []);
    second.unlink();
    for (const { fd } of [first, second]) native.closeDescriptor(fd);
  });

  it("is at no instant wider than asked: 1,000 sockets, watched, with an umask that hides nothing", async () => {
    const over = new Int32Array(new SharedArrayBuffer(4));
    const watcher = new Worker(new URL("../../harness/mode-watcher.js", import.meta.url), { workerData: { path, over } });
    await once(watcher, "message");
    const umask = process.umask(0);
    try {
      for (let i = 0; i < 1_000; i += 1) {
        const socket = listen(path, 0o660);
        socket.unlink();
        native.closeDescriptor(socket.fd);
      }
    } finally {
      process.umask(umask);
      Atomics.store(over, 0, 1);
    }
    const [modes] = (await once(watcher, "message")) as [readonly number[]];
    assert.ok(modes.length > 0, "the watcher saw nothing");
    for (const mode of modes) assert.ok(mode === 0o600 || mode === 0o660, `mode ${mode.toString(8)} was seen`);
  });
});
