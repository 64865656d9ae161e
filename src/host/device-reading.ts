// Reads all that a granted device descriptor tells: the middle of the probe cycle, the same for both kernel interfaces. Regions and readiness are here,
// probed-facts.ts has the rest.

import type { DeviceFacts, DeviceProbe } from "../broker/device.js";
import { granted, type Outcome, refuse } from "../broker/refusal.js";
import type { BlockingQueue, VfioRegionInfo } from "../native.js";
import { failedCall } from "./failed-call.js";
import { type OpenDevice, readProbedFacts } from "./probed-facts.js";
import { readReadiness } from "./readiness.js";
import { assembleRegions, BAR_REGISTERS, RegionFlag, RegionIndex } from "./region.js";

/** linux/vfio.h: VFIO_DEVICE_FLAGS_*. */
const DeviceFlag = { reset: 1, pci: 2 } as const;

/** Regions of vfio-pci are 9 and what a variant driver adds (a handful); an answer beyond this is no answer. */
const MOST_REGIONS = 128;

/** What is read here; whether regions can be exported is asked by who knows what the kernel can (dma-buf.ts). */
export type DeviceReading = Omit<DeviceProbe, "dmaBufExport">;

/** Reads everything through a device descriptor that is bound, or was got from its group. */
export async function readDevice(open: OpenDevice): Promise<Outcome<DeviceReading>> {
  const { queue, device, facts } = open;
  const { address } = facts;
  const info = await queue.deviceInfo(device, address);
  if (info.error !== null) return { value: null, refusal: failedCall(info.error, address) };
  if ((info.value.flags & DeviceFlag.pci) === 0) {
    return refuse("HOST_OPERATION_FAILED", `${address}: its driver does not present it as a PCI device (flags ${info.value.flags})`, {
      address,
    });
  }
  if (info.value.numRegions > MOST_REGIONS) {
    return refuse("HOST_OPERATION_FAILED", `${address}: its driver reports ${info.value.numRegions} regions`, { address });
  }

  const infos: VfioRegionInfo[] = [];
  for (let index = 0; index < info.value.numRegions; index++) {
    const region = await queue.regionInfo(device, index, `${address} region ${index}`);
    if (region.error !== null) {
      // drivers/vfio/pci/vfio_pci_core.c: the VGA region of a device that has none is EINVAL; every other missing one has size 0.
      if (index === RegionIndex.vga && region.error.code === "EINVAL") continue;
      return { value: null, refusal: failedCall(region.error, address) };
    }
    if (region.value.index !== index) {
      return refuse("HOST_OPERATION_FAILED", `${address}: asked for region ${index}, the driver told of ${region.value.index}`, {
        address,
      });
    }
    infos.push(region.value);
  }

  const registers = await readBarRegisters(queue, device, facts, infos);
  if (registers.refusal !== null) return registers;
  const assembled = assembleRegions(infos, registers.value, facts.driver);
  if (assembled.fault !== null) {
    return refuse("HOST_OPERATION_FAILED", `${address}: driver ${facts.driver} reports a region that cannot be: ${assembled.fault}`, {
      address,
      driver: facts.driver,
    });
  }
  const readiness = await readReadiness(queue, device, facts, infos);
  if (readiness.refusal !== null) return readiness;
  const told = await readProbedFacts(open, info.value.numIrqs, infos);
  if (told.refusal !== null) return told;
  return granted({
    ...told.value,
    ...readiness.value,
    resetSupported: (info.value.flags & DeviceFlag.reset) !== 0,
    regions: assembled.regions,
  });
}

/**
 * The BAR registers as the driver shows them, which need not be those of the device (nvgrace emulates two 64-bit BARs). One read each: a read over several of them
 * gets only the first emulated one from nvgrace (measured on 7.3), the rest from the device.
 */
async function readBarRegisters(
  queue: BlockingQueue,
  device: number,
  facts: DeviceFacts,
  infos: readonly VfioRegionInfo[],
): Promise<Outcome<Uint8Array>> {
  const config = infos.find((info) => info.index === RegionIndex.config && info.size > 0n && (info.flags & RegionFlag.read) !== 0);
  if (config === undefined) return granted(new Uint8Array(0));
  const registers = new Uint8Array(BAR_REGISTERS.count * BAR_REGISTERS.width);
  for (let bar = 0; bar < BAR_REGISTERS.count; bar++) {
    const at = BAR_REGISTERS.offset + bar * BAR_REGISTERS.width;
    const register = await queue.pread(device, config.offset + BigInt(at), BAR_REGISTERS.width, `${facts.address} config`);
    if (register.error !== null) return { value: null, refusal: failedCall(register.error, facts.address) };
    registers.set(register.value, bar * BAR_REGISTERS.width);
  }
  return granted(registers);
}
