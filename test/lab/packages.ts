// The programs that a fresh Debian machine lacks, installed when root asks for a lab run and named when somebody else does.

import { join } from "node:path";
import { type DebianRelease, debianRelease, PrivateApt } from "./apt.js";
import { addToCache, cacheFolder, newestCached } from "./cache.js";
import { run, say, which } from "./process.js";

interface Need {
  readonly package: string;
  readonly present: () => Promise<boolean>;
}

// igb, the SR-IOV card of the machine, came with QEMU 8; passing a descriptor to a nested QEMU's iommufd with 8.2; tested from 9 on.
const oldestQemu = 9;

async function qemuIsNewEnough(): Promise<boolean> {
  const qemu = await which("qemu-system-x86_64");
  if (qemu === null) return false;
  const version = /version (\d+)\./.exec(await run(qemu, ["--version"]))?.[1];
  return version !== undefined && Number.parseInt(version, 10) >= oldestQemu;
}

const commandPresent = (command: string) => async () => (await which(command)) !== null;

async function packageInstalled(name: string): Promise<boolean> {
  return /^Status: install ok installed$/m.test(await run("dpkg", ["--status", name]).catch(() => ""));
}

/** For every run. */
const runNeeds: readonly Need[] = [
  { package: "qemu-system-x86", present: qemuIsNewEnough },
  { package: "acpica-tools", present: commandPresent("iasl") },
  { package: "xz-utils", present: commandPresent("xz") },
  // The plain busybox package has the same command, linked against libraries that an initrd does not have.
  { package: "busybox-static", present: () => packageInstalled("busybox-static") },
  // The test client that shares no code with us is Python, and imports grpc.
  { package: "python3-grpcio", present: () => packageInstalled("python3-grpcio") },
];

/** For building the lab kernel. */
const kernelBuildNeeds: readonly Need[] = [
  ...["gcc", "make", "flex", "bison", "bc", "rsync", "gawk"].map((name) => ({ package: name, present: commandPresent(name) })),
  ...["xz-utils", "zstd", "perl", "libelf-dev", "libssl-dev", "libc6-dev"].map((name) => ({
    package: name,
    present: () => packageInstalled(name),
  })),
];

/** Debian 12's own QEMU is 7.2; its backports have what Debian 13 has. */
function suites(release: DebianRelease): { readonly all: readonly string[]; readonly preferred: string } {
  const { codename } = release;
  if (release.version >= 13) return { all: [codename, `${codename}-updates`], preferred: codename };
  return { all: [codename, `${codename}-updates`, `${codename}-backports`], preferred: `${codename}-backports` };
}

async function ensure(needs: readonly Need[]): Promise<void> {
  const missing: string[] = [];
  for (const need of needs) {
    if (!(await need.present())) missing.push(need.package);
  }
  if (missing.length === 0) return;
  const release = await debianRelease();
  if (release === null || release.version < 12)
    throw new Error(`the lab needs ${missing.join(", ")}, and installs them by itself on Debian 12 and 13 only`);
  const { all, preferred } = suites(release);
  if (process.getuid?.() !== 0) {
    throw new Error(
      `the lab needs packages that only root can install: apt-get install --target-release ${preferred} ${missing.join(" ")}`,
    );
  }
  say(`installing ${missing.join(", ")} from ${all.join(", ")}`);
  const apt = await PrivateApt.open(join(cacheFolder(), "apt-tools"), release, all);
  await apt.install(missing, preferred);
  for (const need of needs) {
    if (!(await need.present())) throw new Error(`${need.package} was installed and is still not usable`);
  }
}

export const ensureRunPackages = () => ensure(runNeeds);
export const ensureKernelBuildPackages = () => ensure(kernelBuildNeeds);

/** Tools of the machine's own Debian, or of other suites, to be unpacked without being installed. */
export async function debianTools(suites?: readonly string[]): Promise<{ readonly apt: PrivateApt; readonly release: DebianRelease }> {
  const release = await debianRelease();
  if (release === null) throw new Error("the lab takes its tools from Debian's archive, through the package sources of a Debian machine");
  const folder = suites === undefined ? "apt-tools" : `apt-tools-${suites.join("-")}`;
  return { apt: await PrivateApt.open(join(cacheFolder(), folder), release, suites ?? [release.codename]), release };
}

/** QEMU for arm64 guests, of the same version as the machine's own and with its libraries, unpacked into the cache. */
export async function qemuForArm(): Promise<string> {
  await ensureRunPackages();
  const release = await debianRelease();
  if (release === null)
    throw new Error("the lab takes QEMU for arm64 from Debian's archive, through the package sources of a Debian machine");
  const { preferred } = suites(release);
  const name = `qemu-system-arm-${preferred}`;
  const cached = await newestCached(new RegExp(`^${name}$`));
  if (cached !== null) return join(cached, "usr/bin/qemu-system-aarch64");
  say(`downloading qemu-system-arm of ${preferred}`);
  const { apt } = await debianTools([preferred]);
  const folder = await addToCache(async (making) => {
    await apt.unpack("qemu-system-arm", join(making, name));
    return { name, path: join(making, name) };
  });
  return join(folder, "usr/bin/qemu-system-aarch64");
}

/** Kernels and kernel sources of Debian 13, also on a Debian 12 machine, whose keyring verifies them. */
export async function debianKernelPackages(): Promise<PrivateApt> {
  const release = await debianRelease();
  if (release === null) throw new Error("the lab takes its kernels from Debian's archive, through the package sources of a Debian machine");
  return PrivateApt.open(join(cacheFolder(), "apt-kernels"), release, ["trixie", "trixie-updates", "trixie-backports"]);
}
