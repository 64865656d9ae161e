// Which devices a BindDriver changes, and to which drivers: decided from facts alone, before anything is locked.

import type { Address } from "./address.js";
import type { DeviceFacts } from "./device.js";
import { granted, type Outcome, refuse } from "./refusal.js";

export interface BindRequest {
  readonly address: Address;
  /** null: the best that the kernel has for the device. */
  readonly driver: string | null;
  /** Other members of its IOMMU group may be taken from their drivers too. */
  readonly wholeGroup: boolean;
}

/** One device that is to get another driver. */
export interface PlannedBind {
  readonly address: Address;
  readonly driver: string;
  /** Whose loading brings the driver; never empty. */
  readonly module: string;
}

const GENERIC = { driver: "vfio-pci", module: "vfio-pci" } as const;

/**
 * The device, when it has not that driver yet, and every other endpoint of its IOMMU group that no VFIO driver has: the kernel gives a group away as a whole. Bridges are
 * not in the inventory, and stay with pcieport; a member that somebody has parked with pci-stub spoils nothing and stays.
 */
export function planBind(
  target: DeviceFacts,
  request: BindRequest,
  get: (address: Address) => DeviceFacts | null,
): Outcome<readonly PlannedBind[]> {
  const { address, iommuGroup: group } = target;
  if (group === null)
    return refuse("NO_IOMMU_GROUP", `${address} is in no IOMMU group: the IOMMU is off or does not cover it`, { address });
  const peers = group.members.flatMap((member) => (member.address === address ? [] : (get(member.address) ?? [])));
  const leaving = [target, ...peers].find((facts) => facts.leaving);
  if (leaving !== undefined) {
    const message = `${leaving.address} is being unbound from ${leaving.driver}, which waits for a descriptor or mapping that somebody still has`;
    return refuse("DEVICE_LEAVING", message, { address: leaving.address });
  }
  const chosen = chooseDriver(target, request.driver);
  if (chosen.refusal) return chosen;
  const plan: PlannedBind[] = [];
  if (!target.vfioBound || target.driver !== chosen.value.driver) plan.push({ address, ...chosen.value });
  const parked = (facts: DeviceFacts): boolean =>
    facts.driver !== "" && group.members.some((member) => member.address === facts.address && !member.spoils);
  const others = peers.filter((facts) => !facts.vfioBound && !parked(facts));
  if (others.length > 0 && !request.wholeGroup) {
    // It has its driver, and members without one are in nobody's way.
    if (plan.length === 0 && group.viable) return granted([]);
    const names = others.map((facts) => `${facts.address} (${facts.driver === "" ? "no driver" : facts.driver})`).join(", ");
    const message = `${address} shares IOMMU group ${group.id} with ${names}, which would have to go to VFIO with it`;
    return refuse("GROUP_CONSENT_REQUIRED", message, { address, group: String(group.id), members: names });
  }
  for (const facts of others) {
    const own = chooseDriver(facts, null);
    if (own.refusal) return own;
    plan.push({ address: facts.address, ...own.value });
  }
  if (group.otherSpoilers.length > 0) {
    const message = `IOMMU group ${group.id} of ${address} has members that are no PCI functions, which no VFIO driver can take: ${group.otherSpoilers.join(", ")}`;
    return refuse("GROUP_NOT_VIABLE", message, { address, group: String(group.id) });
  }
  return granted(plan);
}

/** A variant driver before the plain one. What is named must be a VFIO driver, be it one that does not list the device: driver_override makes it match. */
function chooseDriver(facts: DeviceFacts, named: string | null): Outcome<{ readonly driver: string; readonly module: string }> {
  const known = facts.driverCandidates.find(({ driver, module, kind }) =>
    named === null ? kind !== "HOST" : driver === named || (module !== "" && module === named),
  );
  if (known !== undefined && known.kind !== "HOST") {
    return granted({ driver: known.driver, module: known.module === "" ? known.driver : known.module });
  }
  if (known === undefined && named === null) return granted(GENERIC);
  // All VFIO drivers of the kernel are named so.
  if (known === undefined && named?.includes("vfio") === true) return granted({ driver: named, module: named });
  return refuse("INVALID_FIELD", `driver: ${named} is no VFIO driver; RestoreDriver gives a device back to its own`, { field: "driver" });
}
