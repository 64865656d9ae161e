// What the lab downloads or builds stays between runs, outside the checkout, for all checkouts of a user.

import { mkdir, mkdtemp, readdir, rename, rm } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";

export function cacheFolder(): string {
  const { APERTURE_LAB_CACHE, XDG_CACHE_HOME } = process.env;
  if (APERTURE_LAB_CACHE !== undefined && APERTURE_LAB_CACHE !== "") return APERTURE_LAB_CACHE;
  const base = XDG_CACHE_HOME !== undefined && XDG_CACHE_HOME !== "" ? XDG_CACHE_HOME : join(homedir(), ".cache");
  return join(base, "aperture-lab");
}

/** The newest of the cached entries that match, as a path; null when there is none. */
export async function newestCached(pattern: RegExp): Promise<string | null> {
  const names = (await readdir(cacheFolder()).catch(() => [])).filter((name) => pattern.test(name));
  const newest = names.sort((a, b) => a.localeCompare(b, "en", { numeric: true })).at(-1);
  return newest === undefined ? null : join(cacheFolder(), newest);
}

export interface CacheEntry {
  readonly name: string;
  /** The file or folder that becomes the entry, in the folder that `make` was given. */
  readonly path: string;
}

/**
 * A cache entry is made in a folder of its own and moved into place when it is complete, so that an interrupted run leaves no half of one and
 * two runs at once do not meet. Returns its path.
 */
export async function addToCache(make: (folder: string) => Promise<CacheEntry>): Promise<string> {
  await mkdir(cacheFolder(), { recursive: true });
  const folder = await mkdtemp(join(cacheFolder(), "making-"));
  try {
    const entry = await make(folder);
    const path = join(cacheFolder(), entry.name);
    await rename(entry.path, path).catch((error: NodeJS.ErrnoException) => {
      // Another run was faster: a folder cannot replace a full one.
      if (error.code !== "ENOTEMPTY" && error.code !== "EEXIST") throw error;
    });
    return path;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
