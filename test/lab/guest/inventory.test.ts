// Every device of the lab as the host layer reports it, each value against what the machine was built with.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { type DeviceFacts, type DeviceProbe, type MemoryType, parseAddress } from "../../../src/broker/device.js";
import { ineligibleReasons } from "../../../src/broker/eligibility.js";
import type { Host, KnownDevice } from "../../../src/broker/ports.js";
import { chooseHost } from "../../../src/host/choose.js";
import { ClientSide, must } from "../../contract/client-side.js";
import {
  allDevices,
  edu,
  graceHopper,
  groupSpoiler,
  igb,
  igbVfs,
  isolatedDevices,
  ivshmem,
  type LabDevice,
  nvme,
  sharedGroups,
  southBridge,
  spoiledEdu,
  testdev,
} from "../devices.js";
import { linkName } from "./sysfs.js";
import { world } from "./world.js";

type Shape = readonly [index: number, size: number, backedSize: number, memoryType: MemoryType, prefetchable: boolean, is64bit: boolean];

const KiB = 1024;
const MiB = 1024 * KiB;

const conventionalConfig: Shape = [7, 256, 256, "UNSPECIFIED", false, false];
const expressConfig: Shape = [7, 4 * KiB, 4 * KiB, "UNSPECIFIED", false, false];

function registers(index: number, size: number): Shape {
  return [index, size, size, "DEVICE", false, false];
}

function prefetchable64(index: number, size: number): Shape {
  return [index, size, size, "DEVICE", true, true];
}

const displayRom: Shape = [6, 32 * KiB, 32 * KiB, "UNSPECIFIED", false, false];
const displayMemory: Shape = [0, 16 * MiB, 16 * MiB, "DEVICE", true, false];

const vfRegions = [prefetchable64(0, 16 * KiB), prefetchable64(3, 16 * KiB), expressConfig];

const shapes: readonly (readonly [LabDevice, readonly Shape[]])[] = [
  [edu, [registers(0, 1 * MiB), conventionalConfig]],
  // BAR 1 is an I/O range: readable, and nothing to map.
  [testdev, [registers(0, 4 * KiB), [1, 256, 256, "UNSPECIFIED", false, false], prefetchable64(2, 256 * MiB), conventionalConfig]],
  [ivshmem, [registers(0, 256), prefetchable64(2, 64 * MiB), conventionalConfig]],
  [igbVfs[0], vfRegions],
  [igbVfs[1], vfRegions],
  world === "iommufd"
    ? [
        graceHopper,
        [
          displayMemory,
          [2, 0x8000_0000, 0x5000_0000, "WRITE_COMBINE", true, true],
          [4, 0x4000_0000, 0x2000_0000, "WRITE_BACK", true, true],
          displayRom,
          expressConfig,
        ],
      ]
    : [graceHopper, [displayMemory, registers(2, 4 * KiB), displayRom, expressConfig]],
];

