// Reading many folders: what comes back and in which order, what a file that is wrong costs, and that neither the loop nor another read ever waits.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { lstatSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, test } from "node:test";
import { FolderReader } from "../../../src/host/folder-reader.js";
import { inSlices } from "../../../src/host/slices.js";
import { type BlockingQueue, type FolderEntry, native } from "../../../src/native.js";

const text = (name: string): FolderEntry => ({ kind: "text", name });
const link = (name: string): FolderEntry => ({ kind: "link", name });

describe("[files in a temporary folder] folder reader", () => {
  let root: string;
  const reader = new FolderReader(native);

  beforeEach(() => {
    root = mkdtempSync(join(tmpdir(), "aperture-folders-"));
  });
  afterEach(() => rmSync(root, { recursive: true }));

  function folder(name: string, files: Readonly<Record<string, string | Uint8Array>> = {}): string {
    const path = join(root, name);
    mkdirSync(path);
    for (const [file, content] of Object.entries(files)) writeFileSync(join(path, file), content);
    return path;
  }

  async function texts(folders: readonly string[], name: string): Promise<readonly (readonly [string | null, readonly string[]])[]> {
    const all: (readonly [string | null, readonly string[]])[] = [];
    await reader.read(root, folders, [text(name)], (_folder, walk) => all.push([walk.text(), walk.unreadable()]));
    return all;
  }

  test("all kinds of entries, in the order of folders and entries", async () => {
    for (const name of ["b", "a"]) {
      const path = folder(name, { vendor: `0x${name}\n` });
      symlinkSync(`../../drivers/of-${name}`, join(path, "driver"));
      mkdirSync(join(path, "vfio-dev"));
    }
    writeFileSync(join(root, "b/vfio-dev/vfio1"), "");
    const entries: readonly FolderEntry[] = [
      ...[text("vendor"), link("driver"), link("driver"), { kind: "inode", name: "driver" } as const],
      ...[{ kind: "names", name: "vfio-dev" } as const, { kind: "inode", name: "" } as const, link("")],
    ];
    const all: unknown[] = [];
    await reader.read(root, ["b", "a"], entries, (name, walk) => {
      all.push([name, walk.text(), walk.link(), walk.linkName(), walk.inode(), walk.names(), walk.inode(), walk.link(), walk.unreadable()]);
    });
    const inode = (path: string) => lstatSync(join(root, path), { bigint: true }).ino;
    // A folder is no link: that is an error, and only one of nine files is wrong.
    assert.deepEqual(all, [
      ["b", "0xb", "../../drivers/of-b", "of-b", inode("b/driver"), ["vfio1"], inode("b"), null, ["folder: EINVAL"]],
      ["a", "0xa", "../../drivers/of-a", "of-a", inode("a/driver"), [], inode("a"), null, ["folder: EINVAL"]],
    ]);
  });

  test("what is missing is nothing, what is wrong is told, and neither costs the others anything", async () => {
    folder("good", { x: "good\n" });
    folder("empty");
    folder("binary", { x: Uint8Array.of(0, 0xff, 0x0a, 0x0a) });
    folder("long", { x: "x".repeat(4097) });
    folder("longest", { x: "x".repeat(4096) });
    mkdirSync(join(folder("deep"), "x"));
    symlinkSync("x", join(folder("loop"), "x"));
    symlinkSync("self", join(root, "self"));
    writeFileSync(join(root, "plain"), "");
    execFileSync("mkfifo", [join(folder("fifo"), "x")]);
    const folders = ["good", "empty", "none", "plain", "binary", "long", "longest", "deep", "loop", "self", "fifo", "good"];
    assert.deepEqual(await texts(folders, "x"), [
      ["good", []],
      ...new Array(3).fill([null, []]),
      ["\0\xff\n", []],
      [null, ["x: longer than 4096 bytes"]],
      ["x".repeat(4096), []],
      [null, ["x: EISDIR"]],
      [null, ["x: ELOOP"]],
      [null, ["x: ELOOP"]],
      ["", []],
      ["good", []],
    ]);
    let told = 0;
    await reader.read(join(root, "none"), ["a", "b"], [text("x")], (_name, walk) => {
      assert.deepEqual([walk.text(), walk.unreadable()], [null, []]);
      told += 1;
    });
    assert.equal(told, 2);
  });

  test("a value that begins, or ends, like the one before is its own", async () => {
    const values = ["abc", "abd", "ab", "abcd", "", "abc", "abc", "\xe4bc"];
    for (const [i, value] of values.entries()) folder(String(i), { x: Buffer.from(value, "latin1") });
    const read = await texts([...values.keys()].map(String), "x");
    assert.deepEqual(
      read.map(([value]) => value),
      values,
    );
  });

  test("an entry that is asked for as another kind is a fault, not a wrong answer", async () => {
    folder("a", { x: "1" });
    await assert.rejects(
      reader.read(root, ["a"], [text("x")], (_name, walk) => void walk.inode()),
      /inode is read where text x was asked for/,
    );
  });

  test("the loop turns between any 256 of ten thousand folders, and each is told once", async () => {
    const names = Array.from({ length: 10_000 }, (_, i) => `d${i}`);
    for (const name of names) folder(name, { x: `${name}\n` });
    let since = 0;
    let most = 0;
    let turning = true;
    const turn = (): void => {
      since = 0;
      if (turning) setImmediate(turn);
    };
    turn();
    const seen: string[] = [];
    await reader.read(root, names, [text("x")], (name, walk) => {
      assert.equal(walk.text(), name);
      seen.push(name);
      since += 1;
      most = Math.max(most, since);
    });
    turning = false;
    assert.deepEqual(seen, names);
    assert.ok(most <= 256, `${most} without a turn`);
  });
});

describe("[pure] slices", () => {
  test("every item once and in order, and the loop turns between slices", async () => {
    const items = Array.from({ length: 2001 }, (_, i) => i);
    const seen: number[] = [];
    const turns: number[] = [];
    const turn = (): void => {
      turns.push(seen.length);
      if (seen.length < items.length) setImmediate(turn);
    };
    setImmediate(turn);
    await inSlices(items, (item) => seen.push(item));
    assert.deepEqual(seen, items);
    assert.ok(new Set(turns).size >= 4, String(turns));
    await inSlices([], () => assert.fail("there is none"));
  });
});

describe("[pure] folder reader", () => {
  test("a read that the kernel does not answer holds up no other", async () => {
    const asked: string[] = [];
    class Queue {
      readFolders(...[parent, folders, entries]: Parameters<BlockingQueue["readFolders"]>): ReturnType<BlockingQueue["readFolders"]> {
        asked.push(parent);
        return parent === "/hangs" ? new Promise(() => {}) : new native.BlockingQueue("real").readFolders(parent, folders, entries);
      }
    }
    let queues = 0;
    const reader = new FolderReader({
      BlockingQueue: class extends Queue {
        constructor() {
          super();
          queues += 1;
        }
      } as unknown as new (
        name: string,
      ) => BlockingQueue,
    });
    void reader.read("/hangs", ["a"], [text("x")], () => assert.fail("nothing was read"));
    let comm: string | null = null;
    await reader.read("/proc", ["self"], [text("comm")], (_name, walk) => {
      comm = walk.text();
    });
    assert.notEqual(comm, null);
    // One queue, and so one thread, each: a queue in common would keep the second behind the first.
    assert.deepEqual([asked, queues], [["/hangs", "/proc"], 2]);
  });
});
