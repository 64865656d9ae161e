// The blocking queue. A FIFO without a writer stands for the slow device: open(2) of its reading end sleeps in the kernel until somebody
// opens the other end, as BIND and reset sleep until the device is done.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { closeSync, existsSync, openSync, statSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import { Worker } from "node:worker_threads";
import { type BlockingQueue, native } from "../../../src/native.js";
import { until } from "../../harness/until.js";
import { inFolder, leavesNoDescriptor, must, NATIVE, refused, Script, threads } from "./support.js";

function fifo(folder: string): string {
  const path = join(folder, "fifo");
  if (!existsSync(path)) execFileSync("mkfifo", [path]);
  return path;
}

/** Opens the writing end, which lets one open(2) of the reading end go on. */
function letGo(path: string): void {
  closeSync(openSync(path, "w"));
}

/** Whether the promise is settled by now, as seen from a later turn of the loop. */
async function isSettled(promise: Promise<unknown>): Promise<boolean> {
  const open = Symbol();
  return (await Promise.race([promise, new Promise((resolve) => setImmediate(resolve, open))])) !== open;
}

describe("[real processes] BlockingQueue", () => {
  it("runs the operations of one queue in their order", async () => {
    await leavesNoDescriptor(async () => {
      const queue = new native.BlockingQueue("order");
      const memory = must(native.memfdCreate("order", 4096n));
      const ended: number[] = [];
      const writes = Array.from({ length: 500 }, async (_, i) => {
        assert.equal(must(await queue.pwrite(memory, 0n, Uint8Array.of(i & 0xff, i >> 8), "memory")), 2);
        ended.push(i);
      });
      const last = await queue.pread(memory, 0n, 2, "memory");
      await Promise.all(writes);
      assert.deepEqual(must(last), Uint8Array.of(499 & 0xff, 499 >> 8));
      assert.deepEqual(
        ended,
        Array.from({ length: 500 }, (_, i) => i),
      );
      native.closeDescriptor(memory);
    });
  });

  it("a queue that hangs holds up neither the loop nor other queues, only itself", async () => {
    await inFolder(async (folder) => {
      await leavesNoDescriptor(async () => {
        const path = fifo(folder);
        const slow = new native.BlockingQueue("slow");
        const hanging = slow.open(path, "read");
        const behind = slow.open("/dev/null", "read");
        // More than libuv's pool has threads.
        const others = Array.from({ length: 16 }, (_, i) => new native.BlockingQueue(`other ${i}`));
        for (const queue of others) must(await queue.close(must(await queue.open("/dev/null", "readwrite"))));
        assert.equal(statSync(path).isFIFO(), true);
        assert.equal(await isSettled(hanging), false);
        assert.equal(await isSettled(behind), false);
        letGo(path);
        for (const fd of [must(await hanging), must(await behind)]) must(await slow.close(fd));
      });
    });
  });

  it("has a thread only while there is work", async () => {
    await inFolder(async (folder) => {
      const path = fifo(folder);
      const queue = new native.BlockingQueue("only-with-work");
      for (let round = 0; round < 3; round += 1) {
        const opening = queue.open(path, "read");
        await until(
          "threads",
          () => threads(),
          (names) => names.filter((name) => name === "only-with-work").length === 1,
        );
        letGo(path);
        must(await queue.close(must(await opening)));
        await until(
          "threads",
          () => threads(),
          (names) => !names.includes("only-with-work"),
        );
      }
    });
  });

  it("finish refuses what is new and waits for what is old", async () => {
    await inFolder(async (folder) => {
      const path = fifo(folder);
      const queue = new native.BlockingQueue("finish");
      const opening = queue.open(path, "read");
      const finished = queue.finish();
      assert.deepEqual(refused(await queue.open("/dev/null", "read")), {
        operation: "open",
        errno: 0,
        code: "CLOSED",
        subject: "/dev/null",
      });
      assert.deepEqual(refused(await queue.reset(0, "0000:01:00.0")), {
        operation: "VFIO_DEVICE_RESET",
        errno: 0,
        code: "CLOSED",
        subject: "0000:01:00.0",
      });
      assert.equal(await isSettled(finished), false);
      letGo(path);
      assert.equal(await finished, null);
      native.closeDescriptor(must(await opening));
      assert.equal(await queue.finish(), null);
      assert.equal(await new native.BlockingQueue("never used").finish(), null);
    });
  });

  it("a failed call is a value with operation, errno, code and subject", async () => {
    const queue = new native.BlockingQueue("errors");
    assert.deepEqual(refused(await queue.open("/nowhere/at/all", "read")), {
      operation: "open",
      errno: 2,
      code: "ENOENT",
      subject: "/nowhere/at/all",
    });
    assert.deepEqual(refused(await queue.close(999_999)), { operation: "close", errno: 9, code: "EBADF", subject: "descriptor 999999" });
    assert.deepEqual(refused(await queue.pread(999_999, 0n, 1, "there")), {
      operation: "pread",
      errno: 9,
      code: "EBADF",
      subject: "there",
    });
  });

  it("closeAll closes all of them, also behind one that was not open", async () => {
    await leavesNoDescriptor(async () => {
      const queue = new native.BlockingQueue("close-all");
      const [first, second] = [must(native.eventfdCreate()), must(native.eventfdCreate())];
      assert.deepEqual(refused(await queue.closeAll([first, 999_999, second])), {
        operation: "close",
        errno: 9,
        code: "EBADF",
        subject: "descriptor 999999",
      });
      must(await queue.closeAll([]));
      assert.throws(() => queue.closeAll([-1]), TypeError);
      assert.throws(() => queue.closeAll(Array.from({ length: 1025 }, () => 999_999)), RangeError);
    });
  });

  it("every ioctl is sent and named as itself", async () => {
    const queue = new native.BlockingQueue("ioctls");
    const file = must(await queue.open("/dev/null", "readwrite"));
    const pci = "0000:01:00.0";
    const token = "bd8d9d2b-5a5f-4f5a-a211-f591514ba1f3";
    // A file that knows none of them answers ENOTTY, which for a feature probe is an answer.
    const calls: readonly [Promise<Awaited<ReturnType<BlockingQueue["reset"]>> | { error: unknown }>, string, string][] = [
      [queue.bindIommufd(file, 0, null, pci), "VFIO_DEVICE_BIND_IOMMUFD", pci],
      [queue.bindIommufd(file, 0, token, pci), "VFIO_DEVICE_BIND_IOMMUFD", pci],
      [queue.iommufdSetRlimitMode(file), "IOMMU_OPTION", "IOMMU_OPTION_RLIMIT_MODE"],
      [queue.iommuInfo(file, 1, pci), "IOMMU_GET_HW_INFO", pci],
      [queue.deviceInfo(file, pci), "VFIO_DEVICE_GET_INFO", pci],
      [queue.regionInfo(file, 4, pci), "VFIO_DEVICE_GET_REGION_INFO", `${pci} region 4`],
      [queue.irqInfo(file, 2, pci), "VFIO_DEVICE_GET_IRQ_INFO", `${pci} irq 2`],
      [queue.hotResetInfo(file, pci), "VFIO_DEVICE_GET_PCI_HOT_RESET_INFO", pci],
      [queue.reset(file, pci), "VFIO_DEVICE_RESET", pci],
      [queue.dmaBufExport(file, 4, 0n, 4096n, pci), "VFIO_DEVICE_FEATURE_DMA_BUF", `${pci} region 4`],
      [queue.containerApiVersion(file), "VFIO_GET_API_VERSION", "container"],
      [queue.containerCheckExtension(file, 3), "VFIO_CHECK_EXTENSION", "extension 3"],
      [queue.containerSetIommu(file, 3), "VFIO_SET_IOMMU", "type 3"],
      [queue.groupStatus(file, "group 12"), "VFIO_GROUP_GET_STATUS", "group 12"],
      [queue.groupSetContainer(file, file, "group 12"), "VFIO_GROUP_SET_CONTAINER", "group 12"],
      // The token is a secret: not in the error.
      [queue.groupGetDevice(file, `${pci} vf_token=${token}`), "VFIO_GROUP_GET_DEVICE_FD", pci],
    ];
    for (const [call, operation, subject] of calls) {
      assert.deepEqual((await call).error, { operation, errno: 25, code: "ENOTTY", subject });
    }
    assert.deepEqual(await queue.featureProbe(file, 11, "get", pci), { value: false, error: null });
    assert.deepEqual(await queue.featureProbe(file, 0, "set", pci), { value: false, error: null });
    assert.deepEqual(await queue.migrationFlags(file, pci), { value: 0n, error: null });
    must(await queue.close(file));
  });

  it("pread and pwrite move exactly what is there", async () => {
    const queue = new native.BlockingQueue("bytes");
    const memory = must(native.memfdCreate("bytes", 100n));
    const data = Uint8Array.from({ length: 60 }, (_, i) => i + 1);
    const writing = queue.pwrite(memory, 40n, data, "memory");
    data.fill(0); // the call has taken its copy
    assert.equal(must(await writing), 60);
    // The size is sealed.
    assert.equal(refused(await queue.pwrite(memory, 90n, data, "memory")).code, "EPERM");
    assert.deepEqual(
      must(await queue.pread(memory, 90n, 64, "memory")),
      Uint8Array.from({ length: 10 }, (_, i) => i + 51),
    );
    assert.deepEqual(must(await queue.pread(memory, 1n << 40n, 64, "memory")), new Uint8Array(0));
    assert.deepEqual(must(await queue.pread(memory, 0n, 0, "memory")), new Uint8Array(0));
    must(await queue.close(memory));
  });

  it("process.exit ends a process whose operation hangs", async () => {
    await inFolder(async (folder) => {
      const script = new Script(`
        const queue = new native.BlockingQueue("hangs");
        queue.open(${JSON.stringify(fifo(folder))}, "read");
        queue.open("/dev/null", "read");
        setImmediate(() => process.exit(7));
      `);
      assert.deepEqual(await script.ended(), { status: 7, signal: null, stdout: "" });
    });
  });

  it("a pending operation keeps the process alive, an idle queue does not", async () => {
    await inFolder(async (folder) => {
      const path = fifo(folder);
      const script = new Script(`
        const queue = new native.BlockingQueue("pending");
        await queue.open("/dev/null", "read");
        process.stdout.write("opening\\n");
        await queue.open(${JSON.stringify(path)}, "read");
        process.stdout.write("opened\\n");
      `);
      assert.equal(await script.line(), "opening");
      // Opening this end waits for the other: it returns only if the process is still there, in open(2).
      const queue = new native.BlockingQueue("writer");
      native.closeDescriptor(must(await queue.open(path, "readwrite")));
      letGo(path);
      assert.deepEqual(await script.ended(), { status: 0, signal: null, stdout: "opening\nopened" });
    });
  });

  it("what a thread opens for a worker that is gone is closed", async () => {
    await inFolder(async (folder) => {
      const path = fifo(folder);
      await leavesNoDescriptor(async () => {
        const worker = new Worker(
          `import(${JSON.stringify(NATIVE)}).then(({ native }) => {
            new native.BlockingQueue("orphan").open(${JSON.stringify(path)}, "read");
            require("node:worker_threads").parentPort.postMessage("opening");
          });`,
          { eval: true },
        );
        await new Promise((resolve) => worker.once("message", resolve));
        await until(
          "threads",
          () => threads(),
          (names) => names.includes("orphan"),
        );
        await worker.terminate();
        assert.equal(threads().includes("orphan"), true);
        letGo(path);
        await until(
          "threads",
          () => threads(),
          (names) => !names.includes("orphan"),
        );
      });
    });
  });
});

