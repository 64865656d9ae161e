// What a probe tells besides regions, on both kernel interfaces; and that a question which fails costs that fact and not the device.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { type DeviceProbe, parseAddress } from "../../../src/broker/device.js";
import type { Host } from "../../../src/broker/ports.js";
import { IommufdHost } from "../../../src/host/iommufd-host.js";
import { LegacyHost } from "../../../src/host/legacy-host.js";
import { resetSetFrom } from "../../../src/host/probed-facts.js";
import { openDescriptors } from "../../contract/client-side.js";
import { EDU, FakeMachine, knownDevices } from "./fake-machine.js";

const VTD = { kind: 1, capabilities: 0n, maxPasidLog2: 0, data: new Uint8Array(24) };

function msixConfig(): Uint8Array {
  const config = Buffer.alloc(0x100);
  config.writeUInt32LE(0x0010_0000, 4);
  config[0x34] = 0x40;
  config.writeUInt32LE((7 << 16) | 0x11, 0x40);
  config.writeUInt32LE(0x2000 | 2, 0x44);
  config.writeUInt32LE(0x3000 | 2, 0x48);
  return config;
}

/** A machine whose edu has something to tell. */
function talkative(): FakeMachine {
  const machine = new FakeMachine((device) =>
    device.address !== EDU
      ? device
      : {
          ...device,
          config: msixConfig(),
          interrupts: [1, 1, 8, null, 1],
          hotReset: [
            { segment: 0, bus: 0, devfn: 0x81 },
            { segment: 0, bus: 0, devfn: 0x80 },
          ],
          migration: 3n,
          features: ["get 11", "set 3", "set 5", "set 6"],
        },
  );
  machine.kernel.iommu = VTD;
  return machine;
}

const HOSTS = {
  iommufd: (machine: FakeMachine) => IommufdHost.create(machine.options()),
  legacy: (machine: FakeMachine) => LegacyHost.create(machine.options()),
} as const;

async function probeOf(machine: FakeMachine, make: (typeof HOSTS)[keyof typeof HOSTS], then?: (host: Host) => void): Promise<DeviceProbe> {
  const host = (await make(machine)).value ?? assert.fail();
  then?.(host);
  const [edu] = await knownDevices(host, EDU);
  await host.close();
  return edu?.probe ?? assert.fail();
}

