// Reads what sysfs says of one PCI function, as raw text: the one place that touches the files, behind one function, so that a native scan can replace it.
// Nothing here blocks on a device: no attribute read here takes the device's lock (driver_override does before 7.x: driver-override.ts).

import { lstat, open, readdir, readlink } from "node:fs/promises";
import { basename, join } from "node:path";

/** The ids, unparsed: they stay as long as the function is there. */
export interface IdTexts {
  readonly vendor: string | null;
  readonly device: string | null;
  readonly class: string | null;
}

/** One PCI function, unparsed. null: the file is not there, which is normal for each of them. */
export interface RawDevice extends IdTexts {
  readonly resetMethod: string | null;
  readonly numaNode: string | null;
  /** Name of the bound driver, and the inode of the link to it: a new one with every bind. */
  readonly driver: { readonly name: string; readonly inode: bigint } | null;
  /** Number of the IOMMU group, as text. */
  readonly group: string | null;
  /** Address of the physical function, unchecked. */
  readonly physicalFunction: string | null;
  /** Names below vfio-dev: vfioN. */
  readonly vfioDevices: readonly string[];
  /** Files that could not be read, with why: each is a fault worth a line in the log. */
  readonly unreadable: readonly string[];
}

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
export async function readDriver(folder: string): Promise<RawDevice["driver"]> {
  const path = join(folder, "driver");
  const [name, facts] = await Promise.all([readLinkName(path), missingAsNull(lstat(path, { bigint: true }))]);
  return name === null || facts === null ? null : { name, inode: facts.ino };
}

/**
 * vfioN of each VFIO device of the function. Every VFIO driver registers one, with or without cdev, since 6.1 (drivers/vfio/vfio_main.c vfio_init_device(),
 * class vfio-dev): whether a driver is a VFIO driver is seen here and not guessed from its name.
 */
export async function readVfioDevices(folder: string): Promise<readonly string[]> {
  const names = (await missingAsNull(readdir(join(folder, "vfio-dev")))) ?? [];
  return names.filter((name) => /^vfio\d{1,9}$/.test(name)).sort();
}

/** Reads one function; null when it is not there. known: its ids, when they have been read before. */
export async function readRawDevice(sysRoot: string, address: string, known: IdTexts | null): Promise<RawDevice | null> {
  const folder = join(devicesFolder(sysRoot), address);
  const unreadable: string[] = [];
  const guarded = async <T>(name: string, fallback: T, read: Promise<T>): Promise<T> => {
    try {
      return await read;
    } catch (error) {
      unreadable.push(`${name}: ${error instanceof Error ? error.message : String(error)}`);
      return fallback;
    }
  };
  const attribute = (name: string) => guarded(name, null, readAttribute(join(folder, name)));
  const link = (name: string) => guarded(name, null, readLinkName(join(folder, name)));
  const [vendor, device, classCode, resetMethod, numaNode, driver, group, physicalFunction, vfioDevices] = await Promise.all([
    known?.vendor ?? attribute("vendor"),
    known?.device ?? attribute("device"),
    known?.class ?? attribute("class"),
    attribute("reset_method"),
    attribute("numa_node"),
    guarded("driver", null, readDriver(folder)),
    link("iommu_group"),
    link("physfn"),
    guarded("vfio-dev", [], readVfioDevices(folder)),
  ]);
  if (vendor === null && device === null && classCode === null && unreadable.length === 0) return null;
  return { vendor, device, class: classCode, resetMethod, numaNode, driver, group, physicalFunction, vfioDevices, unreadable };
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
