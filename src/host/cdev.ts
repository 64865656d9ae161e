// Opening a device's character device. sysfs names it (vfio-dev/vfioN) and its number; the node below /dev is only believed when its number is that one, and
// the device only when sysfs still says the same once the node is open.

import { fstat } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import type { DeviceFacts } from "../broker/device.js";
import { granted, type Outcome, refuse } from "../broker/refusal.js";
import type { OwnedDescriptor } from "../descriptor.js";
import { failedOpen } from "./failed-call.js";
import type { Holding } from "./holding.js";
import type { Machine } from "./machine.js";
import { readAttribute, readVfioDevices } from "./sysfs-device.js";

const fstatOf = promisify(fstat);

/** `major:minor`, as sysfs writes a device number, of an open node (glibc's gnu_dev_major and gnu_dev_minor). */
async function numberOf(descriptor: number): Promise<string> {
  // A descriptor that its owner closes meanwhile would be a bug here: the holding is ours alone until open() returns.
  const { rdev } = await fstatOf(descriptor, { bigint: true });
  const major = ((rdev >> 8n) & 0xfffn) | ((rdev >> 32n) & ~0xfffn);
  const minor = (rdev & 0xffn) | ((rdev >> 12n) & ~0xffn);
  return `${major}:${minor}`;
}

/**
 * Opens an unbound descriptor of the device. access: a proof's is for reading alone, which open-files.ts needs and every ioctl is content with. Opening does nothing to it: everything but BIND is refused (drivers/vfio/device_cdev.c). sameBinding: refuse a
 * device that was bound anew since the facts were read.
 */
export async function openCdev(
  machine: Machine,
  holding: Holding,
  facts: DeviceFacts,
  sameBinding: boolean,
  access: "read" | "readwrite",
): Promise<Outcome<OwnedDescriptor>> {
  const { address } = facts;
  const before = await machine.refusalNow(facts, sameBinding);
  if (before !== null) return { value: null, refusal: before };
  const folder = join(machine.folder(facts), "vfio-dev");
  const [name] = await readVfioDevices(machine.folder(facts));
  const number = name === undefined ? null : await readAttribute(join(folder, name, "dev"));
  if (name === undefined || number === null) {
    return refuse("HOST_OPERATION_FAILED", `${address}: the kernel made no character device for it (CONFIG_VFIO_DEVICE_CDEV)`, { address });
  }
  const node = join(machine.devRoot, "vfio/devices", name);
  machine.openFiles?.watch(node, address);
  const opened = await holding.queue(address).open(node, access);
  if (opened.error !== null) return { value: null, refusal: await failedOpen(opened.error, address, node, "open") };
  const descriptor = holding.own(opened.value, `${address} (${name})`, address);
  const found = await numberOf(opened.value);
  if (found !== number) {
    const message = `${address}: ${node} is device ${found}, but the kernel's ${name} is ${number}; the node is stale or made by hand`;
    return refuse("HOST_OPERATION_FAILED", message, { address, node });
  }
  const after = await machine.refusalNow(facts, sameBinding);
  return after === null ? granted(descriptor) : { value: null, refusal: after };
}
