// What VMMs themselves say of the arguments that src/vmm makes: QEMU starts with them, and libvirt's schema accepts the XML. QEMU gets a stand-in under the same id where a real device would be, and
// one with the words as they are, which has to fail at the kernel's answer and not before. Neither needs KVM, a Grace, or a device. Cloud Hypervisor, KubeVirt and OpenVMM have no
// judge here: their binaries are in no archive of Debian's.

import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, openSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import type { KnownDevice } from "../../src/broker/ports.js";
import type { VmmArguments, VmmHost, VmmOptions } from "../../src/broker/vmm.js";
import { initiatorsOf } from "../../src/host/numa.js";
import { vmmArguments } from "../../src/vmm/arguments.js";
import { until } from "../harness/until.js";
import { at, bar, device, EDU, gh200, graceNodes, IGB_PAIR, options, PC_HOST } from "../unit/vmm/devices.js";
import { addToCache, newestCached } from "./cache.js";
import { debianTools, ensureRunPackages, qemuForArm } from "./packages.js";
import { say } from "./process.js";
import { Qmp } from "./qmp.js";

const START_MS = 60_000;
const GIB = 1n << 30n;
const WIDE = { is64bit: true, prefetchable: true } as const;

/** Four GPUs of 256 GiB BARs on two sockets: more than virt's own window holds, and 34 nodes. */
const GRACE_ADDRESSES = ["0008:01:00.0", "0009:01:00.0", "0018:01:00.0", "0019:01:00.0"].map(at);
const GRACE_NODES = graceNodes(2, 8 * GRACE_ADDRESSES.length);
const GRACE_HOST: VmmHost = { backend: "IOMMUFD", architecture: "arm64", numaNodes: GRACE_NODES };
const GRACE: readonly KnownDevice[] = GRACE_ADDRESSES.map((address) => {
  const whole = gh200(address, initiatorsOf(GRACE_NODES, GRACE_ADDRESSES).get(address) ?? null);
  return { ...whole, probe: { ...whole.probe, regions: [bar(0, 1n << 24n, WIDE), bar(4, 256n * GIB, WIDE)] } };
});
const GUEST_NODES = [
  { guest: 0, host: 0 },
  { guest: 1, host: 1 },
];

function made(vmm: "QEMU" | "LIBVIRT", devices: readonly KnownDevice[], host: VmmHost, change: Partial<VmmOptions> = {}): VmmArguments {
  const outcome = vmmArguments(options(vmm, change), devices, host);
  return outcome.value ?? assert.fail(outcome.refusal?.message);
}

/** Numbers of descriptors in place of their words. Any file does: nothing of it is used before the device is bound. */
function withDescriptor(lines: readonly string[], fd: number): readonly string[] {
  return lines.map((line) => line.replace(/@(iommufd|device:[0-9a-f:.]+)/, String(fd)));
}

/** A device of the same id behind the same port, in place of each vfio-pci. */
function withStandIns(lines: readonly string[]): readonly string[] {
  return lines.map((line) => line.replace(/^vfio-pci,(id=[^,]+),.*,(bus=[^,]+)$/, "pci-testdev,$1,$2"));
}

/** Starts QEMU without letting its guest run, asks it, and ends it. */
async function inQemu<T>(program: string, args: readonly string[], ask: (qmp: Qmp) => Promise<T>): Promise<T> {
  const folder = await mkdtemp(join(tmpdir(), "aperture-dry-run-"));
  const socket = join(folder, "qmp");
  const common = ["-S", "-nodefaults", "-display", "none", "-qmp", `unix:${socket},server=on,wait=off`];
  const child = start(program, [...common, ...args]);
  const said = text(child.stderr ?? assert.fail());
  const ended = once(child, "exit").then(async () => {
    throw new Error(`${program} has ended: ${await said}`);
  });
  const asked = async (): Promise<T> => {
    await until(
      `${program}'s control socket`,
      () => existsSync(socket),
      (there) => there,
      START_MS,
    );
    const qmp = await Qmp.connect(socket);
    const answer = await ask(qmp);
    qmp.close();
    return answer;
  };
  try {
    // The socket is there before the machine is, and breaks when that fails: then the end says why.
    return await Promise.race([ended, asked().catch((error: unknown) => (isBroken(error) ? ended : Promise.reject(error)))]);
  } finally {
    ended.catch(() => undefined);
    child.kill("SIGKILL");
    await rm(folder, { recursive: true });
  }
}

