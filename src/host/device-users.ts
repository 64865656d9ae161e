// Who would lose a device that is taken from its driver: processes that have one of its nodes open, file systems and swap on it, an interface that has a route. Asked before, because an
// unbind that has begun cannot be taken back: a VFIO driver's waits for the last holder, and a disk's takes the file system away from under everybody.
//
// What is looked at are names: readlink of /proc/PID/fd/N touches neither the file nor its driver. A process in another pid namespace, one that this user may not look
// at, a copy of a legacy device descriptor without its group, and a mapping alone are not found.

import { readlink } from "node:fs/promises";
import { basename, join } from "node:path";
import type { Native } from "../native.js";
import { type DevicePresence, readPresence } from "./device-nodes.js";
import { FolderReader } from "./folder-reader.js";
import { linesOfProc } from "./proc-file.js";
import { devicesFolder, readNames } from "./sysfs-device.js";

/** Named in a message. */
const MOST_NAMED = 8;
const DELETED = " (deleted)";

export class DeviceUsers {
  readonly #reader: FolderReader;
  readonly #sysRoot: string;
  readonly #devRoot: string;
  readonly #procRoot: string;
  /** A VFIO device that is being unbound has lost its node already, while its holders still have it open. */
  readonly #lastNodes = new Map<string, readonly string[]>();

  constructor(
    native: Pick<Native, "BlockingQueue">,
    roots: { readonly sysRoot: string; readonly devRoot: string; readonly procRoot: string },
  ) {
    this.#reader = new FolderReader(native);
    this.#sysRoot = roots.sysRoot;
    this.#devRoot = roots.devRoot;
    this.#procRoot = roots.procRoot;
  }

  /** In words, processes first. */
  async of(address: string): Promise<readonly string[]> {
    const presence = await readPresence(this.#reader, this.#sysRoot, address);
    const users = [...(await this.#processes(await this.#paths(address, presence))), ...(await this.#kernelUsers(presence))];
    const more = users.length - MOST_NAMED;
    return more > 0 ? [...users.slice(0, MOST_NAMED), `${more} more`] : users;
  }

  async #paths(address: string, { nodes }: DevicePresence): Promise<ReadonlySet<string>> {
    const now = nodes.map(({ name }) => join(this.#devRoot, name));
    if (now.length > 0) this.#lastNodes.set(address, now);
    const group = await readlink(join(devicesFolder(this.#sysRoot), address, "iommu_group")).catch(() => "");
    return new Set([
      ...(now.length > 0 ? now : (this.#lastNodes.get(address) ?? [])),
      ...(group === "" ? [] : [join(this.#devRoot, "vfio", basename(group))]),
    ]);
  }

  async #processes(paths: ReadonlySet<string>): Promise<readonly string[]> {
    const pids = (await readNames(this.#procRoot)).filter((name) => /^\d{1,10}$/.test(name));
    const open: string[] = [];
    await this.#reader.read(this.#procRoot, pids, [{ kind: "names", name: "fd" }], (pid, walk) => {
      for (const name of walk.names() ?? []) open.push(`${pid}/fd/${name}`);
      walk.unreadable();
    });
    const found = new Map<string, Set<string>>();
    const holds = (pid: string, target: string): void => {
      const path = target.endsWith(DELETED) ? target.slice(0, -DELETED.length) : target;
      if (!paths.has(path)) return;
      const held = found.get(pid);
      if (held) held.add(path);
      else found.set(pid, new Set([path]));
    };
    await this.#reader.read(this.#procRoot, open, [{ kind: "link", name: "" }], (path, walk) => {
      const target = walk.link();
      walk.unreadable();
      if (target !== null) holds(path.slice(0, path.indexOf("/")), target);
    });
    const names = new Map<string, string>();
    await this.#reader.read(this.#procRoot, [...found.keys()], [{ kind: "text", name: "comm" }], (pid, walk) => {
      names.set(pid, (walk.text() ?? "").replaceAll(/[^\x20-\x7e]/g, "?"));
      walk.unreadable();
    });
    return [...found].map(([pid, held]) => `pid ${pid} (${names.get(pid) ?? "?"}, ${[...held].join(" ")})`);
  }

  /** What the kernel itself uses it for. */
  async #kernelUsers({ nodes, interfaces }: DevicePresence): Promise<readonly string[]> {
    const users: string[] = [];
    const blocks = nodes.filter(({ isBlock }) => isBlock);
    for (const { name, holders } of blocks) for (const holder of holders) users.push(`${holder}, which is made of ${name}`);
    if (blocks.length > 0) {
      // ID PARENT MAJOR:MINOR ROOT MOUNTPOINT OPTIONS... - TYPE SOURCE SUPEROPTIONS (proc_pid_mountinfo(5)); btrfs has a number of its own, and names its device.
      for (const line of await linesOfProc(join(this.#procRoot, "self/mountinfo"))) {
        const [before = "", after = ""] = line.split(" - ", 2);
        const [, , number, , point] = before.split(" ");
        const [, source] = after.split(" ");
        const block = blocks.find((node) => node.number === number || join(this.#devRoot, node.name) === source);
        if (block !== undefined) users.push(`the file system at ${point}, on ${block.name}`);
      }
      for (const line of await linesOfProc(join(this.#procRoot, "swaps"))) {
        const block = blocks.find(
          (node) => line.startsWith(`${join(this.#devRoot, node.name)} `) || line.startsWith(`${join(this.#devRoot, node.name)}\t`),
        );
        if (block !== undefined) users.push(`swap on ${block.name}`);
      }
    }
    if (interfaces.length > 0) {
      const routed = new Set((await linesOfProc(join(this.#procRoot, "self/net/route"))).map((line) => line.split("\t", 1)[0]));
      for (const name of interfaces) if (routed.has(name)) users.push(`the routes over ${name}`);
    }
    return users;
  }
}
