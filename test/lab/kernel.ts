// The two kernels: the one of a stock Debian 13 host, and the lab's own, which has what Debian leaves out.

import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { readdir, readFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { addToCache, newestCached } from "./cache.js";
import { buildKernel } from "./kernel-build.js";
import { loadOrder, type Module } from "./modules.js";
import { debianKernelPackages } from "./packages.js";
import { say } from "./process.js";
import { repository } from "./repository.js";

export interface Kernel {
  readonly image: string;
  /** What the initrd has to load; empty when all is built in. */
  readonly modules: readonly Module[];
}

// The drivers that the tests meet, and what the guest's root file system needs. Dependencies are found by themselves.
const stockModules = ["9pnet_virtio", "9p", "overlay", "vfio_iommu_type1", "vfio-pci", "igb", "nvme"];

const stockPackage = /^linux-image-6\.12\.\d+\+deb13(\.\d+)?-amd64$/;

/** The newest 6.12 kernel of Debian 13, unpacked in the cache. */
export async function stockKernel(): Promise<Kernel> {
  const folder = (await newestCached(stockPackage)) ?? (await downloadStockKernel());
  const release = basename(folder).slice("linux-image-".length);
  const modules = await loadOrder(join(folder, "usr/lib/modules", release), stockModules);
  return { image: join(folder, "boot", `vmlinuz-${release}`), modules };
}

async function downloadStockKernel(): Promise<string> {
  const apt = await debianKernelPackages();
  const name = (await apt.packageNames(stockPackage)).at(-1);
  if (name === undefined) throw new Error("the package index of Debian 13 names no linux-image-6.12.*-amd64");
  say(`downloading ${name}`);
  return addToCache(async (folder) => {
    const path = join(folder, name);
    await apt.unpack(name, path);
    return { name, path };
  });
}

/** A given kernel, the one beside the checkout, a cached one, or one built now: the first of these that there is. */
export async function labKernel(): Promise<Kernel> {
  return { image: await labKernelImage(), modules: [] };
}

async function labKernelImage(): Promise<string> {
  const given = process.env.APERTURE_LAB_KERNEL;
  if (given !== undefined && given !== "") {
    if (!existsSync(given)) throw new Error(`APERTURE_LAB_KERNEL names ${given}, which does not exist`);
    return given;
  }
  const beside = join(repository, "../shared/lab");
  const prebuilt = (await readdir(beside).catch(() => [])).find((name) => /^bzImage-.*-lab$/.test(name));
  if (prebuilt !== undefined) return join(beside, prebuilt);

  const fragment = join(repository, "test/lab/kernel.config");
  const hash = createHash("sha256")
    .update(await readFile(fragment))
    .digest("hex")
    .slice(0, 12);
  return (await newestCached(new RegExp(`^bzImage-.*-${hash}$`))) ?? (await buildKernel(fragment, hash));
}
