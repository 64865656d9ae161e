// The padded aperture, over memfds and files that stand for a device's memory.

import assert from "node:assert/strict";
import { closeSync, ftruncateSync, openSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import { type Mapping, native, type VfioArea } from "../../../src/native.js";
import { until } from "../../harness/until.js";
import { inFolder, leavesNoDescriptor, must, refused, Script, threads } from "./support.js";

const PAGE = 4096n;
const GiB = 1n << 30n;

/** Of the global of that name, which the types of ECMAScript do not have, what is used here. */
const WASM = Reflect.get(globalThis, "WebAssembly") as {
  instantiate(bytes: Uint8Array): Promise<{ instance: { exports: Record<string, unknown> } }>;
  RuntimeError: new () => Error;
};

interface Vma {
  readonly begin: bigint;
  readonly end: bigint;
  readonly permissions: string;
}

/** Mappings of the memfd with this name. */
function mapped(name: string): Vma[] {
  const lines = readFileSync("/proc/self/maps", "utf8").split("\n");
  return lines.flatMap((line) => {
    const found = /^([0-9a-f]+)-([0-9a-f]+) (\S+) /.exec(line);
    if (!found || !line.includes(`/memfd:${name} `)) return [];
    return [{ begin: BigInt(`0x${found[1]}`), end: BigInt(`0x${found[2]}`), permissions: found[3] ?? "" }];
  });
}

async function map(fd: number, size: bigint, areas: readonly VfioArea[], write = true): Promise<Mapping> {
  return must(await native.mapRegion(fd, 0n, size, areas, write, "0000:01:00.0 region 4"));
}

async function bytes(mapping: Mapping, offset: bigint, length: number): Promise<number[]> {
  return [...must(await mapping.read(offset, length))];
}

/** A memfd of `backed` bytes in an aperture of `size`. */
async function withMapping(size: bigint, backed: bigint, body: (mapping: Mapping, fd: number) => Promise<void>): Promise<void> {
  await leavesNoDescriptor(async () => {
    const fd = must(native.memfdCreate("aperture", backed));
    const mapping = await map(fd, size, [{ offset: 0n, size: backed }]);
    await body(mapping, fd);
    must(await mapping.close());
    assert.deepEqual(mapped("aperture"), []);
    native.closeDescriptor(fd);
  });
}

describe("[real kernel] Mapping", () => {
  it("96 GiB behind a BAR of 128: reserved in no time, huge-page aligned, nothing allocated", async () => {
    await withMapping(128n * GiB, 96n * GiB, async (mapping) => {
      assert.equal(mapping.size, 128n * GiB);
      const [vma, ...others] = mapped("aperture");
      assert.deepEqual(others, []);
      assert.equal(vma && vma.end - vma.begin, 96n * GiB);
      assert.equal(vma && vma.begin % GiB, 0n);
      assert.equal(vma?.permissions, "rw-s");
      assert.equal(must(await mapping.write(96n * GiB - 4n, Uint8Array.of(1, 2, 3, 4))), null);
      assert.deepEqual(await bytes(mapping, 96n * GiB - 4n, 8), [1, 2, 3, 4, 255, 255, 255, 255]);
      assert.deepEqual(await bytes(mapping, 128n * GiB - 1n, 1), [255]);
      assert.deepEqual(await bytes(mapping, 128n * GiB, 0), []);
    });
  });

  it("writes reach the memory, those into the tail are dropped", async () => {
    await withMapping(4n * PAGE, 2n * PAGE, async (mapping, fd) => {
      must(await mapping.write(2n * PAGE - 2n, Uint8Array.of(7, 8, 9)));
      must(await mapping.write(3n * PAGE, Uint8Array.of(1)));
      const queue = new native.BlockingQueue("check");
      assert.deepEqual([...must(await queue.pread(fd, 2n * PAGE - 3n, 10, "memory"))], [0, 7, 8]);
      assert.equal(statSync(`/proc/self/fd/${fd}`).size, Number(2n * PAGE));
    });
  });

  it("a hole between areas is an error, not 0xFF", async () => {
    await leavesNoDescriptor(async () => {
      const fd = must(native.memfdCreate("holes", 4n * PAGE));
      const mapping = await map(fd, 8n * PAGE, [
        { offset: 2n * PAGE, size: PAGE },
        { offset: 0n, size: PAGE },
        { offset: 5n * PAGE, size: 0n },
      ]);
      assert.equal(mapped("holes").length, 2);
      assert.deepEqual(refused(await mapping.read(PAGE - 1n, 2)), {
        operation: "read of mapping",
        errno: 14,
        code: "EFAULT",
        subject: "0000:01:00.0 region 4 at 0x1000: not mappable",
      });
      assert.deepEqual(await bytes(mapping, 3n * PAGE - 1n, 2), [0, 255]);
      must(await mapping.close());
      native.closeDescriptor(fd);
    });
  });

  it("memory that goes away under the mapping is an error, as often as it is touched", async () => {
    await inFolder(async (folder) => {
      await leavesNoDescriptor(async () => {
        const file = openSync(join(folder, "memory"), "w+");
        ftruncateSync(file, 4 * Number(PAGE));
        const mapping = await map(file, 8n * PAGE, [{ offset: 0n, size: 4n * PAGE }]);
        ftruncateSync(file, Number(PAGE));
        for (let round = 0; round < 3; round += 1) {
          const subject = "0000:01:00.0 region 4 at 0x2004";
          assert.deepEqual(refused(await mapping.read(2n * PAGE + 4n, 64)), {
            operation: "read of mapping",
            errno: 14,
            code: "EFAULT",
            subject,
          });
          assert.deepEqual(refused(await mapping.write(2n * PAGE + 4n, new Uint8Array(64))), {
            operation: "write to mapping",
            errno: 14,
            code: "EFAULT",
            subject,
          });
        }
        ftruncateSync(file, 4 * Number(PAGE));
        assert.deepEqual(await bytes(mapping, 2n * PAGE, 1), [0]);
        must(await mapping.close());
        closeSync(file);
      });
    });
  });

  it("WebAssembly still gets its faults", async () => {
    await withMapping(2n * PAGE, PAGE, async () => {
      // (memory 1) (func (export "load") (param i32) (result i32) local.get 0 i32.load)
      const code = "0061736d0100000001060160017f017f030201000503010001070801046c6f616400000a0901070020002802000b";
      const { instance } = await WASM.instantiate(Buffer.from(code, "hex"));
      const load = instance.exports["load"] as (at: number) => number;
      assert.equal(load(0), 0);
      assert.throws(() => load(0x7fffffff), WASM.RuntimeError);
    });
  });

  it("a view is the memory, in one area, and gone with the mapping", async () => {
    await withMapping(4n * PAGE, 2n * PAGE, async (mapping) => {
      const view = mapping.view(PAGE, 16);
      const same = new Uint8Array(mapping.view(PAGE, 16));
      new Uint32Array(view)[1] = 0x04030201;
      assert.deepEqual(await bytes(mapping, PAGE + 4n, 4), [1, 2, 3, 4]);
      assert.equal(same[6], 3);
      for (const [offset, length] of [
        [2n * PAGE - 8n, 9],
        [2n * PAGE, 1],
        [4n * PAGE, 1],
      ] as const) {
        assert.throws(() => mapping.view(offset, length), RangeError);
      }
      // To move it elsewhere would take it out of our hands: it is copied instead.
      const copy = structuredClone(view, { transfer: [view] });
      new Uint8Array(view)[0] = 9;
      assert.equal(new Uint8Array(copy)[0], 0);
      assert.equal(view.byteLength, 16);

      const closing = mapping.close();
      assert.deepEqual([view.byteLength, same.byteLength, same[6]], [0, 0, undefined]);
      must(await closing);
      assert.equal(copy.byteLength, 16);
    });
  });

  it("close waits for running copies; afterwards everything is CLOSED", async () => {
    await withMapping(64n << 20n, 64n << 20n, async (mapping) => {
      const reads = Array.from({ length: 4 }, () => mapping.read(0n, 16 << 20));
      const closing = mapping.close();
      for (const read of reads) assert.equal(must(await read).length, 16 << 20);
      must(await closing);
      must(await mapping.close());
      const closed = { errno: 0, code: "CLOSED", subject: "mapping" };
      assert.deepEqual(refused(await mapping.read(0n, 1)), { operation: "read of mapping", ...closed });
      assert.deepEqual(refused(await mapping.write(0n, Uint8Array.of(1))), { operation: "write to mapping", ...closed });
      assert.throws(
        () => mapping.view(0n, 1),
        (error: Error & { code?: string }) => error.code === "CLOSED",
      );
      assert.equal(mapping.size, 64n << 20n);
    });
  });

  it("a read-only mapping refuses to write", async () => {
    await leavesNoDescriptor(async () => {
      const fd = must(native.memfdCreate("readonly", PAGE));
      const copy = must(native.reopen(fd, "read"));
      assert.equal(refused(await native.mapRegion(copy, 0n, PAGE, [{ offset: 0n, size: PAGE }], true, "x")).code, "EACCES");
      const mapping = await map(copy, PAGE, [{ offset: 0n, size: PAGE }], false);
      assert.equal(mapped("readonly")[0]?.permissions, "r--s");
      assert.deepEqual(await bytes(mapping, 0n, 2), [0, 0]);
      assert.equal(refused(await mapping.write(0n, Uint8Array.of(1))).code, "EACCES");
      must(await mapping.close());
      for (const number of [fd, copy]) native.closeDescriptor(number);
    });
  });

  it("the caller may close its descriptor at once", async () => {
    await leavesNoDescriptor(async () => {
      const fd = must(native.memfdCreate("at once", PAGE));
      const mapping = map(fd, PAGE, [{ offset: 0n, size: PAGE }]);
      native.closeDescriptor(fd);
      assert.deepEqual(await bytes(await mapping, 0n, 1), [0]);
      must(await (await mapping).close());
    });
  });

  it("bad geometry and bad descriptors are errors that say what", async () => {
    await leavesNoDescriptor(async () => {
      const fd = must(native.memfdCreate("bad", 4n * PAGE));
      const said = async (offset: bigint, size: bigint, areas: readonly VfioArea[]): Promise<string> => {
        const { code, subject } = refused(await native.mapRegion(fd, offset, size, areas, true, "x"));
        return `${code} ${subject}`;
      };
      assert.equal(await said(0n, 0n, []), "BAD_ANSWER x: the region is empty");
      assert.equal(await said(1n, PAGE, []), "BAD_ANSWER x: the region's offset is not a multiple of the page size");
      assert.equal(await said(0n, PAGE, [{ offset: 0n, size: 2n * PAGE }]), "BAD_ANSWER x: an area ends beyond the region");
      assert.equal(
        await said(0n, 4n * PAGE, [
          { offset: 0n, size: 2n * PAGE },
          { offset: PAGE, size: PAGE },
        ]),
        "BAD_ANSWER x: two areas overlap",
      );
      assert.equal(await said(0n, 1n << 62n, [{ offset: 0n, size: PAGE }]), "ENOMEM x");
      assert.deepEqual(refused(await native.mapRegion(999_999, 0n, PAGE, [], true, "x")), {
        operation: "fcntl(F_DUPFD_CLOEXEC)",
        errno: 9,
        code: "EBADF",
        subject: "descriptor 999999",
      });
      native.closeDescriptor(fd);
    });
  });

  it("arguments beyond the mapping are faults of the caller", async () => {
    await withMapping(4n * PAGE, PAGE, async (mapping) => {
      const wrong: readonly [() => unknown, string][] = [
        [() => mapping.read(4n * PAGE, 1), "Mapping.read argument 2 (length): expected a range within the 16384 bytes of the mapping"],
        [() => mapping.read(4n * PAGE + 1n, 0), "Mapping.read argument 1 (offset): expected a bigint from 0 to 16384"],
        [() => mapping.read(0n, -1), "Mapping.read argument 2 (length): expected an integer from 0 to 67108864"],
        [() => mapping.write(1n << 63n, new Uint8Array(1)), "Mapping.write argument 1 (offset): expected a bigint from 0 to 16384"],
        [
          () => mapping.write(PAGE, new Uint8Array(12289)),
          "Mapping.write argument 2 (data): expected a range within the 16384 bytes of the mapping",
        ],
        [() => mapping.view(0n, 4097), "Mapping.view argument 2 (length): expected a range inside one area"],
      ];
      for (const [call, message] of wrong) assert.throws(call, { name: "RangeError", message });
      assert.throws(() => Reflect.construct(mapping.constructor, []), { name: "TypeError", message: "Mapping: made by mapRegion only" });
    });
  });
});

describe("[real processes] Mapping and the garbage collector", () => {
  const prologue = `
    const { readFileSync } = await import("node:fs");
    const mapped = () => readFileSync("/proc/self/maps", "utf8").includes("/memfd:lost ");
    const fd = native.memfdCreate("lost", 8192n).value;
    const map = async () => (await native.mapRegion(fd, 0n, 16384n, [{ offset: 0n, size: 8192n }], true, "x")).value;
    const collect = async () => { for (let i = 0; i < 10; i += 1) { gc(); await new Promise((resolve) => setImmediate(resolve)); } };
    const goes = async (holds) => { const end = performance.now() + 10000; while (!holds() && performance.now() < end) await collect(); return holds(); };
    const say = (what) => process.stdout.write(JSON.stringify(what) + "\\n");`;

  it("a mapping nobody closed ends with its last view", async () => {
    const script = new Script(`${prologue}
      const lose = async () => { const mapping = await map(); return { view: new Uint8Array(mapping.view(0n, 8)) }; };
      const held = await lose();
      held.view[0] = 42;
      await collect();
      say([mapped(), held.view[0]]);
      delete held.view;
      say(await goes(() => !mapped()));
    `);
    assert.deepEqual(await script.ended(), { status: 0, signal: null, stdout: "[true,42]\ntrue" });
  });

  it("a mapping dropped while it is read from is read to the end", async () => {
    const script = new Script(`${prologue}
      const drop = async () => { const mapping = await map(); return mapping.read(0n, 8192); };
      const reads = await Promise.all(Array.from({ length: 50 }, () => drop()));
      say(reads.every((read) => read.value.length === 8192));
      reads.length = 0;
      say(await goes(() => !mapped()));
    `);
    assert.deepEqual(await script.ended(), { status: 0, signal: null, stdout: "true\ntrue" });
  });

  it("views made and dropped by the thousand leave nothing", async () => {
    const script = new Script(`${prologue}
      const mapping = await map();
      for (let i = 0; i < 20000; i += 1) new Uint8Array(mapping.view(BigInt(i % 8192), 1))[0] = i;
      await mapping.close();
      say(await goes(() => !mapped()));
    `);
    assert.deepEqual(await script.ended(), { status: 0, signal: null, stdout: "true" });
  });

  it("a process ends with mappings and views open, by return and by exit", async () => {
    for (const end of ["", "process.exit(0);"]) {
      const script = new Script(
        `${prologue} const mapping = await map(); globalThis.view = mapping.view(0n, 8); mapping.read(0n, 8); ${end}`,
      );
      assert.deepEqual(await script.ended(), { status: 0, signal: null, stdout: "" });
    }
  });

  it("no thread stays", async () => {
    await withMapping(2n * PAGE, PAGE, async (mapping) => {
      must(await mapping.read(0n, 1));
      await until(
        "threads",
        () => threads(),
        (names) => !names.includes("aperture-map"),
      );
    });
  });
});
