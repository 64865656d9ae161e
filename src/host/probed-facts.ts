// What an open device tells besides its regions: interrupts, MSI-X, reset set, features, translation. A driver that does not answer one of these questions loses that
// fact, not the device; only a device that has gone, or no descriptor left, ends the probe.

import { type Address, type DeviceFacts, type DeviceProbe, parseAddress } from "../broker/device.js";
import type { Interrupt, ResetSet } from "../broker/facts.js";
import { granted, type Outcome, type Refusal } from "../broker/refusal.js";
import type { BlockingQueue, ResetFunction, SysResult, VfioIrqInfo, VfioRegionInfo } from "../native.js";
import { type ReadWord, readMsix, readTranslation } from "./config-space.js";
import { failedCall } from "./failed-call.js";
import { iommuHardware } from "./iommu-hardware.js";
import { RegionFlag, RegionIndex } from "./region.js";

export interface OpenDevice {
  readonly queue: BlockingQueue;
  readonly device: number;
  readonly facts: DeviceFacts;
  /** Its config file in sysfs. */
  readonly configFile: string;
  /** What it was bound to; null on back ends that bind nothing. */
  readonly binding: { readonly iommufd: number; readonly device: number } | null;
}

type Told = Omit<DeviceProbe, "resetSupported" | "regions" | "notReady" | "readiness" | "dmaBufExport">;

/** linux/vfio.h: VFIO_PCI_*_IRQ_INDEX in order, and VFIO_IRQ_INFO_*. */
const INTERRUPT_KINDS: readonly Interrupt["kind"][] = ["INTX", "MSI", "MSIX", "ERROR", "REQUEST"];
const IrqFlag = { eventfd: 1, maskable: 2, automasked: 4, noresize: 8 } as const;
/** vfio-pci has five. */
const MOST_INTERRUPTS = 32;

/** linux/vfio.h: VFIO_DEVICE_FEATURE_* and VFIO_MIGRATION_*. */
const Feature = { lowPowerEntry: 3, lowPowerEntryWithWakeup: 4, lowPowerExit: 5, dmaLoggingStart: 6 } as const;
const MigrationFlag = { stopCopy: 1n, peerToPeer: 2n, preCopy: 4n } as const;

/** One device and what became of the questions to it. */
interface Asked extends OpenDevice {
  /** Set by an answer that concerns the whole device. */
  ended: Refusal | null;
}

/** Reads all of it. numIrqs: as VFIO_DEVICE_GET_INFO said. */
export async function readProbedFacts(open: OpenDevice, numIrqs: number, infos: readonly VfioRegionInfo[]): Promise<Outcome<Told>> {
  const asked: Asked = { ...open, ended: null };
  const told: Told = {
    interrupts: await readInterrupts(asked, numIrqs),
    msix: await readMsixOf(asked, infos),
    resetSet: await readResetSet(asked),
    migration: await readMigration(asked),
    lowPower: {
      entry: await has(asked, Feature.lowPowerEntry),
      entryWithWakeup: await has(asked, Feature.lowPowerEntryWithWakeup),
      exit: await has(asked, Feature.lowPowerExit),
    },
    addressTranslation: await readTranslationOf(asked),
    iommuHardware: await readIommu(asked),
  };
  return asked.ended === null ? granted(told) : { value: null, refusal: asked.ended };
}

/** The value, or null when there is none. */
function answerOf<T>(asked: Asked, answer: SysResult<T>): T | null {
  if (answer.error === null) return answer.value;
  const refusal = failedCall(answer.error, asked.facts.address);
  if (refusal.reason === "DEVICE_REMOVED" || refusal.reason === "DESCRIPTOR_LIMIT") asked.ended ??= refusal;
  return null;
}

async function readInterrupts(asked: Asked, numIrqs: number): Promise<readonly Interrupt[]> {
  const interrupts: Interrupt[] = [];
  for (let index = 0; index < Math.min(numIrqs, MOST_INTERRUPTS); index++) {
    // EINVAL: the error interrupt of what is not PCI Express (vfio_pci_core.c vfio_pci_ioctl_get_irq_info).
    const info = answerOf(asked, await asked.queue.irqInfo(asked.device, index, asked.facts.address));
    if (info !== null && info.count > 0) interrupts.push(toInterrupt(info));
  }
  return interrupts;
}

