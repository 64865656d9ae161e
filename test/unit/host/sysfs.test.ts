// The scan of a made-up tree: good functions, and every way in which a file can be wrong.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, renameSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, test } from "node:test";
import { DriverOverrides } from "../../../src/host/driver-override.js";
import { LeavingDrivers } from "../../../src/host/leaving.js";
import { SysfsScanner } from "../../../src/host/sysfs.js";
import { native } from "../../../src/native.js";
import { UNKNOWN_FACTS } from "../../fakes/facts.js";
import { SysfsTree } from "./sysfs-tree.js";

describe("[files in a temporary folder] sysfs scan", () => {
  let tree: SysfsTree;
  let faults: string[];
  let scanner: SysfsScanner;

  beforeEach(() => {
    tree = new SysfsTree();
    faults = [];
    const observer = {
      fault: (where: string, error: unknown) => {
        faults.push(`${where}: ${error instanceof Error ? error.message : String(error)}`);
      },
    };
    scanner = new SysfsScanner(
      native,
      tree.sysRoot,
      new DriverOverrides(native, tree.sysRoot, 100),
      new LeavingDrivers(native, tree.sysRoot, 100),
      observer,
      tree.systemFiles(),
    );
  });

  afterEach(() => tree.remove());

  test("facts of a device bound to vfio-pci", async () => {
    tree.add("0000:01:00.0", {
      vendor: "0x10de",
      device: "0x2342",
      class: "0x030200",
      driver: "vfio-pci",
      driverOverride: "vfio-pci",
      group: 7,
      resetMethod: "flr bus",
      numaNode: "1",
      vfio: 3,
    });
    const [device, ...others] = await scanner.scan();
    assert.equal(others.length, 0);
    const { bindKey, ...facts } = device ?? assert.fail("no device");
    assert.deepEqual(facts, {
      address: "0000:01:00.0",
      vendorId: 0x10de,
      deviceId: 0x2342,
      classCode: 0x030200,
      driver: "vfio-pci",
      driverOverride: "",
      iommuGroup: {
        id: 7,
        viable: true,
        members: [{ address: "0000:01:00.0", driver: "vfio-pci", spoils: false }],
        otherSpoilers: [],
      },
      resetMethods: ["flr", "bus"],
      numaNode: 1,
      physicalFunction: null,
      vfioBound: true,
      leaving: false,
      ...UNKNOWN_FACTS,
      driverCandidates: [{ driver: "vfio-pci", module: "", kind: "VFIO_GENERIC", source: "REGISTERED", alias: "" }],
    });
    assert.match(bindKey, /^0000:01:00\.0 vfio-pci \d+ vfio3$/);
    assert.deepEqual(faults, []);
  });

  test("no driver, no group, no reset method, no NUMA node, no override", async () => {
    tree.add("0000:00:00.0", { class: "0x060000" });
    const [device] = await scanner.scan();
    assert.deepEqual(
      [device?.driver, device?.iommuGroup, device?.resetMethods, device?.numaNode, device?.driverOverride, device?.vfioBound],
      ["", null, [], null, "", false],
    );
  });

  test("a virtual function names its physical function", async () => {
    tree.add("0000:01:10.0", { physfn: "0000:01:00.0" });
    const [device] = await scanner.scan();
    assert.equal(device?.physicalFunction, "0000:01:00.0");
  });

  test("bridges are left out by class, or by header type when the class does not tell; order is by address", async () => {
    tree.add("0000:00:1f.0", { class: "0x060100" });
    tree.add("0000:00:15.0", { class: "0x060400", headerType: 1, driver: "pcieport" });
    tree.add("0000:00:16.0", { class: "0x060700", headerType: 2 });
    tree.add("0000:00:17.0", { class: "0x068000", headerType: 0x80 });
    tree.add("10000:00:01.0", { class: "0x010802" });
    const devices = await scanner.scan();
    assert.deepEqual(
      devices.map((device) => device.address),
      ["0000:00:17.0", "0000:00:1f.0", "10000:00:01.0"],
    );
  });

  test("a group is viable unless a member has a driver that does its own DMA", async () => {
    tree.add("0000:02:00.0", { driver: "vfio-pci", vfio: 0, group: 1 });
    tree.add("0000:02:00.1", { driver: "pci-stub", group: 1 });
    tree.add("0000:02:00.2", { group: 1 });
    tree.add("0000:01:00.0", { class: "0x060400", driver: "pcieport", group: 1 });
    tree.add("0000:03:00.0", { driver: "vfio-pci", vfio: 1, group: 2 });
    tree.add("0000:03:00.1", { driver: "snd_hda_intel", group: 2 });
    const byAddress = new Map((await scanner.scan()).map((device) => [String(device.address), device.iommuGroup]));
    assert.equal(byAddress.get("0000:02:00.0")?.viable, true);
    assert.deepEqual(
      byAddress.get("0000:02:00.0")?.members.map((member) => [member.address, member.driver]),
      [
        ["0000:01:00.0", "pcieport"],
        ["0000:02:00.0", "vfio-pci"],
        ["0000:02:00.1", "pci-stub"],
        ["0000:02:00.2", ""],
      ],
    );
    assert.deepEqual(byAddress.get("0000:03:00.0"), {
      id: 2,
      viable: false,
      members: [
        { address: "0000:03:00.0", driver: "vfio-pci", spoils: false },
        { address: "0000:03:00.1", driver: "snd_hda_intel", spoils: true },
      ],
      otherSpoilers: [],
    });
  });

  test("a VFIO driver whose probe still runs is not bound yet, and spoils no group", async () => {
    tree.add("0000:01:00.0", { driver: "nvgrace_gpu_vfio_pci", driverOverride: "nvgrace_gpu_vfio_pci", group: 1 });
    tree.add("0000:02:00.0", { driver: "nvme", driverOverride: "nvme", group: 2 });
    const [probing, bound] = await scanner.scan();
    assert.deepEqual([probing?.driver, probing?.driverOverride, probing?.vfioBound], ["", "nvgrace_gpu_vfio_pci", false]);
    assert.deepEqual(probing?.iommuGroup, {
      id: 1,
      viable: true,
      members: [{ address: "0000:01:00.0", driver: "", spoils: false }],
      otherSpoilers: [],
    });
    assert.deepEqual([bound?.driver, bound?.driverOverride, bound?.iommuGroup?.viable], ["nvme", "nvme", false]);
  });

  test("a member that is no PCI function counts, and is told once", async () => {
    tree.add("0000:02:00.0", { driver: "vfio-pci", vfio: 0, group: 1 });
    const member = join(tree.root, "platform");
    mkdirSync(member);
    symlinkSync("../drivers/arm-smmu-test", join(member, "driver"));
    symlinkSync(member, join(tree.sysRoot, "kernel/iommu_groups/1/devices/arm-thing.0"));
    const [device] = await scanner.scan();
    await scanner.scan();
    assert.equal(device?.iommuGroup?.viable, false);
    assert.equal(device?.iommuGroup?.members.length, 1);
    assert.deepEqual(device?.iommuGroup?.otherSpoilers, ['"arm-thing.0" (arm-smmu-test)']);
    assert.deepEqual(faults.length, 1);
    assert.match(faults[0] ?? "", /IOMMU group 1.*arm-thing/);
  });

  test("the bind key changes with every bind and not with time", async () => {
    tree.add("0000:01:00.0", { driver: "vfio-pci", vfio: 3 });
    const [first] = await scanner.scan();
    const [same] = await scanner.scan();
    assert.equal(same?.bindKey, first?.bindKey);
    tree.rebind("0000:01:00.0");
    const [again] = await scanner.scan();
    assert.equal(again?.vfioBound, true);
    tree.unbind("0000:01:00.0");
    const [unbound] = await scanner.scan();
    assert.equal(unbound?.vfioBound, false);
    assert.equal(new Set([first?.bindKey, unbound?.bindKey, again?.bindKey]).size, 3);
  });

  test("a device whose VFIO driver waits for its last holder is leaving, until the kernel names the driver no more", async () => {
    const address = "0000:01:00.0";
    const seen = async (): Promise<unknown> => {
      const [facts] = await scanner.scan();
      return [facts?.leaving, facts?.vfioBound, facts?.driver];
    };
    tree.add(address, { driver: "odd_variant", vfio: 0, group: 1, driverOverride: "odd_variant" });
    tree.write(address, "uevent", "DRIVER=odd_variant\nPCI_CLASS=FF00\n");
    assert.deepEqual(await seen(), [false, true, "odd_variant"]);
    tree.unbind(address);
    assert.deepEqual(await seen(), [true, false, "odd_variant"]);
    tree.write(address, "uevent", "PCI_CLASS=FF00\nMODALIAS=DRIVER=odd_variant\n");
    // Asked twice at once, as a scan and a proof do: both get the kernel's answer.
    assert.deepEqual(await Promise.all([seen(), seen()]), [
      [false, false, ""],
      [false, false, ""],
    ]);
    // One that we have not seen bound must be named as VFIO drivers are.
    tree.write(address, "uevent", "DRIVER=odd_variant\n");
    assert.deepEqual(await seen(), [false, false, ""]);
    tree.write(address, "uevent", "DRIVER=vfio-pci\n");
    assert.deepEqual(await seen(), [true, false, "vfio-pci"]);
    // Bound anew: the link is there, its probe runs.
    tree.bind(address, "vfio-pci");
    assert.deepEqual(await seen(), [false, false, ""]);
  });

  for (const [name, file, content, complaint] of [
    ["a malformed vendor id", "vendor", "10de\n", /left out.*vendor reads "10de"/],
    ["an empty device id", "device", "", /left out.*device reads ""/],
    ["a class of the wrong length", "class", "0x0302\n", /left out.*class reads/],
    ["binary garbage", "vendor", Uint8Array.of(0, 255, 10, 27), /left out.*vendor reads/],
    ["an attribute longer than a page", "vendor", "0x10de".repeat(4096), /left out.*longer than 4096 bytes/],
  ] as const) {
    test(`${name} leaves the device out with a fault, told once, and the others stand`, async () => {
      tree.add("0000:01:00.0", {});
      tree.add("0000:02:00.0", {});
      tree.write("0000:01:00.0", file, content);
      const devices = await scanner.scan();
      await scanner.scan();
      assert.deepEqual(
        devices.map((device) => device.address),
        ["0000:02:00.0"],
      );
      assert.equal(faults.length, 1);
      assert.match(faults[0] ?? "", complaint);
      assert.match(faults[0] ?? "", /^host\.scan 0000:01:00\.0: /);
    });
  }

  for (const [name, file, content, complaint] of [
    ["reset_method", "reset_method", "flr; rm -rf\n", /reset_method reads/],
    ["numa_node", "numa_node", "many\n", /numa_node reads "many"/],
  ] as const) {
    test(`a malformed ${name} costs that fact only`, async () => {
      tree.add("0000:01:00.0", { resetMethod: "flr", numaNode: "0" });
      tree.write("0000:01:00.0", file, content);
      const [device] = await scanner.scan();
      assert.equal(device?.vendorId, 0x1234);
      assert.match(faults.join("\n"), complaint);
    });
  }

  test("an attribute that is a folder, a dangling group and foreign names do no harm", async () => {
    tree.add("0000:01:00.0", {});
    rmSync(join(tree.folder("0000:01:00.0"), "reset_method"), { force: true });
    mkdirSync(join(tree.folder("0000:01:00.0"), "reset_method"));
    symlinkSync("../../nowhere/12", join(tree.folder("0000:01:00.0"), "iommu_group"));
    mkdirSync(join(tree.sysRoot, "bus/pci/devices/not-an-address"));
    writeFileSync(join(tree.sysRoot, "bus/pci/devices/0000:01:00"), "");
    const devices = await scanner.scan();
    assert.equal(devices.length, 1);
    assert.equal(devices[0]?.iommuGroup, null);
    assert.match(faults.join("\n"), /reset_method: .*EISDIR/);
  });

  test("vendor in a loop of links, or a folder, leaves the device out; a driver that is no link leaves out who shares its group; the others stand", async () => {
    for (const [index, address] of ["0000:01:00.0", "0000:02:00.0", "0000:03:00.0", "0000:03:00.1", "0000:04:00.0"].entries()) {
      tree.add(address, { group: Number(address.slice(5, 7)), vfio: index });
    }
    rmSync(join(tree.folder("0000:01:00.0"), "vendor"));
    symlinkSync("vendor", join(tree.folder("0000:01:00.0"), "vendor"));
    rmSync(join(tree.folder("0000:02:00.0"), "vendor"));
    mkdirSync(join(tree.folder("0000:02:00.0"), "vendor"));
    tree.write("0000:03:00.0", "driver", "vfio-pci");
    for (const _scan of [1, 2]) {
      const devices = await scanner.scan();
      assert.deepEqual(
        devices.map(({ address }) => address),
        ["0000:04:00.0"],
      );
    }
    // Each told once, and not again by the second scan.
    assert.deepEqual([...faults].sort(), [
      "host.scan 0000:01:00.0: left out of the inventory: vendor reads nothing (vendor: ELOOP)",
      "host.scan 0000:02:00.0: left out of the inventory: vendor reads nothing (vendor: EISDIR)",
      'host.scan 0000:03:00.0: "0000:03:00.0" in IOMMU group 3: driver: EINVAL',
      'host.scan 0000:03:00.1: "0000:03:00.0" in IOMMU group 3: driver: EINVAL',
    ]);
  });

  test("a device of which nothing but the name is left is not there, and nobody is told", async () => {
    tree.add("0000:01:00.0", {});
    mkdirSync(tree.folder("0000:02:00.0"));
    symlinkSync("../nowhere", tree.folder("0000:03:00.0"));
    assert.equal((await scanner.scan()).length, 1);
    assert.deepEqual(faults, []);
  });

  test("devices that come and go while they are read are there or not, and nothing is wrong", async () => {
    const addresses = Array.from({ length: 64 }, (_, i) => `0000:${(16 + i).toString(16)}:00.0`);
    const facts = (index: number) => ({ driver: "vfio-pci", vfio: index, group: index, revision: "0x01" });
    for (const [index, address] of addresses.entries()) tree.add(address, facts(index));
    let scanning = true;
    const coming = (async () => {
      for (let round = 0; scanning; round += 1) {
        // The folder leaves as a whole, as it does in sysfs: by its name, while its files are still open to who is inside.
        const away = join(tree.root, `away-${round}`);
        renameSync(tree.folder(addresses[round % 64] ?? ""), away);
        await new Promise((resolve) => setImmediate(resolve));
        renameSync(away, tree.folder(addresses[round % 64] ?? ""));
        await new Promise((resolve) => setImmediate(resolve));
      }
    })();
    for (let i = 0; i < 50; i += 1) {
      for (const device of await scanner.scan()) assert.equal(device.vendorId, 0x1234);
    }
    scanning = false;
    await coming;
    assert.deepEqual((await scanner.scan()).length, 64);
    assert.deepEqual(faults, []);
  });

  test("ten thousand devices: all are told, and the loop turns meanwhile", async () => {
    const many = Array.from(
      { length: 10_000 },
      (_, i) => `${(0x1000 + (i >> 8)).toString(16)}:${(i & 0xff).toString(16).padStart(2, "0")}:00.0`,
    );
    for (const [i, address] of many.entries()) tree.add(address, { driver: "vfio-pci", vfio: i, group: i >> 1, numaNode: String(i & 1) });
    let turns = 0;
    let turning = true;
    const turn = (): void => {
      turns += 1;
      if (turning) setImmediate(turn);
    };
    turn();
    const devices = await scanner.scan();
    turning = false;
    assert.deepEqual(
      devices.map(({ address }) => address),
      many,
    );
    for (const [i, device] of devices.entries()) {
      const pair = [many[i & ~1], many[i | 1]].map((address) => ({ address, driver: "vfio-pci", spoils: false }));
      assert.deepEqual([device.numaNode, device.iommuGroup?.id, device.iommuGroup?.members], [i & 1, i >> 1, pair]);
    }
    assert.ok(turns > 60, `${turns} turns`);
    assert.deepEqual(faults, []);
  });

  test("no PCI bus at all is an empty inventory", async () => {
    rmSync(tree.sysRoot, { recursive: true });
    assert.deepEqual(await scanner.scan(), []);
  });

  test("a device whose lock is held does not hold up the scan, nor take a second thread", async () => {
    tree.add("0000:01:00.0", { driverOverride: "nvgrace_gpu_vfio_pci" });
    tree.add("0000:02:00.0", { driverOverride: "vfio-pci" });
    const [before] = await scanner.scan();
    assert.equal(before?.driverOverride, "nvgrace_gpu_vfio_pci");
    // open(2) of a FIFO waits for a writer, as driver_override's read waits for the device's lock.
    const fifo = join(tree.folder("0000:01:00.0"), "driver_override");
    rmSync(fifo);
    execFileSync("mkfifo", [fifo]);
    const begin = performance.now();
    const [locked, other] = await scanner.scan();
    const [lockedStill] = await scanner.scan();
    assert.ok(performance.now() - begin < 2000);
    assert.equal(locked?.driverOverride, "nvgrace_gpu_vfio_pci");
    assert.equal(lockedStill?.driverOverride, "nvgrace_gpu_vfio_pci");
    assert.equal(other?.driverOverride, "vfio-pci");
    // A writer lets the one reader that waits go on.
    execFileSync("sh", ["-c", `echo none >"$0"`, fifo], { timeout: 5000 });
    rmSync(fifo);
    tree.write("0000:01:00.0", "driver_override", "(null)\n");
    for (let i = 0; i < 50; i++) {
      const [free] = await scanner.scan();
      if (free?.driverOverride === "") return;
    }
    assert.fail("the value never came back");
  });
});