function isBroken(error: unknown): boolean {
  return /ECONNRE|closed its QMP/.test(String(error));
}

/** Descriptor 3 is /dev/null. */
function start(program: string, args: readonly string[]): ChildProcess {
  return spawn(program, args, { stdio: ["ignore", "ignore", "pipe", openSync("/dev/null", "r+")] });
}

async function names(qmp: Qmp, path: string): Promise<readonly string[]> {
  const listed = (await qmp.execute("qom-list", { path })) as readonly { readonly name: string }[];
  return listed.map(({ name }) => name);
}

interface Machine {
  readonly program: string;
  readonly arguments: readonly string[];
}

/** With firmware, or QEMU makes no ACPI tables, and the generic initiators with them; the guest never runs it. Sockets as NUMA nodes are. */
const GRACE_MACHINE = [
  ...["-M", "virt,gic-version=3,ras=on,hmat=on", "-cpu", "cortex-a72", "-smp", "4,sockets=2", "-m", "512M"],
  ...["-object", "memory-backend-ram,id=m0,size=256M", "-numa", "node,nodeid=0,cpus=0-1,memdev=m0"],
  ...["-object", "memory-backend-ram,id=m1,size=256M", "-numa", "node,nodeid=1,cpus=2-3,memdev=m1"],
];

async function accepts({ program, arguments: machine }: Machine, all: VmmArguments): Promise<void> {
  const lines = withDescriptor(
    all.fragments.flatMap((fragment) => fragment.lines),
    3,
  );
  const wanted = all.fragments
    .flatMap((fragment) => fragment.lines)
    .flatMap((line) => /^(?:iommufd|acpi-generic-initiator),id=([^,]+)/.exec(line)?.[1] ?? []);
  await inQemu(program, [...machine, ...withStandIns(lines)], async (qmp) => {
    const objects = await names(qmp, "/objects");
    assert.deepEqual(
      wanted.filter((id) => !objects.includes(id)),
      [],
    );
    const devices = await names(qmp, "/machine/peripheral");
    assert.deepEqual(
      all.devices.filter(({ id }) => !devices.includes(id)),
      [],
    );
  });
  // The words as they are: QEMU goes as far as the kernel, which cannot bind /dev/null.
  const child = start(program, ["-S", "-nodefaults", "-display", "none", ...machine, ...lines]);
  const [said] = await Promise.all([text(child.stderr ?? assert.fail()), once(child, "close")]);
  assert.match(said, /error bind device fd=3 to iommufd=3/, said);
  assert.notEqual(child.exitCode, 0);
}

/** For arm64: four Grace GPUs. */
export async function qemuForArmAccepts(): Promise<void> {
  const program = await qemuForArm();
  const all = made("QEMU", GRACE, GRACE_HOST, { guestNodes: GUEST_NODES });
  assert.ok(all.fragments.some(({ lines }) => lines.includes("highmem-mmio-size=2T")));
  const folder = await mkdtemp(join(tmpdir(), "aperture-firmware-"));
  try {
    const firmware = join(folder, "firmware");
    await writeFile(firmware, new Uint8Array(4096));
    const machine = { program, arguments: [...GRACE_MACHINE, "-bios", firmware] };
    await accepts(machine, all);
    // It does look: a node that is not there, and a device that is not there when the tables are made.
    for (const [from, to, message] of [
      [/^dist,src=0,dst=2,/, "dist,src=0,dst=99,", /99|node/i],
      [/pci-dev=vfio-0008-01-00-0,/, "pci-dev=nobody,", /nobody|device/i],
    ] as const) {
      const changed = all.fragments.map((fragment) => ({ ...fragment, lines: fragment.lines.map((line) => line.replace(from, to)) }));
      await assert.rejects(accepts(machine, { ...all, fragments: changed }), message);
    }
  } finally {
    await rm(folder, { recursive: true });
  }
}

