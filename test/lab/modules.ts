// The kernel modules of an unpacked Debian kernel, in an order in which they load. Each module names what it depends on in its .modinfo
// section, as "depends=a,b" ended by a zero byte: enough to do without depmod.

import { readdir } from "node:fs/promises";
import { basename, join } from "node:path";
import { runForBytes } from "./process.js";

export interface Module {
  readonly name: string;
  readonly content: Uint8Array;
}

const suffix = ".ko.xz";

/** File names use - and _ as their authors liked; the kernel takes them for the same. */
const canonical = (name: string) => name.replaceAll("-", "_");

function dependencies(content: Buffer): string[] {
  const start = content.indexOf("\0depends=");
  if (start < 0) return [];
  const from = start + "\0depends=".length;
  const names = content.toString("latin1", from, content.indexOf(0, from));
  return names === "" ? [] : names.split(",");
}

/** The wanted modules and all they depend on, each after what it needs. */
export async function loadOrder(folder: string, wanted: readonly string[]): Promise<Module[]> {
  const files = (await readdir(folder, { recursive: true })).filter((path) => path.endsWith(suffix));
  const paths = new Map(files.map((path) => [canonical(basename(path, suffix)), join(folder, path)]));
  const ordered = new Map<string, Module>();

  async function add(name: string, neededBy: string): Promise<void> {
    const key = canonical(name);
    if (ordered.has(key)) return;
    const path = paths.get(key);
    if (path === undefined) throw new Error(`${folder} has no module ${name}, needed by ${neededBy}`);
    const content = await runForBytes("xz", ["--decompress", "--stdout", path]);
    for (const dependency of dependencies(content)) await add(dependency, name);
    ordered.set(key, { name: key, content });
  }

  for (const name of wanted) await add(name, "the lab");
  return [...ordered.values()];
}
