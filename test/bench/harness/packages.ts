// Debian's development packages that some baselines are built with: installed when root runs the bench, named when somebody else does. What cannot be had is no error: the
// rows that need it say so.

import { debianRelease, PrivateApt } from "../../lab/apt.js";
import { run } from "../../lab/process.js";
import { cacheFolder } from "./cache.js";

async function missing(packages: readonly string[]): Promise<readonly string[]> {
  const absent: string[] = [];
  for (const name of packages) {
    const status = await run("dpkg", ["--status", name]).catch(() => "");
    if (!/^Status: install ok installed$/m.test(status)) absent.push(name);
  }
  return absent;
}

/** null when all are there now; else why not. */
export async function installed(packages: readonly string[]): Promise<string | null> {
  const absent = await missing(packages);
  if (absent.length === 0) return null;
  const needs = `needs ${absent.join(", ")}`;
  const release = await debianRelease().catch(() => null);
  if (release === null) return `${needs}, which the bench installs by itself on Debian only`;
  if (process.geteuid?.() !== 0) return `${needs}, which only root can install`;
  process.stderr.write(`bench: installing ${absent.join(", ")}\n`);
  try {
    const apt = await PrivateApt.open(cacheFolder("apt"), release, [release.codename, `${release.codename}-updates`]);
    await apt.install(absent, release.codename);
  } catch (error) {
    const said = error instanceof Error ? /^E: .*$/m.exec(error.message)?.[0] : undefined;
    return `${needs}, which could not be installed${said === undefined ? "" : ` (${said})`}`;
  }
  const still = await missing(packages);
  return still.length === 0 ? null : `needs ${still.join(", ")}, which did not install`;
}
