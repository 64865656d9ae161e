// One IOMMU group through /dev/vfio/GROUP. The kernel opens a group once only, and its devices only with it.

import { join } from "node:path";
import type { DeviceFacts } from "../broker/device.js";
import { granted, type Outcome, type Refusal, refuse } from "../broker/refusal.js";
import type { OwnedDescriptor } from "../descriptor.js";
import { failedCall, failedOpen } from "./failed-call.js";
import type { Holding } from "./holding.js";
import { groupKey, groupRefusal, type Machine } from "./machine.js";
import type { VfTokens } from "./vf-tokens.js";

/** linux/vfio.h */
const API_VERSION = 0;
const TYPE1V2_IOMMU = 3;
const GROUP_VIABLE = 1;

export function containerNode(devRoot: string): string {
  return join(devRoot, "vfio/vfio");
}

/** Opens a container and checks that it speaks this API and has the type1v2 IOMMU. */
export async function openContainer(machine: Machine, holding: Holding, key: string): Promise<Outcome<OwnedDescriptor>> {
  const node = containerNode(machine.devRoot);
  const queue = holding.queue(key);
  const opened = await queue.open(node, "readwrite");
  if (opened.error !== null) return { value: null, refusal: await failedOpen(opened.error, null, node, "node") };
  const container = holding.own(opened.value, "container", key);
  const version = await queue.containerApiVersion(opened.value);
  if (version.error !== null) return { value: null, refusal: failedCall(version.error, null) };
  if (version.value !== API_VERSION) {
    return refuse("HOST_OPERATION_FAILED", `${node} speaks version ${version.value} of the VFIO API, this daemon version ${API_VERSION}`);
  }
  const type1 = await queue.containerCheckExtension(opened.value, TYPE1V2_IOMMU);
  if (type1.error !== null) return { value: null, refusal: failedCall(type1.error, null) };
  if (!type1.value) {
    return refuse("HOST_OPERATION_FAILED", `${node} has no type1v2 IOMMU: load the module vfio_iommu_type1`);
  }
  return granted(container);
}

/** Opens the device's group and puts it into the container; the first group of a container brings the IOMMU to life. */
export async function openGroup(
  machine: Machine,
  holding: Holding,
  facts: DeviceFacts,
  container: OwnedDescriptor,
  isFirst: boolean,
): Promise<Outcome<OwnedDescriptor>> {
  const { address, iommuGroup } = facts;
  if (iommuGroup === null) return refuse("NO_IOMMU_GROUP", `${address}: it has no IOMMU group`, { address });
  const key = groupKey(iommuGroup.id);
  const queue = holding.queue(key);
  const node = join(machine.devRoot, "vfio", String(iommuGroup.id));
  const opened = await queue.open(node, "readwrite");
  if (opened.error !== null) return { value: null, refusal: await failedOpen(opened.error, address, node, "group") };
  const group = holding.own(opened.value, `IOMMU group ${iommuGroup.id}`, key);
  const status = await queue.groupStatus(opened.value, `IOMMU group ${iommuGroup.id}`);
  if (status.error !== null) return { value: null, refusal: failedCall(status.error, address) };
  if ((status.value & GROUP_VIABLE) === 0) return { value: null, refusal: await notViable(machine, facts, iommuGroup.id) };
  const joined = await queue.groupSetContainer(opened.value, container.borrow(), `IOMMU group ${iommuGroup.id}`);
  if (joined.error !== null) return { value: null, refusal: failedCall(joined.error, address) };
  if (isFirst) {
    const iommu = await queue.containerSetIommu(container.borrow(), TYPE1V2_IOMMU);
    if (iommu.error !== null) return { value: null, refusal: failedCall(iommu.error, address) };
  }
  return granted(group);
}

/** The kernel's answer is the group's; which member it is, sysfs tells, read again because the inventory may be older than the answer. */
async function notViable(machine: Machine, facts: DeviceFacts, id: number): Promise<Refusal> {
  const now = await machine.scanner.readGroup(String(id));
  const spoiled = now === null ? null : groupRefusal({ ...facts, iommuGroup: now });
  return (
    spoiled ?? {
      reason: "GROUP_NOT_VIABLE",
      message: `${facts.address}: the kernel says that IOMMU group ${id} is not viable: something else owns its DMA`,
      metadata: { address: facts.address, group: String(id) },
    }
  );
}

/** Gets a descriptor of a device from its open group; ready for use at once. */
export async function openGroupDevice(
  holding: Holding,
  facts: DeviceFacts,
  group: OwnedDescriptor,
  tokens: VfTokens,
): Promise<Outcome<OwnedDescriptor>> {
  const queue = holding.queue(facts.address);
  const device = await tokens.opening(facts, (token) =>
    queue.groupGetDevice(group.borrow(), token === null ? facts.address : `${facts.address} vf_token=${token}`),
  );
  if (device.error !== null) return { value: null, refusal: failedCall(device.error, facts.address) };
  return granted(holding.own(device.value, facts.address, facts.address));
}

/**
 * One user of a group within this daemon at a time, in order of arrival: a probe of one device must not make a lease of its neighbour believe that somebody else
 * has the group open.
 */
export class GroupLocks {
  readonly #last = new Map<number, Promise<void>>();

  /** Waits until all of the groups are free and takes them; the returned function gives them back, once. */
  async take(ids: readonly number[]): Promise<() => void> {
    const releases: (() => void)[] = [];
    // Always in the same order, so that two leases over two groups cannot wait for each other.
    for (const id of [...new Set(ids)].sort((a, b) => a - b)) releases.push(await this.#takeOne(id));
    return () => {
      for (const release of releases.splice(0)) release();
    };
  }

  async #takeOne(id: number): Promise<() => void> {
    const before = this.#last.get(id);
    let open: () => void = () => undefined;
    const mine = new Promise<void>((resolve) => {
      open = resolve;
    });
    this.#last.set(id, mine);
    await before;
    return () => {
      if (this.#last.get(id) === mine) this.#last.delete(id);
      open();
    };
  }
}