/** For x86-64: two virtual functions, a plain device, and one whose BAR needs a window. */
export async function qemuForPcAccepts(): Promise<void> {
  await ensureRunPackages();
  const big = device("0000:02:00.0", [bar(0, 64n * GIB, WIDE)]);
  for (const devices of [[EDU], IGB_PAIR, [EDU, big]])
    await accepts({ program: "qemu-system-x86_64", arguments: ["-M", "q35", "-m", "256M"] }, made("QEMU", devices, PC_HOST));
}

async function unpacked(name: string, suite: string): Promise<string> {
  const entry = `${name}-${suite}`;
  const cached = await newestCached(new RegExp(`^${entry}$`));
  if (cached !== null) return cached;
  say(`downloading ${name} of ${suite}`);
  const { apt } = await debianTools([suite]);
  return await addToCache(async (folder) => {
    await apt.unpack(name, join(folder, entry));
    return { name: entry, path: join(folder, entry) };
  });
}

function domain(all: VmmArguments, arch: "x86_64" | "aarch64"): string {
  const at = (place: string): string =>
    all.fragments
      .filter((fragment) => fragment.place === place)
      .flatMap(({ lines }) => lines)
      .join("\n");
  const cells = at("<domain><cpu><numa>");
  const own = GUEST_NODES.map(({ guest }) => `<cell id='${guest}' cpus='${guest * 2}-${guest * 2 + 1}' memory='262144' unit='KiB'/>`).join(
    "",
  );
  return [
    "<domain type='kvm'><name>guest</name><memory unit='KiB'>524288</memory><vcpu>4</vcpu>",
    at("<domain>"),
    `<os><type arch='${arch}' machine='${arch === "aarch64" ? "virt" : "q35"}'>hvm</type></os>`,
    cells === "" ? "" : `<cpu><numa>${own}${cells}</numa></cpu>`,
    `<devices>${at("<domain><devices>")}</devices></domain>`,
  ].join("\n");
}

/** The check that virt-xml-validate makes, with the schema of libvirt 12.2 or later, which Debian's unstable has: a file of it is read, nothing of it is run. */
export async function libvirtSchemaAccepts(): Promise<void> {
  const schema = join(await unpacked("libvirt-common", "sid"), "usr/share/libvirt/schemas/domain.rng");
  const { release } = await debianTools();
  const xmllint = join(await unpacked("libxml2-utils", release.codename), "usr/bin/xmllint");
  const folder = await mkdtemp(join(tmpdir(), "aperture-schema-"));
  const judge = async (xml: string): Promise<{ readonly status: number | null; readonly said: string }> => {
    const file = join(folder, "domain.xml");
    await writeFile(file, xml);
    const child = spawn(xmllint, ["--noout", "--relaxng", schema, file], { stdio: ["ignore", "ignore", "pipe"] });
    const [said] = await Promise.all([text(child.stderr), once(child, "close")]);
    return { status: child.exitCode, said };
  };
  try {
    for (const [xml, what] of [
      [domain(made("LIBVIRT", [EDU], PC_HOST), "x86_64"), "edu"],
      [domain(made("LIBVIRT", IGB_PAIR, PC_HOST), "x86_64"), "igb"],
      [domain(made("LIBVIRT", GRACE, GRACE_HOST, { guestNodes: GUEST_NODES }), "aarch64"), "Grace"],
    ] as const) {
      const { status, said } = await judge(xml);
      assert.equal(status, 0, `${what}: ${said}\n${xml}`);
      for (const [right, wrong] of [
        ["fdgroup='iommu'", "fdgroup='iommu' fd='3'"],
        ["iommufd='yes'", "iommufd='perhaps'"],
        ...(what === "Grace" ? ([["<acpi nodeset='2-9'/>", "<acpi nodes='2-9'/>"]] as const) : []),
      ] as const) {
        assert.ok(xml.includes(right), `${what}: ${right}`);
        assert.notEqual((await judge(xml.replace(right, wrong))).status, 0, `${what}: ${wrong}`);
      }
    }
  } finally {
    await rm(folder, { recursive: true });
  }
}