function toInterrupt({ index, flags, count }: VfioIrqInfo): Interrupt {
  return {
    index,
    kind: INTERRUPT_KINDS[index] ?? "UNSPECIFIED",
    count,
    eventfd: (flags & IrqFlag.eventfd) !== 0,
    maskable: (flags & IrqFlag.maskable) !== 0,
    automasked: (flags & IrqFlag.automasked) !== 0,
    noresize: (flags & IrqFlag.noresize) !== 0,
  };
}

/** From the config space that the driver shows, four bytes a read: nvgrace emulates only the first register of a wider one. */
async function readMsixOf(asked: Asked, infos: readonly VfioRegionInfo[]): Promise<Told["msix"]> {
  const config = infos.find((info) => info.index === RegionIndex.config && info.size > 0n && (info.flags & RegionFlag.read) !== 0);
  if (config === undefined) return null;
  return readMsix(wordsOf(asked, asked.device, config.offset, `${asked.facts.address} config`));
}

/** Four bytes at a time of a file that holds config space from base on. */
function wordsOf(asked: Asked, file: number, base: bigint, subject: string): ReadWord {
  return async (offset) => {
    const bytes = answerOf(asked, await asked.queue.pread(file, base + BigInt(offset), 4, subject));
    return bytes === null || bytes.length < 4 ? null : new DataView(bytes.buffer, bytes.byteOffset, 4).getUint32(0, true);
  };
}

/** The kernel's own answer; by topology when it gives none. */
async function readResetSet(asked: Asked): Promise<ResetSet | null> {
  const { queue, device, facts } = asked;
  const answer = await queue.hotResetInfo(device, facts.address);
  // Neither slot nor bus can be reset; not that the device has gone.
  if (answer.error?.code === "ENODEV") return null;
  const functions = answerOf(asked, answer);
  return functions === null ? facts.resetSet : resetSetFrom(facts.address, functions, facts.resetSet);
}

/** The kernel's rows carry 16 bits of the domain: those of a larger one (VMD) are in the device's own, since no bus spans two. */
export function resetSetFrom(address: Address, functions: readonly ResetFunction[], otherwise: ResetSet | null): ResetSet | null {
  const domain = address.slice(0, address.indexOf(":"));
  const low = Number.parseInt(domain, 16) & 0xffff;
  const hex = (value: number): string => value.toString(16).padStart(2, "0");
  const addresses: Address[] = [];
  for (const { segment, bus, devfn } of functions) {
    const found = segment === low ? parseAddress(`${domain}:${hex(bus)}:${hex(devfn >> 3)}.${devfn & 7}`) : null;
    if (found === null) return otherwise;
    addresses.push(found);
  }
  return addresses.includes(address) ? { addresses: addresses.sort(), source: "KERNEL" } : otherwise;
}

async function has(asked: Asked, feature: number): Promise<boolean> {
  const { queue, device, facts } = asked;
  return answerOf(asked, await queue.featureProbe(device, feature, "set", facts.address)) ?? false;
}

async function readMigration(asked: Asked): Promise<Told["migration"]> {
  const flags = answerOf(asked, await asked.queue.migrationFlags(asked.device, asked.facts.address)) ?? 0n;
  if (flags === 0n) return null;
  return {
    stopCopy: (flags & MigrationFlag.stopCopy) !== 0n,
    peerToPeer: (flags & MigrationFlag.peerToPeer) !== 0n,
    preCopy: (flags & MigrationFlag.preCopy) !== 0n,
    dmaLogging: await has(asked, Feature.dmaLoggingStart),
  };
}

/**
 * From sysfs: VFIO hides PASID (vfio_pci_config.c pci_ext_cap_length). On the device's queue, because a read of config space waits while the device is being reset
 * (drivers/pci/access.c pci_wait_cfg).
 */
async function readTranslationOf(asked: Asked): Promise<Told["addressTranslation"]> {
  const { queue, configFile } = asked;
  const file = answerOf(asked, await queue.open(configFile, "read"));
  if (file === null) return null;
  const translation = await readTranslation(wordsOf(asked, file, 0n, configFile));
  await queue.close(file);
  return translation;
}

async function readIommu(asked: Asked): Promise<Told["iommuHardware"]> {
  if (asked.binding === null) return null;
  const { iommufd, device } = asked.binding;
  const info = answerOf(asked, await asked.queue.iommuInfo(iommufd, device, asked.facts.address));
  return info === null ? null : iommuHardware(info);
}
