// The whole way: an unprivileged, unmodified QEMU is started by `aperturectl exec` on devices that it has no path to, and its guest uses them; another device is plugged into it
// while it runs, and out again. One boot for all of it, because emulation inside emulation takes minutes.

import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { type ApertureClient, connect, type Device, type HeldLease } from "../../../src/client/index.js";
import { QemuMonitor } from "../../../src/push/index.js";
import { DaemonProcess } from "../../harness/daemon.js";
import { descriptorsOf } from "../../harness/descriptors.js";
import { Lines } from "../../harness/lines.js";
import { until } from "../../harness/until.js";
import { edu, graceHopper, igbVfs } from "../devices.js";
import { asVmm, NestedVm, spawnAsVmm, VMM_UID, vmmFolder } from "./nested-vm.js";
import { vfioNode } from "./sysfs.js";
import { world } from "./world.js";

const CONFIG = `inventory.rescan_ms = 600000
[limits]
ack_ms = 60000
first_call_ms = 60000
[[policy]]
name = "the VMM's user and root"
uid = [${VMM_UID}, 0]
device = "*"
allow_unreset = true
`;

const [{ address: vf }] = igbVfs;
/** Where the inner machine has what. */
const INNER = { edu: "0000:00:10.0", gpu: "0000:00:14.0", plugged: "0000:01:00.0" } as const;

/** Bits of the third column of sysfs `resource` (include/linux/ioport.h). */
const MEM_PREFETCH_64 = 0x200 | 0x2000 | 0x100000;

