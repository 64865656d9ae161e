// `aperturectl args`, and `exec --for` with a program that passes for a VMM. The daemon runs in the test's own process around a simulated host whose device leases carry what those of an
// iommufd host do, as far as kinds go: the descriptors themselves are memory files.

import assert from "node:assert/strict";
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, before, describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import type { DescriptorInfo, LeaseDescriptor } from "../../src/broker/ports.js";
import { granted, type Outcome } from "../../src/broker/refusal.js";
import { connect, type VmmArguments } from "../../src/client/index.js";
import { native, type SysResult } from "../../src/native.js";
import { aperturectl, type CliResult } from "../harness/cli.js";
import { type AlteredHost, OwnDaemon } from "../harness/own-daemon.js";
import { until } from "../harness/until.js";

const NVME = "0000:02:00.0";
const VF = "0000:41:01.0";
const GPU = "0009:01:00.0";
const FAKE = fileURLToPath(new URL("../harness/fake-vmm.js", import.meta.url));

/** Another user, who may not raise limits: only root can start a process of theirs. */
const OTHER = process.geteuid?.() === 0 ? 65534 : undefined;

interface Told {
  readonly argv: readonly string[];
  readonly fds: Readonly<Record<string, string>>;
  readonly memlock: string;
}

/** Leases of devices carry one iommufd and one unbound device each, like those of an iommufd host. */
function likeIommufd(host: AlteredHost): void {
  host.opening = async (request) => {
    if (request.kind !== "DEVICE") return null;
    const info = (kind: DescriptorInfo["kind"], address: DescriptorInfo["address"]): DescriptorInfo => ({
      ...{ kind, scope: kind === "IOMMUFD" ? "IOMMU" : "DEVICE", address, region: null, group: null, offset: 0n, size: 0n },
    });
    const infos = [info("IOMMUFD", null), ...request.addresses.map((address) => info("DEVICE_UNBOUND", address))];
    const fds = infos.map(({ kind, address }) => must(native.memfdCreate(`${kind} ${address ?? ""}`.trim(), 4096n)));
    const open = new Set(fds);
    const close = async (): Promise<void> => {
      for (const fd of open) native.closeDescriptor(fd);
      open.clear();
    };
    const descriptors = infos.map((each, index): LeaseDescriptor => ({ info: each, borrow: () => fds[index] ?? -1 }));
    return granted({ descriptors, closeHandedOff: close, close });
  };
}

function must(result: SysResult<number>): number {
  if (result.error !== null) throw new Error(result.error.code);
  return result.value;
}

