// Changes of drivers through a made-up sysfs whose files do what the kernel's do.

import assert from "node:assert/strict";
import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, it } from "node:test";
import { type Address, parseAddress } from "../../../src/broker/device.js";
import { DriverOverrides } from "../../../src/host/driver-override.js";
import { SysfsDrivers } from "../../../src/host/sysfs-drivers.js";
import { FakeDriverCore } from "./fake-driver-core.js";
import { SysfsTree } from "./sysfs-tree.js";

function at(text: string): Address {
  return parseAddress(text) ?? assert.fail(text);
}

const DISK = at("0000:01:00.0");
const NIC = at("0000:02:00.0");
const OPTIONS = { onStep: () => {}, wanted: () => true };

describe("[pure] drivers through sysfs", () => {
  let tree: SysfsTree;
  let core: FakeDriverCore;
  let drivers: SysfsDrivers;
  let loaded: string[];
  const proc = (): string => join(tree.root, "proc");

  beforeEach(() => {
    tree = new SysfsTree();
    core = new FakeDriverCore(tree);
    for (const driver of ["nvme", "vfio-pci", "igb", "igbvf"]) core.register(driver);
    tree.add(DISK, { driver: "nvme", group: 5 });
    core.matching.set(DISK, "nvme");
    tree.add(NIC, { driver: "igb", group: 6 });
    for (const [name, text] of [
      ["sriov_numvfs", "0"],
      ["sriov_drivers_autoprobe", "1\n"],
    ] as const)
      tree.write(NIC, name, text);
    mkdirSync(join(proc(), "self"), { recursive: true });
    loaded = [];
    drivers = new SysfsDrivers({
      ...{ native: core, sysRoot: tree.sysRoot, devRoot: "/dev", procRoot: proc() },
      overrides: new DriverOverrides(core, tree.sysRoot),
      loadModule: async (module) => {
        loaded.push(module);
        if (module !== "special-module") return "modprobe has it not";
        core.register("special_vfio_pci");
        return null;
      },
    });
  });
  afterEach(() => tree.remove());

  it("says what has the device, by the kernel's word", async () => {
    assert.deepEqual(await drivers.binding(DISK), { driver: "nvme", override: "", vfio: false });
    assert.equal(await drivers.binding(at("0000:7f:00.0")), null);
  });

  it("moves to VFIO and back: the override first, and what it was at the end", async () => {
    const steps: string[] = [];
    const options = { onStep: (step: string) => void steps.push(step), wanted: () => true };
    assert.equal((await drivers.move(DISK, { driver: "vfio-pci", override: "vfio-pci" }, true, options)).refusal, null);
    assert.deepEqual(await drivers.binding(DISK), { driver: "vfio-pci", override: "vfio-pci", vfio: true });
    assert.deepEqual(core.writes, ["driver_override vfio-pci", `unbind ${DISK}`, `drivers_probe ${DISK}`]);
    assert.equal((await drivers.move(DISK, { driver: "nvme", override: "" }, false, options)).refusal, null);
    assert.deepEqual(await drivers.binding(DISK), { driver: "nvme", override: "", vfio: false });
    // By its name, not by whatever matches: the override names it for the moment of the probe.
    assert.deepEqual(core.writes.slice(3), ["driver_override nvme", `unbind ${DISK}`, `drivers_probe ${DISK}`, "driver_override "]);
    assert.deepEqual(steps, ["UNBINDING", "BINDING", "UNBINDING", "BINDING"]);
  });

  it("leaves a device without a driver where that is wished, and does nothing to one that has the driver", async () => {
    assert.equal((await drivers.move(DISK, { driver: "", override: "" }, false, OPTIONS)).refusal, null);
    assert.deepEqual(await drivers.binding(DISK), { driver: "", override: "", vfio: false });
    assert.equal((await drivers.move(NIC, { driver: "igb", override: "" }, false, OPTIONS)).refusal, null);
    assert.deepEqual(core.writes.slice(2), ["driver_override igb", "driver_override "]);
  });

  it("tells a driver that does not take it, with its errno; and one that takes it and is no VFIO driver", async () => {
    core.failing.set("vfio-pci", "EIO");
    const refused = await drivers.move(DISK, { driver: "vfio-pci", override: "vfio-pci" }, true, OPTIONS);
    assert.equal(refused.refusal?.reason, "DRIVER_CHANGE_FAILED");
    assert.match(refused.refusal?.message ?? "", /vfio-pci did not take it \(pwrite on .*drivers_probe: EIO/);
    const other = await drivers.move(DISK, { driver: "igb", override: "igb" }, true, OPTIONS);
    assert.match(other.refusal?.message ?? "", /made no VFIO device/);
    assert.equal(
      (await drivers.move(at("0000:7f:00.0"), { driver: "igb", override: "" }, false, OPTIONS)).refusal?.reason,
      "DEVICE_REMOVED",
    );
  });

  it("says that the daemon may not, where it may not", async () => {
    core.failing.set("vfio-pci", "EACCES");
    const refused = await drivers.move(DISK, { driver: "vfio-pci", override: "vfio-pci" }, true, OPTIONS);
    assert.match(refused.refusal?.message ?? "", /it needs root/);
  });

  it("gives it to nobody when nobody waits any more", async () => {
    let wanted = true;
    core.unbinding = async () => {
      wanted = false;
    };
    const outcome = await drivers.move(DISK, { driver: "vfio-pci", override: "vfio-pci" }, true, {
      onStep: () => {},
      wanted: () => wanted,
    });
    assert.equal(outcome.refusal?.reason, "DRIVER_CHANGE_FAILED");
    assert.equal(core.driverOf(DISK), null);
  });

  it("loads a module only where the kernel has not got the driver, and believes the kernel and not modprobe", async () => {
    assert.equal((await drivers.load("vfio-pci", "vfio-pci", 1000)).refusal, null);
    assert.deepEqual(loaded, []);
    assert.equal((await drivers.load("special_vfio_pci", "special-module", 1000)).refusal, null);
    const missing = await drivers.load("other_vfio_pci", "other", 1000);
    assert.equal(missing.refusal?.reason, "DRIVER_UNAVAILABLE");
    assert.match(missing.refusal?.message ?? "", /modprobe has it not/);
  });

  it("makes virtual functions that no driver of the host's takes, and destroys them", async () => {
    assert.deepEqual((await drivers.setVirtualFunctions(NIC, 2)).value, ["0000:02:10.0", "0000:02:10.1"]);
    assert.deepEqual([core.driverOf("0000:02:10.0"), core.driverOf("0000:02:10.1")], [null, null]);
    assert.equal(readFileSync(join(tree.folder(NIC), "sriov_drivers_autoprobe"), "latin1"), "1");
    const more = await drivers.setVirtualFunctions(NIC, 1);
    assert.match(more.refusal?.message ?? "", /its driver igb decides/);
    assert.deepEqual((await drivers.setVirtualFunctions(NIC, 0)).value, []);
  });

  describe("who uses a device", () => {
    /** Something below the device with a node of its own. */
    function node(path: string, name: string, number: string, subsystem: string): void {
      const folder = join(tree.folder(DISK), path);
      mkdirSync(join(folder, "holders"), { recursive: true });
      writeFileSync(join(folder, "dev"), `${number}\n`);
      writeFileSync(join(folder, "uevent"), `MAJOR=1\nDEVNAME=${name}\n`);
      symlinkSync(`/nowhere/class/${subsystem}`, join(folder, "subsystem"));
    }

    function process(pid: number, comm: string, ...files: readonly string[]): void {
      mkdirSync(join(proc(), `${pid}/fd`), { recursive: true });
      writeFileSync(join(proc(), `${pid}/comm`), `${comm}\n`);
      for (const [fd, file] of files.entries()) symlinkSync(file, join(proc(), `${pid}/fd/${fd}`));
    }

    it("processes that have a node open, by pid and name; also when the node has gone already", async () => {
      node("vfio-dev/vfio3", "vfio/devices/vfio3", "511:3", "vfio-dev");
      process(4711, "qemu-system-x86", "/dev/null", "/dev/vfio/devices/vfio3");
      process(4712, "cat", "/dev/vfio/devices/vfio4", "/dev/vfio/6");
      assert.deepEqual(await drivers.users(DISK), ["pid 4711 (qemu-system-x86, /dev/vfio/devices/vfio3)"]);
      tree.unbind(DISK);
      process(4713, "late\u0001", "/dev/vfio/devices/vfio3 (deleted)", "/dev/vfio/5");
      assert.deepEqual(await drivers.users(DISK), [
        "pid 4711 (qemu-system-x86, /dev/vfio/devices/vfio3)",
        "pid 4713 (late?, /dev/vfio/devices/vfio3 /dev/vfio/5)",
      ]);
    });

    it("file systems, swap and devices made of it, and a network interface with a route", async () => {
      node("nvme/nvme0/nvme0n1", "nvme0n1", "259:0", "block");
      node("nvme/nvme0/nvme0n1/nvme0n1p1", "nvme0n1p1", "259:1", "block");
      mkdirSync(join(tree.folder(DISK), "nvme/nvme0/nvme0n1/holders/dm-0"));
      writeFileSync(
        join(proc(), "self/mountinfo"),
        "22 1 259:1 / / rw - ext4 /dev/root rw\n23 1 0:40 / /srv rw - btrfs /dev/nvme0n1 rw\n24 1 0:5 / /dev rw - devtmpfs none rw\n",
      );
      writeFileSync(join(proc(), "swaps"), "Filename\tType\n/dev/nvme0n1p1                 partition\n");
      assert.deepEqual(await drivers.users(DISK), [
        "dm-0, which is made of nvme0n1",
        "the file system at /, on nvme0n1p1",
        "the file system at /srv, on nvme0n1",
        "swap on nvme0n1p1",
      ]);
      mkdirSync(join(tree.folder(NIC), "net/eth7"), { recursive: true });
      mkdirSync(join(proc(), "self/net"));
      writeFileSync(join(proc(), "self/net/route"), "Iface\tDestination\neth7\t00000000\n");
      assert.deepEqual(await drivers.users(NIC), ["the routes over eth7"]);
    });
  });
});
