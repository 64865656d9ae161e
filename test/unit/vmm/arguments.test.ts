// The rules of src/vmm: what is refused, what is left out, how sizes and distances are made.

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { NVGRACE } from "../../../src/broker/nvgrace.js";
import type { KnownDevice } from "../../../src/broker/ports.js";
import type { Vmm, VmmArguments, VmmHost, VmmOptions } from "../../../src/broker/vmm.js";
import { initiatorsOf } from "../../../src/host/numa.js";
import { vmmArguments } from "../../../src/vmm/arguments.js";
import { isPowerOfTwo, sizeWord, window64 } from "../../../src/vmm/bars.js";
import { deviceId, initiatorId, rootPortId } from "../../../src/vmm/ids.js";
import { at, bar, device, EDU, GRACE_HOST, gh200, graceNodes, IGB_PAIR, options, PC_HOST } from "./devices.js";

const VMMS: readonly Vmm[] = ["QEMU", "CLOUD_HYPERVISOR", "LIBVIRT", "KUBEVIRT", "OPENVMM"];
const GIB = 1n << 30n;
const WIDE = { is64bit: true, prefetchable: true } as const;

function made(vmm: Vmm, devices: readonly KnownDevice[], host: VmmHost = PC_HOST, change: Partial<VmmOptions> = {}): VmmArguments {
  const outcome = vmmArguments(options(vmm, change), devices, host);
  return outcome.value ?? assert.fail(outcome.refusal?.message);
}

function lines(all: VmmArguments): readonly string[] {
  return all.fragments.flatMap((fragment) => fragment.lines);
}

test("the legacy back end is refused for every VMM, with its reason [pure]", () => {
  for (const vmm of VMMS)
    assert.equal(vmmArguments(options(vmm), [EDU], { ...PC_HOST, backend: "LEGACY" }).refusal?.reason, "VMM_NEEDS_IOMMUFD", vmm);
});

test("a BAR whose size is no power of two is refused, a region that is no BAR is not asked [pure]", () => {
  const odd = device("0000:00:10.0", [bar(0, 4096n), bar(4, 3n * GIB, WIDE)]);
  const refused = vmmArguments(options("QEMU"), [EDU, odd], PC_HOST).refusal;
  assert.deepEqual([refused?.reason, refused?.metadata], ["BAR_NOT_POWER_OF_TWO", { address: "0000:00:10.0", region: "4" }]);
  const other = device("0000:00:10.0", [bar(9, 24n * GIB, { kind: "DEVICE_SPECIFIC", bar: null })]);
  assert.notEqual(vmmArguments(options("QEMU"), [other], PC_HOST).value, null);
});

test("ids are of letters, digits and dashes, start with a letter, and differ for different addresses [pure]", () => {
  const hex = (digits: number): fc.Arbitrary<string> => fc.stringMatching(new RegExp(`^[0-9a-f]{${digits}}$`));
  const address = fc
    .tuple(hex(4), hex(2), fc.integer({ min: 0, max: 31 }), fc.integer({ min: 0, max: 7 }))
    .map(([domain, bus, slot, fn]) => at(`${domain}:${bus}:${slot.toString(16).padStart(2, "0")}.${fn}`));
  fc.assert(
    fc.property(address, address, (a, b) => {
      for (const id of [deviceId(a), rootPortId(a), initiatorId(a, 7)]) assert.match(id, /^[a-z][a-z0-9-]*$/);
      assert.equal(deviceId(a) === deviceId(b), a === b);
    }),
  );
});

