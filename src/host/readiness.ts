// Whether a device's memory can be used now. nvgrace_gpu_vfio_pci (7.3) checks its link and memory training at the first access after a reset and lets that
// access fail (drivers/vfio/pci/nvgrace-gpu/main.c): better here, on a queue of our own, than as a page fault of 30 s in a client.

import type { DeviceFacts, DeviceProbe } from "../broker/device.js";
import { granted, type Outcome } from "../broker/refusal.js";
import type { BlockingQueue, SysError, VfioRegionInfo } from "../native.js";
import { failedCall, text } from "./failed-call.js";
import { RegionFlag, RegionIndex } from "./region.js";

/** Drivers whose sparse regions are memory that has to be trained first. The rows of broker/memory-type.ts that need the capability are these. */
const TRAINED_MEMORY: ReadonlySet<string> = new Set(["nvgrace_gpu_vfio_pci"]);

/** Config space: the command register and its memory space bit. */
const COMMAND = 0x04n;
const MEMORY_SPACE = 2;

export type Readiness = Pick<DeviceProbe, "notReady" | "readiness">;

function ready(readiness: string): Outcome<Readiness> {
  return granted({ notReady: null, readiness });
}

function notReady(readiness: string): Outcome<Readiness> {
  return granted({ notReady: readiness, readiness });
}

/** Can take as long as the driver polls (30 s; CXL: 256 s). */
export async function readReadiness(
  queue: BlockingQueue,
  device: number,
  facts: DeviceFacts,
  infos: readonly VfioRegionInfo[],
): Promise<Outcome<Readiness>> {
  if (!TRAINED_MEMORY.has(facts.driver)) return ready(`driver ${facts.driver} makes no difference between ready and not`);
  const region = infos.find((info) => info.sparse !== null && info.size > 0n && (info.flags & RegionFlag.read) !== 0);
  // Without its ACPI properties the driver is a plain vfio-pci: no such memory, nothing to wait for.
  if (region === undefined) return ready(`driver ${facts.driver} shows no memory that would have to be trained`);

  const subject = `${facts.address} region ${region.index}`;
  let word = await queue.pread(device, region.offset, 4, subject);
  if (word.error?.code === "EIO") {
    // After a reset the driver looks at the device only while memory decoding is on, and answers EIO before.
    const failed = await enableMemory(queue, device, facts, infos);
    if (failed !== null) return { value: null, refusal: failedCall(failed, facts.address) };
    word = await queue.pread(device, region.offset, 4, subject);
  }
  if (word.error === null) return ready(`the first word of region ${region.index} could be read`);
  if (word.error.code === "ETIME") {
    return notReady(`its memory was not ready when the driver gave up waiting for link and memory training: ${text(word.error)}`);
  }
  if (word.error.code === "ENODEV") return notReady(`its memory cannot be reached: ${text(word.error)}`);
  return { value: null, refusal: failedCall(word.error, facts.address) };
}

/** Sets the memory space bit; the close that ends the probe cycle puts the register back (vfio_pci_core_disable). */
async function enableMemory(
  queue: BlockingQueue,
  device: number,
  facts: DeviceFacts,
  infos: readonly VfioRegionInfo[],
): Promise<SysError | null> {
  const config = infos.find((info) => info.index === RegionIndex.config);
  if (config === undefined) return null;
  const subject = `${facts.address} config`;
  const command = await queue.pread(device, config.offset + COMMAND, 2, subject);
  if (command.error !== null) return command.error;
  const [low = 0, high = 0] = command.value;
  const written = await queue.pwrite(device, config.offset + COMMAND, Uint8Array.of(low | MEMORY_SPACE, high), subject);
  return written.error;
}