describe("[real processes, simulated host] aperturectl args and exec --for", () => {
  let daemon: OwnDaemon;
  let folder: string;
  let qemu: string;
  before(async () => {
    folder = mkdtempSync(join(tmpdir(), "aperture-vmm-"));
    chmodSync(folder, 0o755);
    qemu = program("qemu-system-x86_64");
    daemon = await OwnDaemon.start({ config: '[[policy]]\nname = "all"\ndevice = "*"\ndelegate = true\n', alter: likeIommufd });
  });
  afterEach(async () => {
    await until(
      "devices",
      async () => (await aperturectl(daemon.socket, ["devices", "-o", "json"])).out,
      (out) => (JSON.parse(out) as { state: string }[]).every(({ state }) => state === "FREE"),
      30_000,
    );
  });
  after(async () => {
    await daemon.stop();
    rmSync(folder, { recursive: true });
  });

  function program(name: string): string {
    const path = join(folder, name);
    writeFileSync(path, `#!/bin/sh\nexec '${process.execPath}' '${FAKE}' "$@"\n`);
    chmodSync(path, 0o755);
    return path;
  }

  async function exec(args: readonly string[], version = "QEMU emulator version 9.0.0", uid?: number): Promise<CliResult> {
    return await aperturectl(daemon.socket, ["exec", ...args], { env: { FAKE_VERSION: version }, ...(uid === undefined ? {} : { uid }) });
  }

  function held(): number {
    return daemon.records().filter(({ event }) => event === "lease.granted").length;
  }

  it("args prints what each VMM takes, with sources, and a Grace GPU's nodes", async () => {
    const { code, out } = await aperturectl(daemon.socket, ["args", "--for", "qemu", GPU, "--guest-memory", "4G"]);
    assert.equal(code, 0);
    assert.match(out, /^-object iommufd,id=iommufd0,fd=@iommufd \\$/m);
    assert.match(out, /fd=@device:0009:01:00\.0,bus=rp-0009-01-00-0/);
    assert.match(out, /acpi-generic-initiator,id=gi-0009-01-00-0-7,pci-dev=vfio-0009-01-00-0,node=8/);
    assert.match(out.replaceAll(/\s+/g, " "), /has_generic_initiator; 8 for each of 2 Grace GPUs, in order/, "wrapped as it may be");
    for (const [vmm, pattern] of [
      ["cloud-hypervisor", /--platform iommufd_fd=@iommufd/],
      ["libvirt", /<acpi nodeset='1-8'\/>/],
      ["kubevirt", /- IOMMUFD/],
      ["openvmm", /cdev: @device:0009:01:00\.0/],
    ] as const)
      assert.match((await aperturectl(daemon.socket, ["args", "--for", vmm, GPU])).out, pattern);
  });

  it("args -o json is the API's answer, -o name its lines", async () => {
    const json = JSON.parse((await aperturectl(daemon.socket, ["args", "--for", "qemu", NVME, VF, "-o", "json"])).out) as VmmArguments;
    const names = (await aperturectl(daemon.socket, ["args", "--for", "qemu", NVME, VF, "-o", "name"])).out;
    assert.deepEqual(
      names.trimEnd().split("\n"),
      json.fragments.flatMap(({ lines }) => lines),
    );
    assert.ok(json.fragments.every(({ values }) => values.every(({ source }) => source !== "")));
    assert.deepEqual(
      json.devices.map(({ id }) => id),
      ["vfio-0000-02-00-0", "vfio-0000-41-01-0"],
    );
  });

  it("exec starts the VMM with the arguments in place of @args, each descriptor under its number", async () => {
    const { code, out, err } = await exec([NVME, VF, "--for", "qemu", "--", qemu, "-m", "4G", "@args", "-S"]);
    assert.equal(code, 0, err);
    const { argv, fds } = JSON.parse(out) as Told;
    assert.deepEqual(argv.slice(0, 4), ["-m", "4G", "-object", "iommufd,id=iommufd0,fd=3"]);
    assert.equal(argv.at(-1), "-S");
    assert.ok(argv.includes("vfio-pci,id=vfio-0000-02-00-0,iommufd=iommufd0,fd=4,bus=rp-0000-02-00-0"), argv.join(" "));
    assert.ok(argv.includes("vfio-pci,id=vfio-0000-41-01-0,iommufd=iommufd0,fd=5,bus=rp-0000-41-01-0"));
    assert.match(fds["3"] ?? "", /IOMMUFD/);
    assert.match(fds["4"] ?? "", /DEVICE_UNBOUND 0000:02:00\.0/);
    assert.match(fds["5"] ?? "", /DEVICE_UNBOUND 0000:41:01\.0/);
  });

  it("exec does the same with a ticket, whose devices only the daemon knows", async () => {
    const ticket = await aperturectl(daemon.socket, ["reserve", NVME, "-o", "name"]);
    assert.equal(ticket.code, 0, ticket.err);
    const args = ["exec", "--ticket", "-", "--for", "cloud-hypervisor", "--", program("cloud-hypervisor"), "--memory", "size=1G", "@args"];
    const env = { FAKE_VERSION: "cloud-hypervisor v53.0.0" };
    const { code, out, err } = await aperturectl(daemon.socket, args, { input: ticket.out, env });
    assert.equal(code, 0, err);
    assert.deepEqual((JSON.parse(out) as Told).argv.slice(2), [
      ...["--platform", "iommufd_fd=3,vfio_p2p_dma=off", "--device", "fd=4,id=vfio-0000-02-00-0"],
    ]);
  });

  it("a VMM that is too old is refused before anything is leased; one that says nothing known, or never ends, is started", async () => {
    const before = held();
    const old = await exec([NVME, "--for", "qemu", "--", qemu, "-m", "1G", "@args"], "QEMU emulator version 8.2.4");
    assert.equal(old.code, 126);
    assert.match(old.err, /is QEMU 8\.2, which cannot take these devices by descriptor\n\s+use QEMU 9\.0 or later; no lease is held/);
    assert.equal(held(), before);
    for (const version of ["something else", "never"])
      assert.equal((await exec([NVME, "--for", "qemu", "--", qemu, "-m", "1G", "@args"], version)).code, 0);
  });

  it("words that do not fit are refused before anything is leased", async () => {
    const before = held();
    for (const [args, code, message] of [
      [[NVME, "--for", "qemu", "--", qemu, "-m", "1G"], 2, /where @args stands/],
      [[NVME, "--", qemu, "@args"], 2, /--for names/],
      [[NVME, "--for", "qemu", "--regions", "0", "--", qemu, "@args"], 2, /leave out --regions/],
      [[NVME, "--for", "libvirt", "--", qemu, "@args"], 2, /aperturectl args --for libvirt/],
      [[NVME, "--for", "qemu", "--", qemu, "@args", "fd=@devcie"], 2, /did you mean `@device`/],
      [[NVME, "--for", "qemu", "--", "no-such-vmm", "@args"], 127, /there is no command/],
      [["0000:00:1f.7", "--for", "qemu", "--", qemu, "@args"], 3, /DEVICE_NOT_FOUND/],
    ] as const) {
      const result = await exec(args);
      assert.equal(result.code, code, result.err);
      assert.match(result.err, message);
    }
    assert.equal(held(), before);
  });

  it("a device that goes between the arguments and the lease is refused, and nothing stays", async () => {
    const opening = daemon.host.opening;
    daemon.host.opening = async (request): Promise<Outcome<never> | null> => {
      daemon.host.opening = opening;
      daemon.host.simulated.unplug(NVME as never);
      await daemon.host.scannedAgain();
      return await (opening(request) as Promise<null>);
    };
    const result = await exec([NVME, "--for", "qemu", "--", qemu, "-m", "1G", "@args"]);
    assert.equal(result.code, 6, result.err);
    assert.match(result.err, /DEVICE_REMOVED/);
    daemon.host.simulated.plug(NVME as never);
    await until(
      "the device",
      async () => (await aperturectl(daemon.socket, ["args", "--for", "qemu", NVME])).code,
      (code) => code === 0,
    );
  });

  it("RLIMIT_MEMLOCK is raised for the child as far as it may be, else the number is said", async () => {
    const bytes = (1n << 30n) + (1n << 30n) / 10n + 16n * 1024n;
    const { code, out, err } = await exec([NVME, "--for", "qemu", "--", qemu, "-m", "1G", "@args"]);
    assert.equal(code, 0);
    const { memlock } = JSON.parse(out) as Told;
    const [soft = ""] = memlock.split(" ");
    if (soft === "unlimited" || BigInt(soft) >= bytes) assert.doesNotMatch(err, /RLIMIT_MEMLOCK/);
    else assert.match(err, new RegExp(`RLIMIT_MEMLOCK of ${bytes} bytes`));
    const unknown = await exec([NVME, "--for", "qemu", "--", qemu, "@args"]);
    assert.match(unknown.err, /guest's memory is not known: --guest-memory tells it/);
    const told = await exec([NVME, "--for", "qemu", "--guest-memory", "1048576T", "--", qemu, "@args"], undefined, OTHER);
    assert.equal(told.code, 0, told.err);
    const [, own] = (JSON.parse(told.out) as Told).memlock.split(" ");
    if (own !== "unlimited") assert.match(told.err, /needs RLIMIT_MEMLOCK of 1268\d+ bytes .* LimitMEMLOCK=1268/s);
  });

  it("the answer of an acquisition has the same arguments, when they are asked for", async () => {
    await using client = await connect({ socket: daemon.socket });
    const options = { vmm: "QEMU", guestMemory: 1n << 30n } as const;
    const lease = await client.acquire({ kind: "device", addresses: [NVME] }, { vmm: options });
    assert.deepEqual(lease.vmmArguments, await client.vmmArguments(options, { leaseId: lease.id }));
    assert.deepEqual(lease.vmmArguments, await client.vmmArguments(options, { addresses: [NVME] }));
    assert.equal(lease.vmmArguments?.vmm, "QEMU");
    await lease.release();
    const plain = await client.acquire({ kind: "device", addresses: [NVME] });
    assert.equal(plain.vmmArguments, null);
    await plain.release();
    const ticket = await client.reserve({ kind: "device", addresses: [NVME] }, {}, { vmm: options });
    assert.deepEqual(ticket.vmmArguments, await client.vmmArguments(options, { addresses: [NVME] }));
    await client.release(ticket.lease.id);
  });
});
