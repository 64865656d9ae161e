// BIND in a probe cycle, which also finds out whether this kernel checks VF tokens on the cdev path (VFIO_DEVICE_BIND_FLAG_TOKEN, 6.17).
//
// The errno tells only on a virtual function whose physical function has a VFIO driver: there a wrong token is EACCES on a kernel that looks at it, and EINVAL
// (unknown flag) on one that does not. Anywhere else a kernel that knows tokens answers EINVAL too (drivers/vfio/pci/vfio_pci_core.c
// vfio_pci_validate_vf_token), and on a physical function it would take the token for a new one. So it is asked there and nowhere else.

import { randomUUID } from "node:crypto";
import type { Address } from "../broker/device.js";
import type { OwnedDescriptor } from "../descriptor.js";
import type { BlockingQueue, SysResult } from "../native.js";
import type { CapabilityTable } from "./capability-table.js";
import { text } from "./failed-call.js";

/** Binds device to iommufd; value: its id there. A refused BIND leaves the descriptor unbound, so asking with a token first costs nothing. */
export async function bindProbing(
  queue: BlockingQueue,
  device: OwnedDescriptor,
  iommufd: OwnedDescriptor,
  address: Address,
  tellsOfTokens: boolean,
  capabilities: CapabilityTable,
): Promise<SysResult<number>> {
  if (tellsOfTokens && capabilities.get("bind_token") === "UNKNOWN") {
    const asked = await queue.bindIommufd(device.borrow(), iommufd.borrow(), randomUUID(), address);
    const answer = asked.error === null ? "the token was accepted" : text(asked.error);
    const detail = `BIND of ${address} with a token that nobody set: ${answer}`;
    if (asked.error === null || asked.error.code === "EACCES") capabilities.set("bind_token", "AVAILABLE", detail);
    else if (asked.error.code === "EINVAL") capabilities.set("bind_token", "UNAVAILABLE", detail);
    if (asked.error === null) return asked;
  }
  return queue.bindIommufd(device.borrow(), iommufd.borrow(), null, address);
}
