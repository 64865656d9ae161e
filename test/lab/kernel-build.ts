// Builds the lab kernel from Debian's kernel source package and the committed fragment, for a machine that was not given one.

import { readFile } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { addToCache } from "./cache.js";
import { debianKernelPackages, ensureKernelBuildPackages } from "./packages.js";
import { run, say } from "./process.js";

// The series that has nvgrace's readiness checks, dma-buf export and the iommufd calls that the tests expect.
const sourcePackage = /^linux-source-7\.\d+$/;

/** The image in the cache, named bzImage-<kernel release>-<hash of the fragment>. */
export async function buildKernel(fragment: string, hash: string): Promise<string> {
  await ensureKernelBuildPackages();
  const apt = await debianKernelPackages();
  const name = (await apt.packageNames(sourcePackage)).at(-1);
  if (name === undefined) throw new Error("the package index of Debian 13 and its backports names no linux-source-7.*");
  const begin = performance.now();
  say(`building the lab kernel from ${name}, 10 minutes or more on two processors; kept for later runs`);
  const image = await addToCache(async (folder) => {
    await apt.unpack(name, folder);
    const source = join(folder, name);
    await run("tar", ["--extract", "--file", join(folder, "usr/src", `${name}.tar.xz`), "--directory", folder]);
    const make = (...targets: string[]) => run("make", ["--silent", `--jobs=${availableParallelism()}`, ...targets], { cwd: source });
    await make("tinyconfig");
    await run("scripts/kconfig/merge_config.sh", ["-m", ".config", fragment], { cwd: source });
    await make("olddefconfig");
    assertHonoured(await readFile(fragment, "utf8"), await readFile(join(source, ".config"), "utf8"));
    await make("bzImage");
    // Only a finished build knows the suffix that the configuration gives the release.
    const release = (await make("kernelrelease")).trim();
    return { name: `bzImage-${release}-${hash}`, path: join(source, "arch/x86/boot/bzImage") };
  });
  say(`built in ${Math.round((performance.now() - begin) / 1000)} s`);
  return image;
}

/** Kconfig drops, without a word, a symbol whose conditions are not met or that this version does not know. */
function assertHonoured(fragment: string, config: string): void {
  const set = new Set(config.split("\n"));
  const lost = fragment
    .split("\n")
    .filter((line) => line.startsWith("CONFIG_"))
    .filter((line) => {
      const symbol = line.slice(0, line.indexOf("="));
      return line.endsWith("=n") ? set.has(`${symbol}=y`) || set.has(`${symbol}=m`) : !set.has(line);
    });
  if (lost.length > 0) throw new Error(`the kernel source does not honour these lines of kernel.config: ${lost.join(" ")}`);
}
