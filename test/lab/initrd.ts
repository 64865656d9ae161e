// Packs the guest's first file system: busybox, guest-init.sh as /init and the kernel modules that must be there before the root is.
// The cpio format ("newc") is a fixed header of hexadecimal numbers before each file, so no tool is needed. It stays uncompressed: QEMU
// copies it into the guest at full speed, while the guest would unpack it under emulation.

import { readFile } from "node:fs/promises";

interface Entry {
  readonly path: string;
  readonly mode: number;
  readonly content: Uint8Array;
}

const directory = 0o040755;
const executable = 0o100755;
const regular = 0o100644;
const empty = new Uint8Array();

function padded(bytes: Uint8Array): Uint8Array {
  const result = new Uint8Array(Math.ceil(bytes.length / 4) * 4);
  result.set(bytes);
  return result;
}

function cpioRecord(entry: Entry, inode: number): Uint8Array {
  const name = Buffer.from(`${entry.path}\0`);
  // inode, mode, uid, gid, links, mtime, size, device (major, minor), the node's own device (major, minor), name length, checksum
  const fields = [inode, entry.mode, 0, 0, 1, 0, entry.content.length, 0, 0, 0, 0, name.length, 0];
  const header = `070701${fields.map((field) => field.toString(16).padStart(8, "0")).join("")}`;
  return Buffer.concat([padded(Buffer.concat([Buffer.from(header), name])), padded(entry.content)]);
}

function cpio(entries: readonly Entry[]): Uint8Array {
  const records = entries.map((entry, index) => cpioRecord(entry, index + 1));
  return Buffer.concat([...records, cpioRecord({ path: "TRAILER!!!", mode: 0, content: empty }, 0)]);
}

export interface InitrdParts {
  readonly busybox: string;
  readonly init: string;
  /** Uncompressed modules in the order in which they load. */
  readonly modules: readonly { readonly name: string; readonly content: Uint8Array }[];
}

export async function packInitrd(parts: InitrdParts): Promise<Uint8Array> {
  return cpio([
    { path: "bin", mode: directory, content: empty },
    { path: "bin/busybox", mode: executable, content: await readFile(parts.busybox) },
    { path: "init", mode: executable, content: await readFile(parts.init) },
    { path: "modules", mode: directory, content: empty },
    { path: "modules/order", mode: regular, content: Buffer.from(parts.modules.map((module) => `${module.name}.ko\n`).join("")) },
    ...parts.modules.map((module) => ({ path: `modules/${module.name}.ko`, mode: regular, content: module.content })),
  ]);
}
