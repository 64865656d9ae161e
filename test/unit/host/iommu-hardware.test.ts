// IOMMU_GET_HW_INFO decoded. The VT-d registers are those of QEMU's IOMMU as the lab's kernel gave them; the others are put together from the specifications.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { iommuHardware } from "../../../src/host/iommu-hardware.js";

function registers(length: number, values: Readonly<Record<number, bigint>>): Uint8Array {
  const bytes = Buffer.alloc(length);
  for (const [at, value] of Object.entries(values)) bytes.writeBigUInt64LE(value, Number(at));
  return bytes;
}

function info(kind: number, data: Uint8Array, capabilities = 0n, maxPasidLog2 = 0) {
  return { kind, capabilities, maxPasidLog2, data };
}

describe("[pure] IOMMU hardware", () => {
  test("VT-d: 48 bits, no PASID, no ATS", () => {
    const data = registers(24, { 0: 1n, 8: 0xd2_008c_222f_0606n, 16: 0xf0_0f4an });
    const hardware = iommuHardware(info(1, data));
    assert.deepEqual(
      [hardware.kind, hardware.inputAddressBits, hardware.iommuPasidBits, hardware.ats, hardware.rangeInvalidation],
      ["INTEL_VTD", 48, 0, false, null],
    );
    assert.deepEqual(Buffer.from(hardware.vendorData), Buffer.from(data));
  });

  test("VT-d: 57 bits, PASID of 20, ATS; which the kernel's own word overrules", () => {
    const data = registers(24, { 8: 56n << 16n, 16: (1n << 40n) | (19n << 35n) | 4n });
    const hardware = iommuHardware(info(1, data, 0b0111n, 20));
    assert.deepEqual([hardware.inputAddressBits, hardware.iommuPasidBits, hardware.ats], [57, 20, true]);
    assert.deepEqual([hardware.dirtyTracking, hardware.pasidExecute, hardware.pasidPrivileged, hardware.pasidBits], [true, true, true, 20]);
    assert.equal(iommuHardware(info(1, data, 0b1000n)).ats, false);
  });

  test("PASID permissions count only with a PASID", () => {
    const hardware = iommuHardware(info(0, new Uint8Array(0), 0b0110n));
    assert.deepEqual([hardware.pasidExecute, hardware.pasidPrivileged, hardware.pasidBits], [false, false, null]);
  });

  test("SMMUv3: only the fields that the kernel's header allows", () => {
    // idr[1] and idr[3] are the upper halves of the words at 8 and 16; idr[5] of that at 24.
    const data = registers(40, { 8: (20n << 6n) << 32n, 16: (1n << 10n) << 32n, 24: ((1n << 10n) | 5n) << 32n });
    const hardware = iommuHardware(info(2, data));
    assert.deepEqual(
      [hardware.kind, hardware.inputAddressBits, hardware.iommuPasidBits, hardware.rangeInvalidation, hardware.ats],
      ["ARM_SMMUV3", 52, 20, true, null],
    );
    assert.equal(iommuHardware(info(2, registers(40, {}))).inputAddressBits, 48);
    assert.equal(iommuHardware(info(2, registers(40, { 24: (2n << 10n) << 32n }))).inputAddressBits, null);
  });

  test("AMD: levels of the host's table, PASmax", () => {
    for (const [levels, bits] of [
      [0n, 48],
      [1n, 57],
      [2n, 64],
      [3n, null],
    ] as const) {
      const hardware = iommuHardware(info(4, registers(16, { 0: (levels << 10n) | (15n << 32n) })));
      assert.deepEqual([hardware.kind, hardware.inputAddressBits, hardware.iommuPasidBits], ["AMD", bits, 16]);
    }
  });

  test("a structure that is too short is not decoded, a kind that is unknown is told by its number", () => {
    for (const kind of [1, 2, 4]) assert.equal(iommuHardware(info(kind, new Uint8Array(4))).inputAddressBits, null);
    const unknown = iommuHardware(info(9, new Uint8Array(64)));
    assert.deepEqual([unknown.kind, unknown.rawKind, unknown.inputAddressBits], ["UNSPECIFIED", 9, null]);
  });
});
