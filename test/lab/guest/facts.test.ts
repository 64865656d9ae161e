// What the kernels of the lab say of its devices besides ids, drivers, groups and regions, each value against what the machine was built with.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { after, before, describe, test } from "node:test";
import type { DeviceFacts, DeviceProbe } from "../../../src/broker/device.js";
import type { Host } from "../../../src/broker/ports.js";
import { chooseHost } from "../../../src/host/choose.js";
import { Machine } from "../../../src/host/machine.js";
import { edu, graceHopper, igb, igbVfs, ivshmem, type LabDevice, nvme } from "../devices.js";
import { world } from "./world.js";

describe("[lab kernel] facts", () => {
  const faults: string[] = [];
  let host: Host;
  let all: readonly DeviceFacts[];

  before(async () => {
    const observer = { fault: (where: string, error: unknown) => void faults.push(`${where}: ${String(error)}`) };
    const chosen = await chooseHost({ host: "auto", sysRoot: "/sys", devRoot: "/dev", observer });
    host = chosen.host ?? assert.fail(JSON.stringify(chosen.error));
    all = await host.scan();
  });

  after(async () => {
    await host.close();
    assert.deepEqual(faults, []);
  });

  function factsOf(device: LabDevice): DeviceFacts {
    return all.find((facts) => facts.address === device.address) ?? assert.fail(`${device.address} is missing`);
  }

  async function probeOf(device: LabDevice): Promise<DeviceProbe> {
    const probe = await host.probe(factsOf(device));
    return probe.value ?? assert.fail(probe.refusal?.message);
  }

  test("revision, board, place and link as QEMU built them", () => {
    const told = (device: LabDevice): readonly unknown[] => {
      const { revisionId, subsystem, place } = factsOf(device);
      return [revisionId, subsystem, place?.root, place?.ports, place?.link];
    };
    const qemu = { vendorId: 0x1af4, deviceId: 0x1100 };
    assert.deepEqual(told(edu), [0x10, qemu, "pci0000:00", [], null]);
    const link = { currentSpeedMts: 2500, currentWidth: 1, maxSpeedMts: 2500, maxWidth: 1 };
    for (const device of [igb, ...igbVfs]) assert.deepEqual(told(device), [1, qemu, "pci0000:00", ["0000:00:15.0"], link]);
  });

  test("one NUMA node with all processors and memory, and none of a GPU: the fake one has no eight of its own", () => {
    const distances = [{ node: 0, distance: 10 }];
    assert.deepEqual(host.numaNodes(), [{ id: 0, hasCpus: true, hasMemory: true, genericInitiator: false, distances }]);
    assert.deepEqual([factsOf(graceHopper).genericInitiators, factsOf(graceHopper).extendedMemory], [null, null]);
  });

  test("the physical function counts its virtual ones, and each has its number", () => {
    assert.deepEqual(factsOf(igb).virtualFunctions, { total: 7, addresses: igbVfs.map(({ address }) => address) });
    assert.deepEqual(
      igbVfs.map((vf) => factsOf(vf).vfIndex),
      [0, 1],
    );
    assert.equal(factsOf(edu).virtualFunctions, null);
  });

  test("drivers: what is bound, and vfio-pci, which this kernel has registered", () => {
    const drivers = (device: LabDevice) => factsOf(device).driverCandidates.map(({ driver, kind, source }) => [driver, kind, source]);
    const generic = ["vfio-pci", "VFIO_GENERIC", "REGISTERED"];
    assert.deepEqual(drivers(edu), [generic]);
    assert.deepEqual(drivers(nvme), [generic, ["nvme", "HOST", "REGISTERED"]]);
    const variant = [["nvgrace_gpu_vfio_pci", "VFIO_VARIANT", "REGISTERED"], generic];
    assert.deepEqual(drivers(graceHopper), world === "iommufd" ? variant : [generic]);
  });

  test("what a hot reset takes down: as the topology says before, and the kernel when asked; nothing on the root bus", async () => {
    const addresses = [igb, ...igbVfs].map(({ address }) => address);
    for (const vf of igbVfs) {
      assert.deepEqual(factsOf(vf).resetSet, { addresses, source: "TOPOLOGY" });
      assert.deepEqual((await probeOf(vf)).resetSet, { addresses, source: "KERNEL" });
    }
    assert.deepEqual([factsOf(edu).resetSet, (await probeOf(edu)).resetSet], [null, null]);
  });

  test("interrupts and MSI-X of a virtual function and of the edu", async () => {
    const kinds = (probe: DeviceProbe) => probe.interrupts.map(({ kind, count }) => [kind, count]);
    const [vf] = igbVfs;
    const probe = await probeOf(vf);
    assert.deepEqual(kinds(probe), [
      ["MSIX", 3],
      ["ERROR", 1],
      ["REQUEST", 1],
    ]);
    assert.deepEqual(probe.msix, {
      vectors: 3,
      table: { bar: 3, offset: 0n, size: 48n },
      pending: { bar: 3, offset: 0x2000n, size: 8n },
    });
    // 7.x has the error interrupt for conventional devices as well; 6.12 answers EINVAL.
    const error = world === "iommufd" ? [["ERROR", 1]] : [];
    const told = await probeOf(edu);
    assert.deepEqual(kinds(told), [["INTX", 1], ["MSI", 1], ...error, ["REQUEST", 1]]);
    assert.equal(told.msix, null);
  });

  test("features: nothing here migrates, everything has low power, and a DMA buffer is what a kernel with P2P DMA gives", async () => {
    for (const device of [edu, igbVfs[0], graceHopper]) {
      const probe = await probeOf(device);
      assert.equal(probe.migration, null);
      assert.deepEqual(probe.lowPower, { entry: true, entryWithWakeup: true, exit: true });
      assert.equal(probe.dmaBufExport.supported, world === "iommufd");
    }
    // Region 4 of the fake Grace Hopper has no real BAR behind it, which is what the kernel asks for.
    assert.deepEqual((await probeOf(graceHopper)).dmaBufExport.regions, world === "iommufd" ? [0, 2] : []);
    assert.deepEqual((await probeOf(ivshmem)).dmaBufExport.regions, world === "iommufd" ? [2] : []);
  });

  test("address translation: nothing on a conventional device; the virtual function's own capabilities", async () => {
    const none = { ats: false, pri: false, pasid: false, pasidBits: null };
    assert.deepEqual((await probeOf(edu)).addressTranslation, none);
    const shown = execFileSync("busybox", ["hexdump", "-v", "-e", '1/4 "%08x\\n"', `/sys/bus/pci/devices/${igbVfs[0].address}/config`]);
    const words = shown.toString().trim().split("\n");
    // Capability headers by themselves: id in the low half, next in the upper twelve bits.
    const ids: number[] = [];
    for (let at = 0x100; at >= 0x100; ) {
      const header = Number.parseInt(words[at / 4] ?? "0", 16);
      ids.push(header & 0xffff);
      at = header >>> 20;
    }
    assert.deepEqual((await probeOf(igbVfs[0])).addressTranslation, { ...none, ats: ids.includes(0x0f), pri: ids.includes(0x13) });
    assert.ok(ids.length > 1, "QEMU's igbvf has extended capabilities");
  });

  test("readiness in words", async () => {
    assert.match((await probeOf(edu)).readiness, /vfio-pci makes no difference/);
    const grace = (await probeOf(graceHopper)).readiness;
    assert.match(grace, world === "iommufd" ? /first word of region 2 could be read/ : /vfio-pci makes no difference/);
  });

  test("the IOMMU: QEMU's VT-d with 48 bits, without PASID and device TLBs; the legacy interface cannot ask", async () => {
    const { iommuHardware } = await probeOf(edu);
    if (world === "legacy") {
      assert.equal(iommuHardware, null);
      return;
    }
    assert.ok(iommuHardware !== null);
    const { vendorData, ...hardware } = iommuHardware;
    assert.deepEqual(hardware, {
      ...{ kind: "INTEL_VTD", rawKind: 1, dirtyTracking: false, pasidExecute: false, pasidPrivileged: false, pasidBits: null },
      ...{ inputAddressBits: 48, iommuPasidBits: 0, ats: false, rangeInvalidation: null },
    });
    // The registers themselves, from the other side: /sys/class/iommu/dmar0/intel-iommu.
    const register = (name: string) => BigInt(`0x${readFileSync(`/sys/class/iommu/dmar0/intel-iommu/${name}`, "utf8").trim()}`);
    const view = new DataView(vendorData.buffer, vendorData.byteOffset, vendorData.byteLength);
    assert.deepEqual([view.getBigUint64(8, true), view.getBigUint64(16, true)], [register("cap"), register("ecap")]);
  });

  test("pci.ids and modules.alias, where the system has them, give the names that they hold", async () => {
    const folder = mkdtempSync("/tmp/aperture-words-");
    writeFileSync(`${folder}/pci.ids`, "8086  Intel Corporation\n\t10ca  82576 Virtual Function\nC 02  Network controller\n");
    writeFileSync(
      `${folder}/modules.alias`,
      "alias pci:v00008086d000010CAsv*sd*bc*sc*i* igbvf\nalias vfio_pci:v*d*sv*sd*bc*sc*i* vfio_pci\n",
    );
    const observer = { fault: () => assert.fail() };
    const options = { sysRoot: "/sys", devRoot: "/dev", observer, systemFiles: { pciIds: [`${folder}/pci.ids`], modules: folder } };
    const facts = (await new Machine(options).scan()).find(({ address }) => address === igbVfs[0].address);
    assert.deepEqual(
      [facts?.names?.vendor, facts?.names?.device, facts?.names?.baseClass],
      ["Intel Corporation", "82576 Virtual Function", "Network controller"],
    );
    assert.deepEqual(
      facts?.driverCandidates.map(({ driver, source }) => [driver, source]),
      [
        ["vfio-pci", "MODULES_ALIAS"],
        ["igbvf", "MODULES_ALIAS"],
      ],
    );
  });
});