describe("[pure] arguments across the bridge", () => {
  const queue = new native.BlockingQueue("arguments");
  const entriesExpected =
    'BlockingQueue.readFolders argument 3 (entries): expected an array of at most 64 { kind: "text" | "link" | "names" | "inode", name: string }';
  const wrong: readonly [string, () => unknown, new (message?: string) => Error, string][] = [
    [
      "folders in one string",
      () => queue.readFolders("/", "proc" as never, []),
      TypeError,
      "BlockingQueue.readFolders argument 2 (folders): expected an array of at most 4096 paths",
    ],
    [
      "too many folders",
      () => queue.readFolders("/", new Array(4097).fill("proc"), []),
      RangeError,
      "BlockingQueue.readFolders argument 2 (folders): expected an array of at most 4096 paths",
    ],
    ...["", "/proc", "a\0b"].map((path): (typeof wrong)[number] => [
      `folder ${JSON.stringify(path)}`,
      () => queue.readFolders("/", ["proc", path], []),
      RangeError,
      "BlockingQueue.readFolders argument 2 (folders): expected relative paths without NUL",
    ]),
    ["no entry", () => queue.readFolders("/", ["proc"], [null as never]), TypeError, entriesExpected],
    ["entry without name", () => queue.readFolders("/", ["proc"], [{ kind: "text" } as never]), TypeError, entriesExpected],
    ["unknown kind", () => queue.readFolders("/", ["proc"], [{ kind: "size" as never, name: "" }]), RangeError, entriesExpected],
    [
      "too many entries",
      () => queue.readFolders("/", ["proc"], new Array(65).fill({ kind: "text", name: "x" })),
      RangeError,
      entriesExpected,
    ],
    [
      "absolute entry",
      () => queue.readFolders("/", ["proc"], [{ kind: "text", name: "/etc/passwd" }]),
      RangeError,
      "BlockingQueue.readFolders argument 3 (entries): expected relative names without NUL",
    ],
    ["missing", () => Reflect.apply(queue.open, queue, []), TypeError, "BlockingQueue.open argument 1 (path): expected a string"],
    ["undefined", () => queue.open(undefined as never, "read"), TypeError, "BlockingQueue.open argument 1 (path): expected a string"],
    [
      "NUL inside",
      () => queue.open("/dev/null\0x", "read"),
      RangeError,
      "BlockingQueue.open argument 1 (path): expected a string without NUL",
    ],
    [
      "unknown word",
      () => queue.open("/dev/null", "append" as never),
      RangeError,
      'BlockingQueue.open argument 2 (access): expected "read", "write" or "readwrite"',
    ],
    ["string for number", () => queue.close("3" as never), TypeError, "BlockingQueue.close argument 1 (fd): expected an integer"],
    ["fraction", () => queue.close(1.5), TypeError, "BlockingQueue.close argument 1 (fd): expected an integer"],
    ["NaN", () => queue.close(Number.NaN), TypeError, "BlockingQueue.close argument 1 (fd): expected an integer"],
    ["negative", () => queue.close(-1), RangeError, "BlockingQueue.close argument 1 (fd): expected an integer from 0 to 2147483647"],
    ["too large", () => queue.close(2 ** 31), RangeError, "BlockingQueue.close argument 1 (fd): expected an integer from 0 to 2147483647"],
    ["number for bigint", () => queue.pread(0, 0 as never, 1, ""), TypeError, "BlockingQueue.pread argument 2 (offset): expected a bigint"],
    [
      "negative bigint",
      () => queue.dmaBufExport(0, 0, -1n, 1n, ""),
      RangeError,
      "BlockingQueue.dmaBufExport argument 3 (offset): expected a bigint from 0 to 18446744073709551615",
    ],
    [
      "bigint of 65 bits",
      () => queue.dmaBufExport(0, 0, 0n, 1n << 64n, ""),
      RangeError,
      "BlockingQueue.dmaBufExport argument 4 (length): expected a bigint from 0 to 18446744073709551615",
    ],
    [
      "huge read",
      () => queue.pread(0, 0n, 2 ** 31, ""),
      RangeError,
      "BlockingQueue.pread argument 3 (length): expected an integer from 0 to 67108864",
    ],
    [
      "other typed array",
      () => queue.pwrite(0, 0n, new Int8Array(1) as never, ""),
      TypeError,
      "BlockingQueue.pwrite argument 3 (data): expected a Uint8Array",
    ],
    [
      "no UUID",
      () => queue.bindIommufd(0, 0, "token", ""),
      RangeError,
      "BlockingQueue.bindIommufd argument 3 (token): expected a UUID or null",
    ],
    [
      "undefined for null",
      () => queue.bindIommufd(0, 0, undefined as never, ""),
      TypeError,
      "BlockingQueue.bindIommufd argument 3 (token): expected a string",
    ],
    [
      "feature of 17 bits",
      () => queue.featureProbe(0, 65536, "get", ""),
      RangeError,
      "BlockingQueue.featureProbe argument 2 (feature): expected an integer from 0 to 65535",
    ],
    [
      "path in a name",
      () => native.listenUnix("stream", "/tmp", "a/b", 0o600, -1, 1),
      RangeError,
      "listenUnix argument 3 (name): expected the name of a file in its directory",
    ],
    [
      "dots as a name",
      () => native.unlinkSocket("/tmp", "..", 1n),
      RangeError,
      "unlinkSocket argument 2 (name): expected the name of a file in its directory",
    ],
    [
      "mode with setuid",
      () => native.listenUnix("stream", "/tmp", "a", 0o4600, -1, 1),
      RangeError,
      "listenUnix argument 4 (mode): expected an integer from 0 to 511",
    ],
    [
      "empty frame",
      () => native.sendFrame(0, new Uint8Array(0), []),
      RangeError,
      "sendFrame argument 2 (frame): expected at least one byte",
    ],
    [
      "hole in a list",
      () => native.sendFrame(0, Uint8Array.of(1), [0, -1]),
      TypeError,
      "sendFrame argument 3 (descriptors): expected an array of at most 253 descriptors",
    ],
    [
      "254 descriptors",
      () => native.sendFrame(0, Uint8Array.of(1), new Array<number>(254).fill(0)),
      RangeError,
      "sendFrame argument 3 (descriptors): expected an array of at most 253 descriptors",
    ],
    ["no callback", () => native.onReadable(0, null as never), TypeError, "onReadable argument 2 (callback): expected a function"],
    ["pid 0", () => native.pidfdOpen(0), RangeError, "pidfdOpen argument 1 (pid): expected an integer from 1 to 2147483647"],
    ["no callback for a poller", () => new native.Poller(1 as never), TypeError, "Poller argument 1 (onBatch): expected a function"],
    [
      "area without size",
      () => native.mapRegion(0, 0n, 4096n, [{ offset: 0n } as never], true, ""),
      TypeError,
      "mapRegion argument 4 (areas): expected an array of { offset: bigint, size: bigint }",
    ],
  ];
  for (const [what, call, kind, message] of wrong) {
    it(`${what}: ${message}`, () => assert.throws(call, (error: Error) => error.constructor === kind && error.message === message));
  }

  it("a method needs its own object", () => {
    assert.throws(() => Reflect.apply(queue.finish, {}, []), TypeError);
  });
});