test("the window holds every device's BARs wherever alignment puts them, and is a power of two [pure]", () => {
  const size = fc.integer({ min: 12, max: 40 }).map((bits) => 1n << BigInt(bits));
  const many = fc.array(fc.array(size, { minLength: 1, maxLength: 6 }), { minLength: 1, maxLength: 16 });
  fc.assert(
    fc.property(many, (sizes) => {
      const devices = sizes.map((bars, n) =>
        device(
          `0000:01:${n.toString(16).padStart(2, "0")}.0`,
          bars.map((each, i) => bar(i, each, WIDE)),
        ),
      );
      const window = window64(devices);
      assert.ok(isPowerOfTwo(window));
      // As firmware does it: ports with the largest alignment first, in each the largest BAR first.
      const largest = (bars: readonly bigint[]): bigint => [...bars].sort((a, b) => (a < b ? 1 : -1))[0] ?? 1n;
      let end = 0n;
      for (const bars of [...sizes].sort((a, b) => (largest(b) > largest(a) ? 1 : -1))) {
        const align = largest(bars);
        end = ((end + align - 1n) / align) * align + bars.reduce((sum, each) => sum + each, 0n);
      }
      assert.ok(window >= end, `${window} < ${end}`);
    }),
  );
});

test("padded sizes count, not what is behind them; 32-bit BARs do not [pure]", () => {
  assert.equal(window64([gh200()]), 256n * GIB);
  assert.equal(window64([device("0000:00:10.0", [bar(0, GIB)])]), 1n);
});

test("a window is asked for only where the machine's own is too small, in the machine's own way [pure]", () => {
  const big = device("0000:00:10.0", [bar(0, 64n * GIB, WIDE)]);
  assert.ok(lines(made("QEMU", [big])).includes("q35-pcihost.pci-hole64-size=64G"));
  assert.ok(!lines(made("QEMU", [device("0000:00:10.0", [bar(0, 32n * GIB, WIDE)])])).some((line) => line.includes("hole64")));
  const virt = made("QEMU", [big], PC_HOST, { machine: "VIRT" });
  assert.ok(!lines(virt).some((line) => line.includes("highmem-mmio-size")));
  assert.equal(virt.leastVersion, "9.0");
  const huge = made("QEMU", [device("0000:00:10.0", [bar(0, 1024n * GIB, WIDE)])], PC_HOST, { machine: "VIRT" });
  assert.ok(lines(huge).includes("highmem-mmio-size=1T"));
  assert.equal(huge.leastVersion, "10.0");
  assert.ok(lines(made("LIBVIRT", [big])).some((line) => line.includes(`<pcihole64 unit='KiB'>${64n << 20n}</pcihole64>`)));
});

test("sizes are written in the largest unit that is exact [pure]", () => {
  assert.deepEqual([1n, 1023n, 1024n, 1536n, 3n << 20n, 512n * GIB, 1n << 40n].map(sizeWord), [
    "1",
    "1023",
    "1K",
    "1536",
    "3M",
    "512G",
    "1T",
  ]);
});

test("two GPUs of a host of two: each has its own nodes, guest nodes go on behind the guest's own [pure]", () => {
  const host: VmmHost = { ...GRACE_HOST, numaNodes: graceNodes(2, 16) };
  const addresses = [at("0009:01:00.0"), at("0019:01:00.0")];
  const own = initiatorsOf(host.numaNodes, addresses);
  const devices = addresses.map((address) => gh200(address, own.get(address) ?? null));
  const all = made("QEMU", devices, host, {
    guestNodes: [
      { guest: 3, host: 0 },
      { guest: 5, host: 1 },
    ],
  });
  assert.deepEqual(
    all.devices.map(({ guestNodes }) => guestNodes),
    [
      [6, 7, 8, 9, 10, 11, 12, 13],
      [14, 15, 16, 17, 18, 19, 20, 21],
    ],
  );
  assert.ok(lines(all).includes("acpi-generic-initiator,id=gi-0019-01-00-0-7,pci-dev=vfio-0019-01-00-0,node=21"));
  assert.ok(lines(all).includes("dist,src=3,dst=5,val=40"));
  // 18 nodes, each pair once.
  assert.equal(lines(all).filter((line) => line.startsWith("dist,")).length, (18 * 17) / 2);
});

