// The one-shot socket of KubeVirt, from the side of virt-launcher (pkg/virt-launcher/virtwrap/iommufd.go): real sockets, and every misbehaviour that a receiver can have.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { chmodSync, existsSync, lstatSync, mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { afterEach, beforeEach, describe, it } from "node:test";
import { OwnedDescriptor } from "../../../src/descriptor.js";
import { native } from "../../../src/native.js";
import { IommufdSocket, type IommufdSocketOptions, type IommufdTaker } from "../../../src/push/index.js";
import { descriptorsOf } from "../../harness/descriptors.js";
import { identity } from "../../harness/fake-qmp.js";
import { until } from "../../harness/until.js";
import { TestLease } from "./test-lease.js";

/** Connects and reads, as virt-launcher does. */
class Launcher {
  readonly socket: OwnedDescriptor;

  constructor(path: string) {
    const { value, error } = native.connectStream(path);
    if (error !== null) throw new Error(error.code);
    this.socket = new OwnedDescriptor(value, "a launcher");
  }

  /** The bytes and the files that came. */
  async receive(): Promise<{ readonly bytes: readonly number[]; readonly files: readonly string[] }> {
    const { value } = await until(
      "the iommufd",
      () => native.receiveFrame(this.socket.borrow(), 32, 16),
      ({ error }) => error?.code !== "EAGAIN",
    );
    const files = (value?.descriptors ?? []).map(identity);
    for (const fd of value?.descriptors ?? []) native.closeDescriptor(fd);
    return { bytes: [...(value?.frame ?? [])], files };
  }

  answer(bytes: readonly number[], descriptors: readonly number[] = []): void {
    assert.equal(native.sendFrame(this.socket.borrow(), Uint8Array.from(bytes), descriptors).error, null);
  }

  close(): void {
    this.socket.close();
  }
}

