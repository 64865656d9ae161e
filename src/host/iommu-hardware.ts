// IOMMU_GET_HW_INFO decoded. Of the vendors' registers only the fields are read that their specification fixes and, for SMMUv3, that linux/iommufd.h allows to be read
// (struct iommu_hw_info_arm_smmuv3: "Only the following fields should be used").

import type { IommuHardware } from "../broker/facts.js";
import type { IommuInfo } from "../native.js";

/** enum iommu_hw_info_type. */
const KINDS: readonly IommuHardware["kind"][] = ["UNSPECIFIED", "INTEL_VTD", "ARM_SMMUV3", "TEGRA241_CMDQV", "AMD"];

/** enum iommufd_hw_capabilities; the last since Linux 7.x. */
const Capability = { dirtyTracking: 1n, pasidExecute: 2n, pasidPrivileged: 4n, atsNotSupported: 8n } as const;

type Decoded = Pick<IommuHardware, "inputAddressBits" | "iommuPasidBits" | "ats" | "rangeInvalidation">;

const NOTHING: Decoded = { inputAddressBits: null, iommuPasidBits: null, ats: null, rangeInvalidation: null };

/** Bits low to low + width - 1. */
function field(register: bigint, low: number, width: number): number {
  return Number((register >> BigInt(low)) & ((1n << BigInt(width)) - 1n));
}

/** struct iommu_hw_info_vtd: flags, reserved, CAP (VT-d § 11.4.2), ECAP (§ 11.4.3). */
function decodeVtd(data: DataView): Decoded {
  if (data.byteLength < 24) return NOTHING;
  const cap = data.getBigUint64(8, true);
  const ecap = data.getBigUint64(16, true);
  return {
    ...NOTHING,
    inputAddressBits: field(cap, 16, 6) + 1,
    iommuPasidBits: field(ecap, 40, 1) === 1 ? field(ecap, 35, 5) + 1 : 0,
    ats: field(ecap, 2, 1) === 1,
  };
}

/** struct iommu_hw_info_arm_smmuv3: flags, reserved, IDR0-5 (Arm IHI 0070 § 6.3.1-6.3.6). */
function decodeSmmuv3(data: DataView): Decoded {
  if (data.byteLength < 32) return NOTHING;
  const idr = (index: number): bigint => BigInt(data.getUint32(8 + 4 * index, true));
  const vax = field(idr(5), 10, 2);
  return {
    ...NOTHING,
    inputAddressBits: vax === 0 ? 48 : vax === 1 ? 52 : null,
    iommuPasidBits: field(idr(1), 6, 5),
    rangeInvalidation: field(idr(3), 10, 1) === 1,
  };
}

/** struct iommu_hw_info_amd: EFR (AMD 48882, MMIO offset 0030h). */
function decodeAmd(data: DataView): Decoded {
  if (data.byteLength < 8) return NOTHING;
  const efr = data.getBigUint64(0, true);
  // HATS: four, five or six levels of 9 bits over a page.
  const levels = field(efr, 10, 2);
  return { ...NOTHING, inputAddressBits: [48, 57, 64][levels] ?? null, iommuPasidBits: field(efr, 32, 5) + 1 };
}

function decode(kind: IommuHardware["kind"], data: DataView): Decoded {
  if (kind === "INTEL_VTD") return decodeVtd(data);
  if (kind === "ARM_SMMUV3") return decodeSmmuv3(data);
  return kind === "AMD" ? decodeAmd(data) : NOTHING;
}

export function iommuHardware(info: IommuInfo): IommuHardware {
  const kind = KINDS[info.kind] ?? "UNSPECIFIED";
  const decoded = decode(kind, new DataView(info.data.buffer, info.data.byteOffset, info.data.byteLength));
  const has = (capability: bigint): boolean => (info.capabilities & capability) !== 0n;
  const pasid = info.maxPasidLog2 > 0;
  return {
    kind,
    rawKind: info.kind,
    dirtyTracking: has(Capability.dirtyTracking),
    pasidExecute: pasid && has(Capability.pasidExecute),
    pasidPrivileged: pasid && has(Capability.pasidPrivileged),
    pasidBits: pasid ? info.maxPasidLog2 : null,
    ...decoded,
    ats: has(Capability.atsNotSupported) ? false : decoded.ats,
    vendorData: info.data,
  };
}