describe("[lab kernel] an unprivileged QEMU inside the guest", {
  skip: world !== "iommufd" && "a VMM takes descriptors only with iommufd",
}, () => {
  let daemon: DaemonProcess;
  let observer: ApertureClient;
  let vm: NestedVm | null = null;
  before(async () => {
    daemon = await DaemonProcess.start({ host: "auto", config: CONFIG });
    observer = await connect({ socket: daemon.socket, timeoutMs: 60_000 });
    // Attaches its channel, whatever becomes of it.
    await assert.rejects(observer.acquire({ kind: "device", addresses: ["0000:ff:1f.7"] }), { reason: "DEVICE_NOT_FOUND" });
    daemon.rebase();
  });
  after(async () => {
    await vm?.kill();
    await observer.close();
    await daemon.stop();
  });

  const running = (): NestedVm => vm ?? assert.fail("there is no VM");
  const free = (address: string): Promise<Device> =>
    until(
      `${address} free`,
      () => observer.device(address),
      (device) => device.state === "FREE",
      120_000,
    );
  /** Start of each BAR, its size and flags, in the inner guest. */
  async function bars(address: string): Promise<readonly { readonly start: bigint; readonly size: bigint; readonly flags: number }[]> {
    return (await running().say(`cat /sys/bus/pci/devices/${address}/resource`)).slice(0, 6).map((line) => {
      const [start = 0n, end = 0n, flags = 0n] = line.split(" ").map(BigInt);
      return { start, size: end === 0n ? 0n : end - start + 1n, flags: Number(flags) };
    });
  }
  const word = async (at: bigint): Promise<number> => Number((await running().say(`devmem 0x${at.toString(16)} 32`))[0]);

  it("may open neither the devices nor /dev/iommu by their paths", () => {
    for (const path of [`/dev/vfio/devices/${vfioNode(edu.address)}`, `/dev/vfio/devices/${vfioNode(graceHopper.address)}`, "/dev/iommu"]) {
      const open = spawnSync("sh", ["-c", `exec 3<>${path}`], { uid: VMM_UID, gid: VMM_UID, encoding: "utf8" });
      assert.notEqual(open.status, 0);
      assert.match(open.stderr, /Permission denied/, path);
    }
  });

  it("a QEMU that was never let run: refuses an unknown bus, is given an iommufd and a device by another lease, and its end is noticed", async () => {
    const before = descriptorsOf(process.pid);
    const folder = vmmFolder();
    const socket = join(folder, "qmp");
    const port = ["-device", "pcie-root-port,id=rp1,chassis=1,slot=1"];
    const [command, words] = asVmm([
      ...["qemu-system-x86_64", "-S", "-nodefaults", "-display", "none", "-M", "q35", "-accel", "tcg", "-m", "16M"],
      ...["-qmp", `unix:${socket},server=on,wait=off`, ...port],
    ]);
    const qemu = spawn(command, words, { stdio: "inherit" });
    const connected = await until(
      "QEMU's monitor",
      () => QemuMonitor.connect({ socket, answerMs: 60_000 }).catch(() => null),
      (answer) => answer !== null,
      120_000,
    );
    const monitor = connected ?? assert.fail();
    const acquire = (): Promise<HeldLease> => observer.acquire({ kind: "device", addresses: [vf] }, { timeoutMs: 60_000 });

    const first = await acquire();
    await assert.rejects(monitor.plug(first, { buses: ["no-such-bus"] }), {
      reason: "VMM_REFUSED",
      message: /device_add: Bus 'no-such-bus' not found/,
    });
    assert.deepEqual((await first.release()).quarantined, []);

    const second = await acquire();
    const plugged = await monitor.plug(second, { buses: ["rp1"] });
    assert.equal(
      descriptorsOf(qemu.pid ?? -1).filter((name) => name.endsWith("vfio-device]") || name.includes("/dev/vfio/devices/")).length,
      1,
    );
    // There is no guest that could let go.
    await assert.rejects(plugged.unplug({ timeoutMs: 1000 }), { reason: "GUEST_SILENT" });
    // Held by the VMM alone now, whatever the lease says.
    assert.deepEqual((await second.release()).quarantined, [vf]);
    qemu.kill("SIGKILL");
    await once(qemu, "exit");
    await free(vf);
    monitor.close();
    await until(
      "descriptors of this process",
      () => descriptorsOf(process.pid),
      (now) => now.join() === before.join(),
    );
  });

  it("is started by `aperturectl exec` on an edu and the fake Grace Hopper: its guest lists the edu and reads its identification", async (t) => {
    const began = performance.now();
    const device = (id: string, address: string, inner: string): string[] => [
      "-device",
      `vfio-pci,id=${id},iommufd=iommufd0,fd=@device:${address},rombar=0,addr=${inner.slice("0000:00:".length)}`,
    ];
    vm = await NestedVm.start(
      daemon.socket,
      [edu.address, graceHopper.address],
      [
        ...["-object", "iommufd,id=iommufd0,fd=@iommufd"],
        ...device("edu0", edu.address, INNER.edu),
        ...device("gpu0", graceHopper.address, INNER.gpu),
        ...["-device", "pcie-root-port,id=rp1,chassis=1,slot=1"],
      ],
    );
    t.diagnostic(`from aperturectl to the inner guest's shell: ${Math.round((performance.now() - began) / 1000)} s`);
    assert.deepEqual(await vm.say(`cat /sys/bus/pci/devices/${INNER.edu}/vendor /sys/bus/pci/devices/${INNER.edu}/device`), [
      "0x1234",
      "0x11e8",
    ]);
    const [bar] = await bars(INNER.edu);
    assert.equal(bar?.size, 0x100000n);
    await vm.say(`echo 1 >/sys/bus/pci/devices/${INNER.edu}/enable`);
    assert.equal(await word(bar?.start ?? 0n), 0x010000ed);
    for (const { address } of [edu, graceHopper]) assert.equal((await observer.device(address)).state, "HELD");
  });

  it("sees the Grace Hopper's memory as 64-bit prefetchable BARs of 2 GiB and 1 GiB, writes and reads what is there, and reads 0xFF in the tail", async () => {
    const found = await bars(INNER.gpu);
    await running().say(`echo 1 >/sys/bus/pci/devices/${INNER.gpu}/enable`);
    for (const { index, size, backed } of [
      { index: 2, size: 0x80000000n, backed: 0x50000000n },
      { index: 4, size: 0x40000000n, backed: 0x20000000n },
    ]) {
      const bar = found[index] ?? assert.fail();
      assert.equal(bar.size, size);
      assert.equal(bar.flags & MEM_PREFETCH_64, MEM_PREFETCH_64, `flags 0x${bar.flags.toString(16)}`);
      for (const offset of [0x1000n, backed - 4n]) {
        const value = 0xc0ffee00 + index;
        await running().say(`devmem 0x${(bar.start + offset).toString(16)} 32 0x${value.toString(16)}`);
        assert.equal(await word(bar.start + offset), value, `BAR ${index} at 0x${offset.toString(16)}`);
      }
      for (const offset of [backed, size - 4n]) {
        await running().say(`devmem 0x${(bar.start + offset).toString(16)} 32 0`);
        assert.equal(await word(bar.start + offset), 0xffffffff, `the tail of BAR ${index} at 0x${offset.toString(16)}`);
      }
    }
  });

  it("is given a third device while it runs, by `aperturectl plug`, in the iommufd that it has, and lets go of it on SIGTERM: free for the next client", async (t) => {
    const began = performance.now();
    const plug = spawnAsVmm(daemon.socket, [
      "plug",
      vf,
      "--qmp",
      running().qmpSocket,
      "--bus",
      "rp1",
      "--id",
      "nic0",
      "--unplug-timeout",
      "300",
    ]);
    const [out, err] = [new Lines(plug.stdout), new Lines(plug.stderr)];
    assert.equal(await out.next(300_000), `${vf} is nic0 in the VM`, err.all.join("\n"));
    await until(
      "the VF in the inner guest",
      async () => (await running().say("ls /sys/bus/pci/devices")).join(" "),
      (listed) => listed.includes(INNER.plugged),
      120_000,
    );
    const folder = `/sys/bus/pci/devices/${INNER.plugged}`;
    assert.deepEqual(await running().say(`cat ${folder}/vendor ${folder}/device`), ["0x8086", "0x10ca"]);
    assert.deepEqual(
      (await bars(INNER.plugged)).map(({ size }) => size).filter((size) => size > 0n),
      [0x4000n, 0x4000n],
    );
    assert.equal((await observer.device(vf)).state, "HELD");
    plug.kill("SIGTERM");
    const [code] = (await once(plug, "exit")) as [number | null];
    assert.equal(code, 0, err.all.join("\n"));
    assert.equal((await running().say("ls /sys/bus/pci/devices")).join(" ").includes(INNER.plugged), false);
    await free(vf);
    const next = await observer.acquire({ kind: "device", addresses: [vf] }, { timeoutMs: 60_000 });
    assert.deepEqual((await next.release()).quarantined, []);
    t.diagnostic(`plugged in, seen, taken out, leased again: ${Math.round((performance.now() - began) / 1000)} s`);
  });

  it("powers off: aperturectl ends with its status, and the devices are free", async () => {
    assert.equal(await running().powerOff(), 0, running().messages.join("\n"));
    for (const { address } of [edu, graceHopper]) await free(address);
    await daemon.isAsBefore();
  });
});
