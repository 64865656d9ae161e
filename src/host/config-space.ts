// Capabilities in PCI config space (PCI Local Bus 3.0 § 6.7 and 6.8.2, PCI Express Base § 7.9): pure readers of bytes that a device or its driver gave, and so not trusted. A
// list that loops ends after as many steps as there is room for; a capability that makes no sense is none.

import type { AddressTranslation, Msix, MsixPart } from "../broker/facts.js";

/** Reads 4 aligned bytes; null ends the walk. */
export type ReadWord = (offset: number) => Promise<number | null>;

const COMMAND_STATUS = 0x04;
/** Bit 4 of the status register, which is the upper half. */
const HAS_LIST = 0x0010_0000;
const LIST = 0x34;
/** Where capabilities may lie: behind the header, up to 256. */
const FIRST = 0x40;
const MOST = (0x100 - FIRST) / 4;

const MSIX = 0x11;

/** Offset of a capability, or null. */
async function find(read: ReadWord, id: number): Promise<number | null> {
  const status = await read(COMMAND_STATUS);
  if (status === null || (status & HAS_LIST) === 0) return null;
  let at = ((await read(LIST)) ?? 0) & 0xfc;
  for (let step = 0; step < MOST && at >= FIRST; step++) {
    const header = await read(at);
    if (header === null) return null;
    if ((header & 0xff) === id) return at;
    at = (header >>> 8) & 0xfc;
  }
  return null;
}

/** Low three bits: BAR; the rest: offset. */
function part(word: number, size: number): MsixPart {
  return { bar: word & 7, offset: BigInt((word & ~7) >>> 0), size: BigInt(size) };
}

/** Where table and pending bits of MSI-X lie; null when the device has no MSI-X, or one that names no BAR. */
export async function readMsix(read: ReadWord): Promise<Msix | null> {
  const at = await find(read, MSIX);
  if (at === null || at > 0xf4) return null;
  const [control, table, pending] = [await read(at), await read(at + 4), await read(at + 8)];
  if (control === null || table === null || pending === null) return null;
  const vectors = ((control >>> 16) & 0x7ff) + 1;
  const msix = { vectors, table: part(table, vectors * 16), pending: part(pending, Math.ceil(vectors / 64) * 8) };
  return msix.table.bar > 5 || msix.pending.bar > 5 ? null : msix;
}

const CLASS_AND_REVISION = 0x08;
const EXTENDED = 0x100;
/** Room for this many headers of 8 bytes: the smallest capability. */
const MOST_EXTENDED = (0x1000 - EXTENDED) / 8;
const ExtendedId = { ats: 0x0f, pri: 0x13, pasid: 0x1b } as const;

/**
 * What the device offers to its IOMMU; null: not readable. To who lacks CAP_SYS_ADMIN the kernel shows the first 64 bytes only (drivers/pci/pci-sysfs.c pci_read_config), and of
 * a conventional device there are 256.
 */
export async function readTranslation(read: ReadWord): Promise<AddressTranslation | null> {
  // A device that does not answer reads as ones. Not asked of its vendor id: a virtual function's is always ones (SR-IOV § 9.3.4.1.1).
  const header = await read(CLASS_AND_REVISION);
  if (header === null || header === 0xffff_ffff || (await read(FIRST)) === null) return null;
  const found = new Map<number, number>();
  let at: number = EXTENDED;
  for (let step = 0; step < MOST_EXTENDED && at >= EXTENDED; step++) {
    const capability = await read(at);
    if (capability === null || capability === 0 || capability === 0xffff_ffff) break;
    if (!found.has(capability & 0xffff)) found.set(capability & 0xffff, at);
    at = (capability >>> 20) & 0xffc;
  }
  const pasid = found.get(ExtendedId.pasid);
  // PASID capability register: bits 12:8 are the width.
  const width = pasid === undefined ? 0 : (((await read(pasid + 4)) ?? 0) >>> 8) & 0x1f;
  return {
    ats: found.has(ExtendedId.ats),
    pri: found.has(ExtendedId.pri),
    pasid: pasid !== undefined,
    pasidBits: width >= 1 && width <= 20 ? width : null,
  };
}
