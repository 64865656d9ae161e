// Single files of sysfs, read one by one where one device is looked at; the scan of all reads them by folders (folder-reader.ts). Nothing here blocks on a device: no attribute
// read here takes the device's lock (driver_override does before 7.x: driver-override.ts).

import { lstat, open, readdir, readlink } from "node:fs/promises";
import { basename, join } from "node:path";
import { type Binding, vfioNames } from "./raw-device.js";

/** sysfs gives an attribute in one read of at most one page (fs/sysfs/file.c, sysfs_kf_seq_show); pages are up to 64 KiB on arm64, values are not. */
const ATTRIBUTE_BYTES = 4096;

export function devicesFolder(sysRoot: string): string {
  return join(sysRoot, "bus/pci/devices");
}

/** errno name of a failed fs call. */
function codeOf(error: unknown): string {
  return error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : String(error);
}

/** What a missing file looks like; ENODEV and ENXIO come from a device that leaves while it is read. */
const MISSING: ReadonlySet<string> = new Set(["ENOENT", "ENODEV", "ENXIO", "ENOTDIR"]);

/** Text of an attribute without its newline, or null when there is none. Throws on anything else, also when it is too long. */
export async function readAttribute(path: string): Promise<string | null> {
  try {
    const file = await open(path, "r");
    try {
      const buffer = new Uint8Array(ATTRIBUTE_BYTES + 1);
      let length = 0;
      // A regular file gives all at once; the loop is for the kernel's right to give less.
      for (;;) {
        const { bytesRead } = await file.read(buffer, length, buffer.length - length);
        length += bytesRead;
        if (bytesRead === 0 || length === buffer.length) break;
      }
      if (length > ATTRIBUTE_BYTES) throw new Error(`longer than ${ATTRIBUTE_BYTES} bytes`);
      return Buffer.from(buffer.buffer, 0, length).toString("latin1").replace(/\n$/, "");
    } finally {
      await file.close();
    }
  } catch (error) {
    if (MISSING.has(codeOf(error))) return null;
    throw error;
  }
}

async function missingAsNull<T>(read: Promise<T>): Promise<T | null> {
  try {
    return await read;
  } catch (error) {
    if (MISSING.has(codeOf(error))) return null;
    throw error;
  }
}

async function readLinkName(path: string): Promise<string | null> {
  const target = await missingAsNull(readlink(path));
  return target === null ? null : basename(target);
}

/**
 * The driver link: a new sysfs node, and so a new inode number, with every bind (drivers/base/dd.c driver_sysfs_add). Inode numbers of kernfs are 64 bits with a
 * generation in them and not used twice (fs/kernfs/dir.c); its times are no use: they are those at which the inode last came into memory.
 */
export async function readDriver(folder: string): Promise<Binding["driver"]> {
  const path = join(folder, "driver");
  const [name, facts] = await Promise.all([readLinkName(path), missingAsNull(lstat(path, { bigint: true }))]);
  return name === null || facts === null ? null : { name, inode: facts.ino };
}

/**
 * vfioN of each VFIO device of the function. Every VFIO driver registers one, with or without cdev, since 6.1 (drivers/vfio/vfio_main.c vfio_init_device(),
 * class vfio-dev): whether a driver is a VFIO driver is seen here and not guessed from its name.
 */
export async function readVfioDevices(folder: string): Promise<readonly string[]> {
  return vfioNames((await missingAsNull(readdir(join(folder, "vfio-dev")))) ?? []);
}

/** Header type from config space (offset 0x0E, without the multi-function bit), or null. Wakes a sleeping device: only for bridges. */
export async function readHeaderType(sysRoot: string, address: string): Promise<number | null> {
  const file = await missingAsNull(open(join(devicesFolder(sysRoot), address, "config"), "r"));
  if (file === null) return null;
  try {
    const { bytesRead, buffer } = await file.read(new Uint8Array(1), 0, 1, 0x0e);
    const value = buffer[0];
    return bytesRead === 1 && value !== undefined ? value & 0x7f : null;
  } finally {
    await file.close();
  }
}

/** Names of a folder, or nothing when it is missing. */
export async function readNames(folder: string): Promise<readonly string[]> {
  return (await missingAsNull(readdir(folder))) ?? [];
}
