// What a scan tells of a function besides its ids, driver and group: place, link, virtual functions, reset set; and that what cannot change is read once.

import assert from "node:assert/strict";
import { mkdirSync, renameSync, rmSync, symlinkSync, unlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, test } from "node:test";
import type { DeviceFacts } from "../../../src/broker/device.js";
import { speedOf, whereIs, widthOf } from "../../../src/host/device-identity.js";
import { DriverOverrides } from "../../../src/host/driver-override.js";
import { LeavingDrivers } from "../../../src/host/leaving.js";
import { SysfsScanner } from "../../../src/host/sysfs.js";
import { native } from "../../../src/native.js";
import { SysfsTree } from "./sysfs-tree.js";

const PF = "0000:01:00.0";
const PORT = "0000:00:15.0";
const BELOW_PORT = `pci0000:00/${PORT}`;

describe("[files in a temporary folder] sysfs facts", () => {
  let tree: SysfsTree;
  let scanner: SysfsScanner;
  const faults: string[] = [];

  beforeEach(() => {
    tree = new SysfsTree();
    faults.length = 0;
    const observer = { fault: (where: string, error: unknown) => void faults.push(`${where}: ${String(error)}`) };
    const overrides = new DriverOverrides(native, tree.sysRoot, 100);
    scanner = new SysfsScanner(
      native,
      tree.sysRoot,
      overrides,
      new LeavingDrivers(native, tree.sysRoot, 100),
      observer,
      tree.systemFiles(),
    );
  });

  afterEach(() => {
    assert.deepEqual(faults, []);
    tree.remove();
  });

  async function scanned(): Promise<ReadonlyMap<string, DeviceFacts>> {
    return new Map((await scanner.scan()).map((facts) => [facts.address, facts]));
  }

  test("revision, board, place, link and names", async () => {
    writeFileSync(join(tree.root, "pci.ids"), "8086  Intel Corporation\n\t1592  E810\nC 02  Network controller\n");
    mkdirSync(join(tree.root, "modules"));
    writeFileSync(join(tree.root, "modules/modules.alias"), "alias pci:v00008086d00001592sv*sd*bc*sc*i* ice\n");
    tree.add(PF, {
      ...{ vendor: "0x8086", device: "0x1592", class: "0x020000", driver: "ice", revision: "0x02", subsystem: ["0x8086", "0x0001"] },
      ...{ link: ["8.0 GT/s PCIe", "8", "16.0 GT/s PCIe", "16"], below: `pci0000:00/${PORT}/0000:02:00.0/0000:03:01.0` },
    });
    const facts = (await scanned()).get(PF) ?? assert.fail();
    assert.equal(facts.revisionId, 2);
    assert.deepEqual(facts.subsystem, { vendorId: 0x8086, deviceId: 1 });
    assert.deepEqual(facts.place, {
      root: "pci0000:00",
      ports: [PORT, "0000:02:00.0", "0000:03:01.0"],
      link: { currentSpeedMts: 8000, currentWidth: 8, maxSpeedMts: 16_000, maxWidth: 16 },
    });
    assert.deepEqual(
      [facts.names?.vendor, facts.names?.device, facts.names?.baseClass],
      ["Intel Corporation", "E810", "Network controller"],
    );
    assert.deepEqual(
      facts.driverCandidates.map(({ driver, source }) => [driver, source]),
      [["ice", "MODULES_ALIAS"]],
    );
  });

  test("what the kernel does not say is absent, and what makes no sense too", async () => {
    tree.add("0000:00:02.0", { below: "pci0000:00" });
    tree.add("0000:01:00.0", {
      ...{ revision: "two", subsystem: ["0x8086", "8086"], link: ["Unknown", "0", "Unknown", "255"], totalVfs: "0", below: BELOW_PORT },
    });
    const all = await scanned();
    const bare = all.get("0000:00:02.0");
    assert.deepEqual(
      [bare?.revisionId, bare?.subsystem, bare?.names, bare?.virtualFunctions, bare?.vfIndex],
      [null, null, null, null, null],
    );
    assert.deepEqual([bare?.place, bare?.resetSet], [{ root: "pci0000:00", ports: [], link: null }, null]);
    const wrong = all.get("0000:01:00.0");
    assert.deepEqual([wrong?.revisionId, wrong?.subsystem, wrong?.place?.link, wrong?.virtualFunctions], [null, null, null, null]);
  });

  test("a physical function names its virtual ones, and each its number", async () => {
    tree.add(PF, { driver: "igb", totalVfs: "7", below: BELOW_PORT });
    for (const [index, address] of ["0000:01:10.0", "0000:01:10.2"].entries()) {
      tree.add(address, { physfn: PF, driver: "vfio-pci", vfio: index, below: BELOW_PORT });
      symlinkSync(`../${address}`, join(tree.folder(PF), `virtfn${index}`));
    }
    const all = await scanned();
    assert.deepEqual(all.get(PF)?.virtualFunctions, { total: 7, addresses: ["0000:01:10.0", "0000:01:10.2"] });
    assert.deepEqual([all.get(PF)?.vfIndex, all.get("0000:01:10.0")?.vfIndex, all.get("0000:01:10.2")?.vfIndex], [null, 0, 1]);
  });

  test("what hundreds of virtual functions share is one object, and stays it from scan to scan until it changes", async () => {
    tree.add(PF, { totalVfs: "7", below: BELOW_PORT });
    tree.add("0000:01:10.0", { physfn: PF, below: BELOW_PORT });
    const before = await scanned();
    assert.equal(before.get(PF)?.resetSet, before.get("0000:01:10.0")?.resetSet);
    const same = await scanned();
    assert.equal(same.get(PF)?.resetSet, before.get(PF)?.resetSet);
    assert.equal(same.get(PF)?.virtualFunctions, before.get(PF)?.virtualFunctions);
    tree.add("0000:01:10.2", { physfn: PF, below: BELOW_PORT });
    const after = await scanned();
    assert.deepEqual(after.get(PF)?.resetSet?.addresses, [PF, "0000:01:10.0", "0000:01:10.2"]);
    assert.deepEqual(after.get(PF)?.virtualFunctions?.addresses, ["0000:01:10.0", "0000:01:10.2"]);
  });

  test("a group that VFIO made up for want of an IOMMU is none", async () => {
    tree.add(PF, { driver: "vfio-pci", vfio: 0, group: 3 });
    writeFileSync(join(tree.sysRoot, "kernel/iommu_groups/3/name"), "vfio-noiommu\n");
    const parameters = join(tree.sysRoot, "module/vfio/parameters");
    mkdirSync(parameters, { recursive: true });
    writeFileSync(join(parameters, "enable_unsafe_noiommu_mode"), "N\n");
    assert.equal((await scanned()).get(PF)?.iommuGroup?.id, 3);
    writeFileSync(join(parameters, "enable_unsafe_noiommu_mode"), "Y\n");
    assert.equal((await scanned()).get(PF)?.iommuGroup, null);
  });

  test("a group of which cannot be told whether VFIO made it up is none", async () => {
    tree.add(PF, { driver: "vfio-pci", vfio: 0, group: 3 });
    mkdirSync(join(tree.sysRoot, "kernel/iommu_groups/3/name"));
    const parameters = join(tree.sysRoot, "module/vfio/parameters");
    mkdirSync(parameters, { recursive: true });
    writeFileSync(join(parameters, "enable_unsafe_noiommu_mode"), "Y\n");
    assert.equal((await scanned()).get(PF)?.iommuGroup, null);
  });

  test("a scan of one device reads that one, and tells of the others what is known", async () => {
    tree.add(PF, { totalVfs: "7", below: BELOW_PORT });
    tree.add("0000:01:00.1", { below: BELOW_PORT });
    await scanned();
    tree.add("0000:01:10.0", { physfn: PF, below: BELOW_PORT });
    tree.write("0000:01:00.1", "numa_node", "1\n");
    const only = await scanner.scan(new Set(["0000:01:10.0" as Parameters<typeof whereIs>[1]]));
    assert.deepEqual(
      only.map(({ address, resetSet }) => [address, resetSet?.addresses]),
      [["0000:01:10.0", [PF, "0000:01:00.1", "0000:01:10.0"]]],
    );
    tree.unplug("0000:01:10.0");
    assert.deepEqual(await scanner.scan(new Set(["0000:01:10.0" as Parameters<typeof whereIs>[1]])), []);
    assert.deepEqual([...(await scanned()).keys()], [PF, "0000:01:00.1"]);
  });

  test("a virtual function whose number is not there yet gets it at the next scan", async () => {
    tree.add(PF, { totalVfs: "7" });
    tree.add("0000:01:10.0", { physfn: PF });
    assert.equal((await scanned()).get("0000:01:10.0")?.vfIndex, null);
    symlinkSync("../0000:01:10.0", join(tree.folder(PF), "virtfn3"));
    assert.equal((await scanned()).get("0000:01:10.0")?.vfIndex, 3);
  });

  test("the reset set by topology is what lies below the same last port, bridges included", async () => {
    tree.add("0000:00:02.0", { below: "pci0000:00" });
    tree.add("0000:01:00.0", { below: BELOW_PORT });
    tree.add("0000:01:00.1", { below: BELOW_PORT });
    tree.add("0000:03:00.0", { below: `${BELOW_PORT}/0000:01:00.2` });
    tree.add("0000:04:00.0", { below: "pci0000:00/0000:00:16.0" });
    const all = await scanned();
    const addressesOf = (address: string) => all.get(address)?.resetSet?.addresses;
    const below = ["0000:01:00.0", "0000:01:00.1", "0000:01:00.2", "0000:03:00.0"];
    assert.deepEqual([addressesOf("0000:01:00.0"), addressesOf("0000:01:00.1")], [below, below]);
    assert.deepEqual(addressesOf("0000:03:00.0"), ["0000:03:00.0"]);
    assert.deepEqual(addressesOf("0000:04:00.0"), ["0000:04:00.0"]);
    assert.equal(all.get("0000:00:02.0")?.resetSet, null);
    assert.equal(all.get("0000:01:00.0")?.resetSet?.source, "TOPOLOGY");
  });

  test("a second scan says the same and reads nothing again of what cannot change", async () => {
    tree.add(PF, {
      revision: "0x02",
      subsystem: ["0x8086", "0x0001"],
      link: ["8.0 GT/s PCIe", "8", "8.0 GT/s PCIe", "8"],
      below: BELOW_PORT,
    });
    const before = await scanned();
    for (const name of ["vendor", "revision", "subsystem_vendor", "current_link_speed"]) unlinkSync(join(tree.folder(PF), name));
    assert.deepEqual(await scanned(), before);
    // The parts that are kept are the same objects: that is how the inventory compares them fast.
    assert.equal((await scanned()).get(PF)?.place, before.get(PF)?.place);
  });

  test("another function at the same address is read anew, and a new binding reads the link", async () => {
    tree.add(PF, {
      vendor: "0x8086",
      revision: "0x02",
      driver: "ice",
      link: ["8.0 GT/s PCIe", "8", "8.0 GT/s PCIe", "8"],
      below: BELOW_PORT,
    });
    await scanned();
    tree.write(PF, "current_link_speed", "2.5 GT/s PCIe\n");
    assert.equal((await scanned()).get(PF)?.place?.link?.currentSpeedMts, 8000);
    tree.rebind(PF);
    assert.equal((await scanned()).get(PF)?.place?.link?.currentSpeedMts, 2500);
    // The old link stays under another name, so that its inode number is not given away again: kernfs never does.
    renameSync(tree.folder(PF), `${tree.folder(PF)}.old`);
    rmSync(join(tree.sysRoot, "devices"), { recursive: true });
    tree.add(PF, { vendor: "0x10de", revision: "0xa1", below: "pci0000:00/0000:00:16.0" });
    const replaced = (await scanned()).get(PF);
    assert.deepEqual(
      [replaced?.vendorId, replaced?.revisionId, replaced?.place?.ports, replaced?.place?.link],
      [0x10de, 0xa1, ["0000:00:16.0"], null],
    );
  });
});

describe("[pure] sysfs words", () => {
  test("link speeds and widths", () => {
    assert.deepEqual(["2.5 GT/s PCIe", "32.0 GT/s PCIe", "64.0 GT/s", "Unknown", "", null].map(speedOf), [
      2500,
      32_000,
      64_000,
      null,
      null,
      null,
    ]);
    assert.deepEqual(["1", "16", "32", "0", "63", "255", "x4", null].map(widthOf), [1, 16, 32, null, null, null, null, null]);
  });

  test("places: the outermost root, ports of inner domains too, and paths that are none", () => {
    const address = "10000:e1:00.0" as Parameters<typeof whereIs>[1];
    assert.deepEqual(whereIs(`../../../devices/pci0000:00/0000:00:0e.0/pci10000:e0/10000:e0:06.0/${address}`, address), {
      root: "pci0000:00",
      ports: ["0000:00:0e.0", "10000:e0:06.0"],
    });
    assert.equal(whereIs(`../../../devices/platform/${address}`, address), null);
    assert.equal(whereIs("../../../devices/pci0000:00/0000:00:01.0", address), null);
  });
});
