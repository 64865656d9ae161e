// The nodes below /dev and the interfaces through which a PCI function is used: everything below its folder in sysfs that has a number or a network name.

import { readdir } from "node:fs/promises";
import { join, relative } from "node:path";
import type { FolderReader } from "./folder-reader.js";
import { devicesFolder, readNames } from "./sysfs-device.js";

export interface DeviceNode {
  /** Below /dev, as the kernel names it: `vfio/devices/vfio3`, `nvme0n1`. */
  readonly name: string;
  /** `major:minor`. */
  readonly number: string;
  readonly isBlock: boolean;
  /** Block devices made of this one: device mapper, md. */
  readonly holders: readonly string[];
}

export interface DevicePresence {
  readonly nodes: readonly DeviceNode[];
  /** Network interfaces. */
  readonly interfaces: readonly string[];
}

/** A disk behind a SATA or USB controller is at most this deep below it. */
const DEEPEST = 12;
const MOST_FOLDERS = 4096;
/** A bridge's functions, which are not this one. */
const FUNCTION = /^[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]$/;

async function foldersBelow(top: string): Promise<readonly string[]> {
  const found: string[] = [];
  let level = [top];
  for (let depth = 0; depth < DEEPEST && level.length > 0; depth += 1) {
    const next: string[] = [];
    for (const folder of level) {
      const entries = await readdir(folder, { withFileTypes: true }).catch(() => []);
      // Links lead elsewhere.
      for (const entry of entries) if (entry.isDirectory() && !FUNCTION.test(entry.name)) next.push(join(folder, entry.name));
      if (found.length + next.length > MOST_FOLDERS) return [...found, ...next].slice(0, MOST_FOLDERS);
    }
    found.push(...next);
    level = next;
  }
  return found;
}

/** Read without the function's own lock: of it alone nothing is asked. */
export async function readPresence(reader: FolderReader, sysRoot: string, address: string): Promise<DevicePresence> {
  const top = join(devicesFolder(sysRoot), address);
  const below = (await foldersBelow(top)).map((folder) => relative(top, folder));
  const nodes: DeviceNode[] = [];
  const entries = [
    { kind: "text", name: "dev" },
    { kind: "text", name: "uevent" },
    { kind: "link", name: "subsystem" },
    { kind: "names", name: "holders" },
  ] as const;
  await reader.read(top, below, entries, (_folder, walk) => {
    const [number, uevent, subsystem, holders] = [walk.text(), walk.text(), walk.linkName(), walk.names()];
    walk.unreadable();
    const name = /^DEVNAME=([\x21-\x7e]{1,255})$/m.exec(uevent ?? "")?.[1];
    if (number !== null && name !== undefined) nodes.push({ name, number, isBlock: subsystem === "block", holders: holders ?? [] });
  });
  return { nodes, interfaces: await readNames(join(top, "net")) };
}
