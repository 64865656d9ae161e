// `aperturectl plug` and `serve-iommufd` as processes, with a whole daemon on one side and a fake VMM on the other. The devices are memfds, everything between is real.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, before, beforeEach, describe, it } from "node:test";
import { EXIT } from "../../src/cli/exit-code.js";
import { aperturectl, CliProcess } from "../harness/cli.js";
import { FakeCloudHypervisor } from "../harness/fake-cloud-hypervisor.js";
import { FakeQmp } from "../harness/fake-qmp.js";
import { OwnDaemon } from "../harness/own-daemon.js";
import { until } from "../harness/until.js";
import { giveVmmLeases, type VmmLeases } from "../harness/vmm-leases.js";

const NVME = "0000:02:00.0";
const GPU = "0009:01:00.0";

describe("[real processes, simulated host] devices for a VM that runs", () => {
  let daemon: OwnDaemon;
  let leases: VmmLeases;
  let qemu: FakeQmp;
  let folder: string;
  before(async () => {
    folder = mkdtempSync(join(tmpdir(), "aperture-plug-"));
    daemon = await OwnDaemon.start();
  });
  beforeEach(() => {
    leases = giveVmmLeases(daemon.host);
    qemu = new FakeQmp();
  });
  afterEach(async () => {
    await CliProcess.killAll();
    qemu.stop();
    await free();
  });
  after(async () => {
    await OwnDaemon.stopAll();
    rmSync(folder, { recursive: true });
  });

  async function free(): Promise<void> {
    await until(
      "devices",
      async () => (await aperturectl(daemon.socket, ["devices", "-o", "json"])).out,
      (out) => (JSON.parse(out) as { state: string }[]).every(({ state }) => state === "FREE"),
      30_000,
    );
  }

  const granted = (): number => daemon.records().filter(({ event }) => event === "lease.held").length;

  async function plugged(...more: readonly string[]): Promise<CliProcess> {
    const cli = new CliProcess(daemon.socket, ["plug", NVME, "--qmp", qemu.path, ...more]);
    await cli.message(/holding lease/);
    return cli;
  }

  it("plug: QEMU has the very files of the lease, SIGTERM takes them out, and the device is free", async () => {
    const cli = new CliProcess(daemon.socket, [
      "plug",
      NVME,
      GPU,
      "--qmp",
      qemu.path,
      "--bus",
      "rp1,rp2",
      "--id",
      "disk0,gpu0",
      "-o",
      "json",
    ]);
    await cli.message(/holding lease/);
    const { iommufd = "", ...devices } = leases.files;
    const [object = ""] = Object.keys(qemu.holds);
    assert.deepEqual(qemu.holds, { [object]: iommufd, disk0: devices[NVME], gpu0: devices[GPU] });
    const buses = qemu.commands.filter(({ execute }) => execute === "device_add").map(({ arguments: { bus } }) => bus);
    assert.deepEqual(buses, ["rp1", "rp2"]);
    cli.signal("SIGTERM");
    assert.equal(await cli.ended(), 0);
    assert.deepEqual(qemu.holds, {});
    const told = JSON.parse(cli.out.all.join("\n")) as { id: string; devices: unknown };
    assert.deepEqual(told.devices, [
      { address: NVME, id: "disk0" },
      { address: GPU, id: "gpu0" },
    ]);
  });

  it("plug: the VM ends, or lets go by itself: the lease is given back, 0", async () => {
    const first = await plugged();
    qemu.exit();
    await first.message(/the VM has ended/);
    assert.equal(await first.ended(), 0);
    const second = await plugged("--id", "disk0");
    qemu.eject("disk0");
    await second.message(/the VM has let go of the devices/);
    assert.equal(await second.ended(), 0);
  });

  it("plug: the daemon asks for the lease back: taken out, given back, 6", async () => {
    const cli = await plugged("--max-duration", "1");
    await cli.message(/asks for lease .* back \(its time is over\)/);
    assert.equal(await cli.ended(), EXIT.conflict.code);
    assert.deepEqual(qemu.holds, {});
  });

  it("plug: somebody else ends the lease: taken out, 6", async () => {
    const cli = await plugged();
    const { out } = await aperturectl(daemon.socket, ["leases", "-o", "name"]);
    assert.equal((await aperturectl(daemon.socket, ["release", out.trim()])).code, 0);
    await cli.message(/has ended: RELEASED/);
    assert.equal(await cli.ended(), EXIT.conflict.code);
    assert.deepEqual(qemu.holds, {});
  });

  it("plug: a guest that refuses is 6, one that says nothing 124, and a second signal does not wait", async () => {
    qemu.guest = "refuses";
    const refusing = await plugged();
    refusing.signal("SIGINT");
    await refusing.message(/the guest refuses to let go/);
    assert.equal(await refusing.ended(), EXIT.conflict.code);
    qemu.exit();
    qemu.guest = "is silent";
    const silent = await plugged("--unplug-timeout", "0.2");
    silent.signal("SIGHUP");
    await silent.message(/not let go of .* within 0\.2 s/);
    assert.equal(await silent.ended(), EXIT.timeout.code);
    qemu.exit();
    const impatient = await plugged();
    impatient.signal("SIGTERM");
    await until(
      "device_del",
      () => qemu.said.at(-1),
      (last) => last === "device_del",
    );
    impatient.signal("SIGTERM");
    await impatient.message(/asked twice to end/);
    assert.equal(await impatient.ended(), EXIT.conflict.code);
  });

  it("plug: a VMM that is not there, too old, silent, or none: no lease is taken for it", async () => {
    const before = granted();
    const plug = async (...more: readonly string[]): Promise<readonly [number, string]> => {
      const { code, err } = await aperturectl(daemon.socket, ["plug", NVME, ...more]);
      return [code, err];
    };
    const [absent, why] = await plug("--qmp", "/nonexistent/qmp");
    assert.equal(absent, EXIT.unavailable.code, why);
    assert.match(why, /ENOENT[\s\S]*reason: VMM_UNREACHABLE/);
    for (const [greeting, code, says] of [
      [
        '{"QMP": {"version": {"qemu": {"micro": 0, "minor": 2, "major": 8}}}}',
        EXIT.conflict.code,
        /QEMU 8\.2\.0[\s\S]*reason: VMM_TOO_OLD/,
      ],
      ["hello\u001b[2J", EXIT.failed.code, /no QMP: "hello\\u001b[\s\S]*reason: VMM_PROTOCOL/],
      [null, EXIT.timeout.code, /one client at a time[\s\S]*reason: VMM_SILENT/],
    ] as const) {
      qemu.greeting = greeting;
      const [status, err] = await plug("--qmp", qemu.path, "--timeout", "0.5");
      assert.equal(status, code, err);
      assert.match(err, says);
    }
    assert.equal(granted(), before);
  });

  it("plug: what QEMU refuses is undone, with its words", async () => {
    qemu.refusals.set("device_add", "Bus 'rp9' not found");
    const { code, err } = await aperturectl(daemon.socket, ["plug", NVME, "--qmp", qemu.path, "--bus", "rp9"]);
    assert.equal(code, EXIT.conflict.code, err);
    assert.match(err, /QEMU refused device_add: Bus 'rp9' not found[\s\S]*next: name an empty port[\s\S]*reason: VMM_REFUSED/);
    assert.deepEqual(qemu.holds, {});
  });

  it("plug: a lease of regions is none for a VMM: 6, given back", async () => {
    daemon.host.opening = async () => null;
    const { code, err } = await aperturectl(daemon.socket, ["plug", NVME, "--qmp", qemu.path]);
    assert.equal(code, EXIT.conflict.code, err);
    assert.match(err, /reason: LEASE_NOT_FOR_VMM/);
    assert.deepEqual(qemu.said, ["qmp_capabilities"]);
  });

  it("plug: wrong options are found before anything is done", async () => {
    for (const [args, says] of [
      [[NVME], /which VM\?/],
      [[NVME, "--qmp", "a", "--cloud-hypervisor", "b"], /which VM\?/],
      [[NVME, "--cloud-hypervisor", "b", "--bus", "rp1"], /--bus is QEMU's/],
      [[NVME, GPU, "--qmp", "a", "--bus", "rp1"], /1 names for 2 devices/],
      [[NVME, "--qmp", "a", "--id", "0gpu"], /`0gpu` is no name/],
      [[NVME, "--qmp", "a", "--unplug-timeout", "soon"], /no number of seconds/],
    ] as const) {
      const { code, err } = await aperturectl(daemon.socket, ["plug", ...args]);
      assert.equal(code, EXIT.usage.code, err);
      assert.match(err, says);
    }
    assert.deepEqual(qemu.said, []);
  });

  it("plug: Cloud Hypervisor has the device's file and not the iommufd's; SIGTERM takes it out", async () => {
    const vmm = new FakeCloudHypervisor();
    try {
      const cli = new CliProcess(daemon.socket, ["plug", NVME, "--cloud-hypervisor", vmm.path, "--id", "disk0"]);
      await cli.message(/holding lease/);
      assert.deepEqual(vmm.holds, { disk0: leases.files[NVME] });
      vmm.lingering = 1;
      cli.signal("SIGTERM");
      assert.equal(await cli.ended(), 0);
      assert.deepEqual(vmm.holds, {});
    } finally {
      vmm.stop();
    }
  });

  /** virt-launcher in five lines; answers with what it is told to. */
  const LAUNCHER = `
import os, socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
s.connect(sys.argv[1])
data, fds, flags, _ = socket.recv_fds(s, 32, 64)
s.send(bytes.fromhex(sys.argv[2]))
status = os.fstat(fds[0])
print(f"{status.st_dev}:{status.st_ino}", flush=True)
sys.stdin.read()
`;

  it("serve-iommufd: gives the lease's iommufd once, then holds the lease until SIGTERM", async () => {
    const path = join(folder, "vm1.sock");
    const cli = new CliProcess(daemon.socket, ["serve-iommufd", NVME, "--at", path]);
    await cli.message(/waiting at/);
    const launcher = spawn("python3", ["-c", LAUNCHER, path, "00"], { stdio: ["pipe", "pipe", "inherit"] });
    const [line] = await Promise.all([
      new Promise<string>((resolve) => launcher.stdout.once("data", (bytes: Buffer) => resolve(bytes.toString().trim()))),
      cli.message(/holding lease/),
    ]);
    assert.equal(line, leases.files["iommufd"]);
    assert.equal(existsSync(path), false);
    assert.match(cli.out.all.join(), new RegExp(`^process ${launcher.pid} of user`));
    assert.notEqual((await aperturectl(daemon.socket, ["leases", "-o", "name"])).out, "");
    cli.signal("SIGTERM");
    assert.equal(await cli.ended(), 0);
    launcher.stdin.end();
  });

  it("serve-iommufd: a receiver that does not play by the rules, nobody, or a path that is taken: given back, with its exit code", async () => {
    const path = join(folder, "vm2.sock");
    const cli = new CliProcess(daemon.socket, ["serve-iommufd", NVME, "--at", path]);
    await cli.message(/waiting at/);
    const launcher = spawn("python3", ["-c", LAUNCHER, path, "77"], { stdio: ["pipe", "ignore", "inherit"] });
    await cli.message(/RECEIVER_PROTOCOL/);
    assert.equal(await cli.ended(), EXIT.conflict.code);
    launcher.stdin.end();
    const nobody = await aperturectl(daemon.socket, ["serve-iommufd", NVME, "--at", path, "--wait", "0.2"]);
    assert.equal(nobody.code, EXIT.timeout.code, nobody.err);
    const before = granted();
    writeFileSync(path, "");
    const taken = await aperturectl(daemon.socket, ["serve-iommufd", NVME, "--at", path]);
    assert.equal(taken.code, EXIT.conflict.code, taken.err);
    for (const wrong of [["--permissions", "888"], ["--owner", "root"], []]) {
      const where = wrong.length === 0 ? [] : ["--at", join(folder, "vm3.sock")];
      const { code, err } = await aperturectl(daemon.socket, ["serve-iommufd", NVME, ...where, ...wrong]);
      assert.equal(code, EXIT.usage.code, err);
    }
    assert.equal(granted(), before);
  });
});