describe("[lab kernel] inventory", () => {
  const faults: string[] = [];
  let host: Host;
  let all: readonly DeviceFacts[];

  before(async () => {
    const observer = { fault: (where: string, error: unknown) => void faults.push(`${where}: ${String(error)}`) };
    const chosen = await chooseHost({ host: "auto", sysRoot: "/sys", devRoot: "/dev", observer });
    assert.equal(chosen.error, null, JSON.stringify(chosen.error));
    host = chosen.host ?? assert.fail();
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
    assert.equal(probe.refusal, null, probe.refusal?.message);
    return probe.value ?? assert.fail();
  }

  test("auto chooses the back end of this kernel", () => {
    assert.equal(host.backend, world === "iommufd" ? "IOMMUFD" : "LEGACY");
  });

  test("an explicit back end that this kernel has not is a start-up error, never something else", async () => {
    const observer = { fault: () => assert.fail() };
    const chosen = await chooseHost({ host: "iommufd", sysRoot: "/sys", devRoot: "/dev", observer });
    if (world === "iommufd") {
      assert.equal(chosen.error, null);
      await chosen.host?.close();
    } else {
      assert.match(`${chosen.error?.what} ${chosen.error?.why} ${chosen.error?.next}`, /\/dev\/iommu does not exist.*CONFIG_IOMMUFD/);
    }
  });

  test("bridges are not devices", () => {
    assert.deepEqual(
      all.filter((facts) => facts.classCode >> 8 === 0x0604),
      [],
    );
    assert.ok(!all.some((facts) => facts.address === parseAddress("0000:00:15.0")));
  });

  for (const device of allDevices) {
    test(`${device.address} (${device.ids}): ids, driver, group, reset methods`, () => {
      const facts = factsOf(device);
      const hex = (value: number): string => value.toString(16).padStart(4, "0");
      assert.equal(`${hex(facts.vendorId)}:${hex(facts.deviceId)}`, device.ids);
      assert.equal(facts.driver, device.driver[world] ?? "");
      assert.equal(facts.vfioBound, device.driver[world]?.includes("vfio") === true);
      assert.deepEqual(facts.resetMethods, device.resetMethods);
      assert.equal(String(facts.iommuGroup?.id), linkName(device.address, "iommu_group"));
      const members = isolatedDevices.includes(device) ? [device] : sharedGroups.find((group) => group.includes(device));
      assert.deepEqual(
        facts.iommuGroup?.members.map((member) => member.address),
        members?.map((member) => member.address),
      );
    });
  }

  test("virtual functions name their physical function, which has its own driver", () => {
    for (const vf of igbVfs) assert.equal(factsOf(vf).physicalFunction, igb.address);
    assert.equal(factsOf(igb).physicalFunction, null);
    assert.equal(factsOf(igb).vfioBound, false);
  });

  test("the south bridge is one group, without drivers and so viable", () => {
    for (const device of southBridge) {
      assert.equal(factsOf(device).iommuGroup?.viable, true);
      assert.equal(factsOf(device).iommuGroup?.members.length, 3);
    }
  });

  test("nvme has its own driver: not leasable, and why", async () => {
    const facts = factsOf(nvme);
    const state = { facts, probe: null, probeRefusal: null, state: "FREE", stateDetail: "" } as const;
    assert.equal(ineligibleReasons(state)[0]?.reason, "NO_VFIO_DRIVER");
    const probe = await host.probe(facts);
    assert.equal(probe.refusal?.reason, "NO_VFIO_DRIVER");
    assert.match(probe.refusal?.message ?? "", /nvme/);
  });

  test("the edu beside an nvme cannot be opened, and the nvme is named; the kernel says the same", async () => {
    const facts = factsOf(spoiledEdu);
    assert.deepEqual([facts.vfioBound, facts.iommuGroup?.viable], [true, false]);
    const told = await host.probe(facts);
    assert.equal(told.refusal?.reason, "GROUP_NOT_VIABLE");
    assert.match(told.refusal?.message ?? "", new RegExp(`${groupSpoiler.address} \\(nvme\\)`));
    // With facts that say it is fine, the kernel's own answer comes through.
    const group = facts.iommuGroup ?? assert.fail();
    const asked = await host.probe({ ...facts, iommuGroup: { ...group, viable: true } });
    assert.equal(asked.refusal?.reason, world === "iommufd" ? "DEVICE_IN_USE" : "GROUP_NOT_VIABLE", asked.refusal?.message);
  });

  for (const [device, expected] of shapes) {
    test(`${device.address} (${device.ids}): regions`, async () => {
      const probe = await probeOf(device);
      const found = probe.regions.map((region) => [
        region.index,
        Number(region.size),
        Number(region.backedSize),
        region.memoryType,
        region.prefetchable,
        region.is64bit,
      ]);
      assert.deepEqual(found, expected);
      assert.equal(probe.notReady, null);
      assert.equal(probe.resetSupported, device.resetMethods.length > 0);
      for (const region of probe.regions) {
        const isMemory = region.kind === "BAR" && region.memoryType !== "UNSPECIFIED";
        assert.equal(region.mappable, isMemory, `region ${region.index}`);
        assert.deepEqual(region.areas, isMemory ? [{ offset: 0n, size: region.backedSize }] : []);
        assert.equal(region.offset, BigInt(region.index) << 40n);
      }
    });
  }

  if (world === "iommufd") {
    describe("the fake Grace Hopper's apertures, through a client's descriptors", () => {
      let known: KnownDevice;
      let client: ClientSide;
      let end: () => Promise<void>;

      before(async () => {
        known = { facts: factsOf(graceHopper), probe: await probeOf(graceHopper) };
        const lease = await host.open({ kind: "DEVICE", addresses: [known.facts.address] }, [known]);
        const opened = lease.value ?? assert.fail(lease.refusal?.message ?? "");
        client = ClientSide.receive(opened);
        await client.bind();
        await opened.closeHandedOff();
        // The driver lets a mapping be touched only while memory decoding is on: bit 1 of the command register.
        const [low = 0, high = 0] = must(await client.read(known, 7, 4n, 2));
        must(await client.write(known, 7, 4n, Uint8Array.of(low | 2, high)));
        end = () => client.drop();
      });

      after(() => end());

      for (const index of [2, 4]) {
        test(`region ${index}: the last backed bytes through the mapping are what pread returns, and behind them is 0xFF`, async () => {
          const region = known.probe.regions.find((candidate) => candidate.index === index) ?? assert.fail();
          const mapping = await client.map(known, index);
          const last = region.backedSize - 8n;
          const word = Uint8Array.of(0xa5, 1, 2, 3, 4, 5, 6, index);
          must(await mapping.write(last, word));
          assert.deepEqual(Buffer.from(must(await client.read(known, index, last, 8))), Buffer.from(word));
          assert.deepEqual(Buffer.from(must(await mapping.read(last, 8))), Buffer.from(word));
          for (const at of [region.backedSize, region.backedSize + 4096n, region.size - 8n]) {
            assert.deepEqual(Buffer.from(must(await client.read(known, index, at, 8))), Buffer.alloc(8, 0xff), `pread at ${at}`);
          }
          // Dropped, and counted as written: the driver's own semantics.
          assert.equal(must(await client.write(known, index, region.backedSize, word)), 8);
          assert.deepEqual(Buffer.from(must(await client.read(known, index, region.backedSize, 8))), Buffer.alloc(8, 0xff));
          await mapping.close();
        });
      }
    });
  }
});
