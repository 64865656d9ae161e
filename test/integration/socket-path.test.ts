// Where the daemon's sockets are made: never through or over anything that is not its own dead socket, never wider than asked.

import assert from "node:assert/strict";
import { closeSync, lstatSync, mkdirSync, openSync, readdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, it } from "node:test";
import { native, type SysResult } from "../../src/native.js";
import { DaemonProcess, socketFolder } from "../harness/daemon.js";
import { DeviceService, Rpc } from "../harness/rpc.js";
import { type Run, runDaemon } from "../harness/run.js";

const asRoot = process.geteuid?.() === 0;
const NOBODY = 65534;

function must<T>(result: SysResult<T>): T {
  if (result.error !== null) throw new Error(`${result.error.operation}: ${result.error.code}`);
  return result.value;
}

/** Everything that would change if somebody touched the file. */
function identity(path: string): readonly (number | bigint)[] {
  const { ino, mode, uid, ctimeNs } = lstatSync(path, { bigint: true });
  return [ino, mode, uid, ctimeNs];
}

describe("[real processes, simulated host] the path of the sockets", () => {
  let folder: string;
  let path: string;
  beforeEach(() => {
    folder = socketFolder();
    path = join(folder, "a.sock");
  });
  afterEach(() => {
    Rpc.closeAll();
    rmSync(folder, { recursive: true, force: true });
  });

  const run = (socket = path, uid?: number): Promise<Run> =>
    runDaemon(["--host", "simulated", "--metrics", "off", "--log-level", "warn", "--socket", socket], uid === undefined ? {} : { uid });

  async function refuses(expected: RegExp, socket = path): Promise<void> {
    const { status, stderr } = await run(socket);
    assert.match(stderr, expected);
    assert.equal(status, 1);
  }

  it("is never taken from something else, which stays as it was", async () => {
    writeFileSync(path, "kept");
    const before = identity(path);
    await refuses(/a\.sock exists and is not a socket of this user .*nothing was changed/);
    assert.deepEqual(identity(path), before);
    const link = join(folder, "link.sock");
    symlinkSync(path, link);
    await refuses(/link\.sock is a symbolic link .*Remove it: a socket is never made through a link/, link);
    assert.deepEqual(readdirSync(folder), ["a.sock", "link.sock"]);
  });

  it("is not taken from a daemon that serves, which notices nothing", async () => {
    const first = await DaemonProcess.start({}, folder, false);
    const files = [path, `${path}.channel`];
    const before = files.map(identity);
    await refuses(/another daemon listens on .*a\.sock .*Stop it first, or give this one another path with --socket/);
    assert.deepEqual(files.map(identity), before);
    const answer = await new Rpc(path).call(DeviceService, "ListDevices", {});
    assert.equal(answer.code, "OK");
    Rpc.closeAll();
    await first.isAsBefore();
    await first.stop();
  });

  it("takes its first socket away when the second cannot be made", async () => {
    const [fd] = must(native.listenUnix("seqpacket", folder, "a.sock.channel", 0o600, -1, 1));
    await refuses(/another daemon listens on .*a\.sock\.channel/);
    assert.deepEqual(readdirSync(folder), ["a.sock.channel"]);
    native.closeDescriptor(fd);
  });

  it("takes its first socket away when the channel's name, with .channel appended, is too long", async () => {
    await refuses(/ENAMETOOLONG.*Choose a shorter name with --socket/, join(folder, "s".repeat(85)));
    assert.deepEqual(readdirSync(folder), []);
  });

  it("is taken over from a dead daemon of the same user", async () => {
    const first = await DaemonProcess.start({}, folder, false);
    first.signal("SIGKILL");
    await first.ended();
    const dead = lstatSync(path);
    assert.ok(dead.isSocket());
    const second = await DaemonProcess.start({}, folder, false);
    const answer = await new Rpc(path).call(DeviceService, "ListDevices", {});
    assert.equal(answer.code, "OK");
    Rpc.closeAll();
    await second.stop();
    assert.deepEqual(readdirSync(folder), ["aperture.toml"]);
  });

  it("says when this user may make no socket there", { skip: asRoot ? false : "needs root to become another user" }, async () => {
    const { status, stderr } = await run(path, NOBODY);
    assert.match(stderr, /no permission to make a socket in .*Run the daemon as a user who may, or choose another path with --socket/);
    assert.equal(status, 1);
  });

  it("may be longer than a socket address", async () => {
    const deep = join(folder, "d".repeat(100), "e".repeat(100));
    mkdirSync(deep, { recursive: true, mode: 0o755 });
    const daemon = await DaemonProcess.start({}, deep, false);
    // The plain path does not fit into a client's sockaddr_un either.
    const at = openSync(deep, "r");
    const answer = await new Rpc(`/proc/self/fd/${at}/a.sock`).call(DeviceService, "ListDevices", {});
    closeSync(at);
    assert.equal(answer.code, "OK");
    Rpc.closeAll();
    await daemon.stop();
    assert.deepEqual(readdirSync(deep), ["aperture.toml"]);
  });

  it("has exactly the mode that was asked for, whatever the umask", async () => {
    for (const [mode, umask] of [
      ["0660", "0000"],
      ["0606", "0077"],
    ] as const) {
      const under = ["sh", "-c", `umask ${umask}; exec "$@"`, "sh"];
      const daemon = await DaemonProcess.start({ socketMode: mode, under }, folder, false);
      const modes = [path, `${path}.channel`].map((file) => (lstatSync(file).mode & 0o7777).toString(8).padStart(4, "0"));
      await daemon.stop();
      assert.deepEqual(modes, [mode, mode]);
    }
  });
});
