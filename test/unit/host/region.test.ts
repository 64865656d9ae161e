// Regions from made-up answers of a driver.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { assembleRegions } from "../../../src/host/region.js";
import type { VfioRegionInfo } from "../../../src/native.js";

const ALL = 7;

function info(index: number, size: bigint, rest: Partial<VfioRegionInfo> = {}): VfioRegionInfo {
  return { index, size, flags: ALL, offset: BigInt(index) << 40n, sparse: null, type: null, msixMappable: false, ...rest };
}

function regionsOf(infos: readonly VfioRegionInfo[], registers: Uint8Array = new Uint8Array(24), driver = "vfio-pci") {
  const assembled = assembleRegions(infos, registers, driver);
  assert.equal(assembled.fault, null);
  return assembled.regions;
}

/** The fake Grace Hopper of the lab, as measured. */
const GRACE = [
  info(0, 0x1000000n),
  info(1, 0n),
  info(2, 0x80000000n, { sparse: [{ offset: 0n, size: 0x50000000n }] }),
  info(3, 0n),
  info(4, 0x40000000n, { sparse: [{ offset: 0n, size: 0x20000000n }] }),
  info(7, 0x1000n, { flags: 3 }),
];

function registers(bits: Readonly<Record<number, number>>): Uint8Array {
  const bytes = new Uint8Array(24);
  for (const [bar, low] of Object.entries(bits)) bytes[Number(bar) * 4] = low;
  return bytes;
}

describe("[pure] regions", () => {
  test("sizes are the driver's, and the real one is the end of the sparse areas", () => {
    const regions = regionsOf(GRACE, registers({ 0: 8, 2: 0xc, 4: 0xc }), "nvgrace_gpu_vfio_pci");
    assert.deepEqual(
      regions.map(({ index, size, backedSize, memoryType }) => ({ index, size, backedSize, memoryType })),
      [
        { index: 0, size: 0x1000000n, backedSize: 0x1000000n, memoryType: "DEVICE" },
        { index: 2, size: 0x80000000n, backedSize: 0x50000000n, memoryType: "WRITE_COMBINE" },
        { index: 4, size: 0x40000000n, backedSize: 0x20000000n, memoryType: "WRITE_BACK" },
        { index: 7, size: 0x1000n, backedSize: 0x1000n, memoryType: "UNSPECIFIED" },
      ],
    );
    const [bar0, resmem, , config] = regions;
    assert.equal(bar0?.prefetchable, true);
    assert.equal(bar0?.is64bit, false);
    assert.equal(resmem?.prefetchable, true);
    assert.equal(resmem?.is64bit, true);
    assert.equal(resmem?.offset, 2n << 40n);
    assert.deepEqual([config?.kind, config?.bar, config?.mappable, config?.areas.length], ["CONFIG", null, false, 0]);
  });

  test("nvgrace without its properties is a plain vfio-pci device: no sparse area, no cacheable aperture", () => {
    const [region] = regionsOf([info(4, 0x1000n)], registers({}), "nvgrace_gpu_vfio_pci");
    assert.equal(region?.memoryType, "DEVICE");
  });

  test("an unknown driver's memory type is unspecified, and says where to add it", () => {
    const [region] = regionsOf([info(0, 0x1000n)], registers({}), "new_vfio_pci");
    assert.equal(region?.memoryType, "UNSPECIFIED");
    assert.match(region?.memoryTypeSource ?? "", /new_vfio_pci.*memory-type/);
  });

  test("kinds follow the index; only BARs have a number; a device-specific region keeps its type", () => {
    const regions = regionsOf([
      info(5, 0x1000n),
      info(6, 0x1000n, { flags: 1 }),
      info(8, 0xc0000n, { flags: 3 }),
      info(9, 0x1000n, { type: { type: 0x80008086, subtype: 1 } }),
    ]);
    assert.deepEqual(
      regions.map(({ kind, bar, type, writable }) => ({ kind, bar, type, writable })),
      [
        { kind: "BAR", bar: 5, type: null, writable: true },
        { kind: "ROM", bar: null, type: null, writable: false },
        { kind: "VGA", bar: null, type: null, writable: true },
        { kind: "DEVICE_SPECIFIC", bar: null, type: { type: 0x80008086, subtype: 1 }, writable: true },
      ],
    );
  });

  test("an I/O BAR has neither type bit, whatever its other bits say", () => {
    const [region] = regionsOf([info(0, 0x100n, { flags: 3 })], registers({ 0: 0x0d }));
    assert.deepEqual([region?.prefetchable, region?.is64bit], [false, false]);
  });

  test("empty areas are dropped, the others sorted; without the mmap flag none is left", () => {
    const sparse = [
      { offset: 0x3000n, size: 0x1000n },
      { offset: 0x1000n, size: 0n },
      { offset: 0n, size: 0x1000n },
    ];
    const [mappable] = regionsOf([info(0, 0x10000n, { sparse })]);
    assert.deepEqual(mappable?.areas, [
      { offset: 0n, size: 0x1000n },
      { offset: 0x3000n, size: 0x1000n },
    ]);
    assert.equal(mappable?.backedSize, 0x4000n);
    const [closed] = regionsOf([info(0, 0x10000n, { sparse, flags: 3 })]);
    assert.deepEqual([closed?.areas.length, closed?.mappable, closed?.backedSize], [0, false, 0x4000n]);
  });

  test("a sparse capability without any real area: nothing can be mapped, nothing is known of a tail", () => {
    const [region] = regionsOf([info(0, 0x10000n, { sparse: [{ offset: 0n, size: 0n }] })]);
    assert.deepEqual([region?.mappable, region?.areas.length, region?.backedSize], [false, 0, 0x10000n]);
  });

  const U64_MAX = 0xffffffffffffffffn;
  for (const [name, sparse, fault] of [
    ["ends beyond the region", [{ offset: 0x8000n, size: 0x8001n }], /beyond/],
    ["overflows 64 bits", [{ offset: U64_MAX, size: U64_MAX }], /beyond/],
    [
      "overlaps another",
      [
        { offset: 0n, size: 0x2000n },
        { offset: 0x1000n, size: 0x1000n },
      ],
      /overlaps/,
    ],
  ] as const) {
    test(`an area that ${name} is a fault with words, not a region`, () => {
      const assembled = assembleRegions([info(0, 0x10000n, { sparse })], new Uint8Array(24), "vfio-pci");
      assert.equal(assembled.regions, null);
      assert.match(assembled.fault ?? "", fault);
      assert.match(assembled.fault ?? "", /^region 0: area 0x/);
    });
  }

  test("missing BAR registers leave the bits unset", () => {
    const [region] = regionsOf([info(0, 0x1000n)], new Uint8Array(0));
    assert.deepEqual([region?.prefetchable, region?.is64bit], [false, false]);
  });
});