for (const [name, make] of Object.entries(HOSTS)) {
  describe(`[made-up kernel] probed facts, ${name}`, () => {
    test("interrupts, MSI-X, reset set, features, IOMMU", async () => {
      const machine = talkative();
      const open = openDescriptors();
      const probe = await probeOf(machine, make);
      assert.equal(openDescriptors(), open);
      assert.deepEqual(
        probe.interrupts.map(({ index, kind, count, noresize }) => [index, kind, count, noresize]),
        [
          [0, "INTX", 1, false],
          [1, "MSI", 1, true],
          [2, "MSIX", 8, true],
          [4, "REQUEST", 1, true],
        ],
      );
      assert.deepEqual(probe.interrupts[0], {
        ...{ index: 0, kind: "INTX", count: 1, eventfd: true, maskable: true, automasked: true, noresize: false },
      });
      assert.deepEqual(probe.msix, {
        vectors: 8,
        table: { bar: 2, offset: 0x2000n, size: 128n },
        pending: { bar: 2, offset: 0x3000n, size: 8n },
      });
      assert.deepEqual(probe.resetSet, { addresses: ["0000:00:10.0", "0000:00:10.1"], source: "KERNEL" });
      assert.deepEqual(probe.migration, { stopCopy: true, peerToPeer: true, preCopy: false, dmaLogging: true });
      assert.deepEqual(probe.lowPower, { entry: true, entryWithWakeup: false, exit: true });
      assert.deepEqual(probe.dmaBufExport, { supported: true, regions: [0] });
      assert.equal(probe.iommuHardware?.kind ?? null, name === "iommufd" ? "INTEL_VTD" : null);
      assert.match(probe.readiness, /vfio-pci makes no difference/);
      machine.remove();
    });

    test("a device that has nothing of it has none of it", async () => {
      const machine = new FakeMachine();
      const probe = await probeOf(machine, make);
      assert.deepEqual([probe.interrupts, probe.msix, probe.resetSet, probe.migration, probe.iommuHardware], [[], null, null, null, null]);
      // 64 bytes of config space, as without CAP_SYS_ADMIN.
      assert.equal(probe.addressTranslation, null);
      machine.remove();
    });

    test("address translation comes from sysfs, because VFIO hides PASID", async () => {
      const machine = new FakeMachine();
      const config = Buffer.alloc(4096);
      config.writeUInt32LE((0x200 << 20) | 0x1000f, 0x100);
      config.writeUInt32LE(0x1001b, 0x200);
      config.writeUInt32LE(0x1000, 0x204);
      machine.tree.write(EDU, "config", config);
      const probe = await probeOf(machine, make);
      assert.deepEqual(probe.addressTranslation, { ats: true, pri: false, pasid: true, pasidBits: 16 });
      machine.remove();
    });

    for (const operation of [
      ...["VFIO_DEVICE_GET_IRQ_INFO", "VFIO_DEVICE_GET_PCI_HOT_RESET_INFO", "VFIO_DEVICE_FEATURE_MIGRATION", "VFIO_DEVICE_FEATURE"],
      ...(name === "iommufd" ? ["IOMMU_GET_HW_INFO"] : []),
    ]) {
      test(`${operation} that fails costs that fact; ENODEV of the device ends the probe`, async () => {
        const machine = talkative();
        machine.kernel.interfere = (called) => (called === operation ? "EIO" : null);
        const probe = await probeOf(machine, make);
        assert.equal(probe.regions.length, 2);
        const empty = {
          VFIO_DEVICE_GET_IRQ_INFO: () => assert.deepEqual(probe.interrupts, []),
          VFIO_DEVICE_GET_PCI_HOT_RESET_INFO: () => assert.equal(probe.resetSet, null),
          VFIO_DEVICE_FEATURE_MIGRATION: () => assert.equal(probe.migration, null),
          VFIO_DEVICE_FEATURE: () => assert.deepEqual(probe.lowPower, { entry: false, entryWithWakeup: false, exit: false }),
          IOMMU_GET_HW_INFO: () => assert.equal(probe.iommuHardware, null),
        };
        empty[operation as keyof typeof empty]();
        machine.kernel.interfere = (called) => (called === operation ? "ENODEV" : null);
        const host = (await make(machine)).value ?? assert.fail();
        const facts = (await host.scan()).find(({ address }) => address === EDU) ?? assert.fail();
        const outcome = await host.probe(facts);
        // To the question for the reset set ENODEV says that there is none.
        if (operation === "VFIO_DEVICE_GET_PCI_HOT_RESET_INFO") assert.equal(outcome.value?.resetSet, null);
        else assert.equal(outcome.refusal?.reason, "DEVICE_REMOVED");
        await host.close();
        machine.remove();
      });
    }

    test("one device without dma-buf does not settle it for the kernel", async () => {
      const machine = new FakeMachine((device) => (device.address === EDU ? { ...device, features: [] } : device));
      const host = (await make(machine)).value ?? assert.fail();
      const capability = () => host.capabilities().find((row) => row.name === "dma_buf_export")?.availability;
      const [edu] = await knownDevices(host, EDU);
      assert.deepEqual(edu?.probe.dmaBufExport, { supported: false, regions: [] });
      assert.equal(capability(), "UNAVAILABLE");
      await knownDevices(host, "0000:01:00.0");
      assert.equal(capability(), "AVAILABLE");
      await knownDevices(host, EDU);
      assert.equal(capability(), "AVAILABLE");
      await host.close();
      machine.remove();
    });
  });
}

describe("[pure] the kernel's rows of a reset set", () => {
  const at = (text: string) => parseAddress(text) ?? assert.fail(text);
  const otherwise = { addresses: [at("0000:01:00.0")], source: "TOPOLOGY" } as const;

  test("domains beyond 16 bits are those of the device", () => {
    const set = resetSetFrom(at("10000:e1:00.0"), [{ segment: 0, bus: 0xe1, devfn: 0 }], null);
    assert.deepEqual(set?.addresses, ["10000:e1:00.0"]);
  });

  test("another domain, a function that cannot be, or a set without the device itself is no answer", () => {
    const own = { segment: 0, bus: 1, devfn: 0 };
    assert.equal(resetSetFrom(at("0000:01:00.0"), [own, { ...own, segment: 1 }], otherwise), otherwise);
    assert.equal(resetSetFrom(at("0000:01:00.0"), [own, { ...own, bus: 256 }], otherwise), otherwise);
    assert.equal(resetSetFrom(at("0000:01:00.0"), [{ ...own, devfn: 1 }], otherwise), otherwise);
  });
});