describe("[real sockets] the socket for one iommufd", () => {
  let before: readonly string[];
  let folder: string;
  let path: string;
  let lease: TestLease;
  let socket: IommufdSocket | null;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "aperture-iommufd-"));
    path = join(folder, "vm1.sock");
    before = descriptorsOf(process.pid);
    lease = new TestLease(["0000:01:00.0"]);
    socket = null;
  });
  afterEach(async () => {
    socket?.close();
    await lease.closeDescriptors();
    assert.equal(existsSync(path), false, "the socket is gone");
    rmSync(folder, { recursive: true });
    await until(
      "descriptors of this process",
      () => descriptorsOf(process.pid),
      (now) => now.join() === before.join(),
    );
  });

  function listen(options: Partial<IommufdSocketOptions> = {}): IommufdSocket {
    socket = IommufdSocket.listen({ path, ...options });
    return socket;
  }

  const give = (options: Partial<IommufdSocketOptions> = {}): Promise<IommufdTaker> => listen(options).give(lease);

  it("gives one byte 0 with the iommufd, takes one byte 0, and has nothing left: the path is gone as soon as somebody has come", async () => {
    const given = give();
    assert.equal(lstatSync(path).mode & 0o777, 0o600);
    const launcher = new Launcher(path);
    assert.deepEqual(await launcher.receive(), { bytes: [0], files: [lease.files["iommufd"]] });
    assert.equal(existsSync(path), false);
    launcher.answer([0]);
    assert.deepEqual(await given, { pid: process.pid, uid: process.getuid?.() });
    assert.equal(lease.closed, 1);
    launcher.close();
  });

  it("as KubeVirt does it, in a process with none of our code", async () => {
    const program = `
import os, socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
s.connect(sys.argv[1])
data, fds, flags, _ = socket.recv_fds(s, 32, 64)
status = os.fstat(fds[0])
s.send(b"\\0")
print(len(data), len(fds), f"{status.st_dev}:{status.st_ino}")
`;
    const given = give();
    const child = spawn("python3", ["-c", program, path], { stdio: ["ignore", "pipe", "inherit"] });
    assert.equal(await text(child.stdout), `1 1 ${lease.files["iommufd"]}\n`);
    assert.equal((await given).pid, child.pid);
  });

  it("the second to come finds nothing, whether before or after the acknowledgement", async () => {
    const given = give();
    const first = new Launcher(path);
    // In the backlog, or refused at once: in both cases without a descriptor.
    let second: Launcher | null = null;
    try {
      second = new Launcher(path);
    } catch (error) {
      assert.match(String(error), /EAGAIN/);
    }
    assert.equal((await first.receive()).files.length, 1);
    if (second !== null) assert.deepEqual(await second.receive(), { bytes: [], files: [] });
    assert.throws(() => new Launcher(path), /ENOENT/);
    first.answer([0]);
    await given;
    first.close();
    second?.close();
  });

  for (const [what, act, reason] of [
    ["leaves without an answer", (launcher: Launcher) => launcher.close(), "RECEIVER_PROTOCOL"],
    ["answers another byte", (launcher: Launcher) => launcher.answer([1]), "RECEIVER_PROTOCOL"],
    ["answers two bytes", (launcher: Launcher) => launcher.answer([0, 0]), "RECEIVER_PROTOCOL"],
    ["answers with a descriptor", (launcher: Launcher) => launcher.answer([0], [1]), "RECEIVER_PROTOCOL"],
    ["says nothing", () => undefined, "RECEIVER_SILENT"],
  ] as const) {
    it(`a receiver that ${what}: an error, and the lease is the caller's to give back`, async () => {
      const given = give({ acknowledgeMs: 200 });
      given.catch(() => undefined);
      const launcher = new Launcher(path);
      await launcher.receive();
      act(launcher);
      await assert.rejects(given, { reason });
      assert.equal(lease.closed, 0);
      launcher.close();
    });
  }

  it("a receiver that connects and is gone before it was given anything", async () => {
    const made = listen();
    new Launcher(path).close();
    await assert.rejects(made.give(lease), { reason: "RECEIVER_PROTOCOL" });
  });

  it("nobody comes in time, or it is closed meanwhile", async () => {
    await assert.rejects(give({ takeMs: 50 }), { reason: "RECEIVER_SILENT", message: /nobody came .* within 0\.05 s/ });
    const given = give();
    given.catch(() => undefined);
    socket?.close();
    await assert.rejects(given, { reason: "RECEIVER_SILENT" });
  });

  it("something at the path stays what it is", () => {
    writeFileSync(path, "mine");
    assert.throws(() => listen(), { reason: "SOCKET_EXISTS" });
    assert.equal(statSync(path).size, 4);
    rmSync(path);
    const other = IommufdSocket.listen({ path });
    assert.throws(() => listen(), { reason: "SOCKET_EXISTS" });
    other.close();
  });

  it("a folder that others may write to, or that is missing, is refused", () => {
    chmodSync(folder, 0o777);
    assert.throws(() => listen(), { reason: "SOCKET_REFUSED", message: /UNSAFE_DIRECTORY/ });
    chmodSync(folder, 0o755);
    assert.throws(() => listen({ path: join(folder, "none/s") }), { reason: "SOCKET_REFUSED", message: /ENOENT/ });
  });

  it("mode and owner are those that were asked for", { skip: process.getuid?.() !== 0 && "needs root" }, () => {
    listen({ mode: 0o620, owner: 65534 });
    const { mode, uid } = lstatSync(path);
    assert.deepEqual([mode & 0o777, uid], [0o620, 65534]);
  });

  it("to another user than root a file cannot be given away: nothing is left", { skip: process.getuid?.() === 0 && "root may" }, () => {
    assert.throws(() => listen({ owner: 0 }), { reason: "SOCKET_REFUSED", code: "PERMISSION_DENIED" });
  });

  it("a lease without an iommufd is refused, with the socket untouched", async () => {
    const other = new TestLease(["0000:01:00.0"], { iommufd: false });
    await assert.rejects(listen().give(other), { reason: "LEASE_NOT_FOR_VMM" });
    assert.equal(existsSync(path), true);
    await other.closeDescriptors();
  });
});