test("distances that differ by direction are written both ways [pure]", () => {
  const nodes = graceNodes(1, 8).map((node) =>
    node.id === 0 ? { ...node, distances: node.distances.map((entry) => (entry.node === 3 ? { ...entry, distance: 99 } : entry)) } : node,
  );
  const all = lines(made("QEMU", [gh200()], { ...GRACE_HOST, numaNodes: nodes }));
  assert.equal(all.filter((line) => line.startsWith("dist,")).length, 9 * 8);
  assert.ok(all.includes("dist,src=0,dst=3,val=99") && all.includes("dist,src=3,dst=0,val=80"));
});

test("no two different nodes are 10 apart in a guest, although they are on the host [pure]", () => {
  const all = lines(made("CLOUD_HYPERVISOR", [gh200()], GRACE_HOST));
  assert.ok(all.some((line) => line.includes("distances=[0@80,2@11,")));
  assert.ok(!all.some((line) => line.includes("@10,")));
});

test("a distance that the kernel does not show leaves all of them out, and says so [pure]", () => {
  const nodes = graceNodes(1, 8).map((node) => (node.id === 5 ? { ...node, distances: [] } : node));
  for (const vmm of ["QEMU", "CLOUD_HYPERVISOR", "LIBVIRT"] as const) {
    const all = made(vmm, [gh200()], { ...GRACE_HOST, numaNodes: nodes });
    assert.ok(!lines(all).some((line) => /dist|sibling/.test(line)), vmm);
    assert.ok(
      all.notes.some(({ kind, text }) => kind === "LEFT_OUT" && text.includes("no distance from node 5 to node 0")),
      vmm,
    );
  }
});

test("a GPU without known nodes gets none, and a device without a node no distances [pure]", () => {
  const bare = device("0009:01:00.0", [], { driver: NVGRACE });
  assert.deepEqual(made("QEMU", [bare], GRACE_HOST).devices, [{ address: "0009:01:00.0", id: "vfio-0009-01-00-0", guestNodes: [] }]);
  const grace = gh200();
  const nowhere = { ...grace, facts: { ...grace.facts, numaNode: null } };
  const all = made("QEMU", [nowhere], GRACE_HOST);
  assert.equal(all.devices[0]?.guestNodes[0], 1);
  assert.ok(!lines(all).some((line) => line.startsWith("dist,")));
});

test("more nodes than a guest can have are refused [pure]", () => {
  const guestNodes = [{ guest: 120, host: 0 }];
  assert.equal(vmmArguments(options("QEMU", { guestNodes }), [gh200()], GRACE_HOST).refusal?.reason, "INVALID_FIELD");
  assert.notEqual(vmmArguments(options("QEMU", { guestNodes: [{ guest: 119, host: 0 }] }), [gh200()], GRACE_HOST).value, null);
});

test("BARs that cannot be exported as DMA buffers switch Cloud Hypervisor's mapping of them off [pure]", () => {
  const exporting = device("0000:02:00.0", [], {}, { dmaBufExport: { supported: true, regions: [] } });
  assert.ok(lines(made("CLOUD_HYPERVISOR", [exporting])).includes("iommufd_fd=@iommufd"));
  assert.ok(lines(made("CLOUD_HYPERVISOR", [exporting, EDU])).includes("iommufd_fd=@iommufd,vfio_p2p_dma=off"));
});

test("a resource name that is not known leaves out what needs it [pure]", () => {
  const all = made("KUBEVIRT", IGB_PAIR);
  assert.ok(!lines(all).some((line) => line.includes("deviceName")));
  assert.ok(all.notes.some(({ kind, text }) => kind === "LEFT_OUT" && text.includes("resource name")));
  assert.equal(
    lines(made("KUBEVIRT", IGB_PAIR, PC_HOST, { resourceName: "example.com/vf" })).filter((line) => line.includes("10CA")).length,
    1,
  );
});

test("what has to be locked is the guest's memory, a tenth more, and the memory of the BARs [pure]", () => {
  assert.equal(made("QEMU", [gh200()]).memlock, null);
  assert.equal(
    made("QEMU", [gh200()], GRACE_HOST, { guestMemory: 10n * GIB }).memlock?.bytes,
    11n * GIB + (95n * GIB + GIB + (16n << 20n)),
  );
});
