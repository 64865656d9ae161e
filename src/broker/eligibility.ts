// Why a device cannot be leased by anybody, in words and codes: one place, read by the inventory and by AcquireLease, so that what is
// shown and what is refused are the same.

import type { DeviceFacts, DeviceProbe } from "./device.js";
import type { LeaseState } from "./lease-table.js";
import type { Reason, Refusal } from "./refusal.js";

export interface IneligibleReason {
  readonly reason: Reason;
  readonly message: string;
}

/** What the inventory knows of a device; `probeRefusal` is why the last probe failed. */
export interface Knowledge {
  readonly facts: DeviceFacts;
  readonly probe: DeviceProbe | null;
  readonly probeRefusal: Refusal | null;
  readonly state: LeaseState;
  readonly stateDetail: string;
}

/** Empty when the device can be leased. Being leased already is no reason: that passes, and is told by the state. */
export function ineligibleReasons(known: Knowledge): readonly IneligibleReason[] {
  const { facts } = known;
  if (known.state === "REMOVED") return [{ reason: "DEVICE_REMOVED", message: `${facts.address} has left the machine` }];
  const reasons: IneligibleReason[] = [];
  if (!facts.vfioBound) reasons.push(driverReason(facts));
  const group = facts.iommuGroup;
  const others =
    group !== null && (group.otherSpoilers.length > 0 || group.members.some((member) => member.spoils && member.address !== facts.address));
  if (group === null) {
    reasons.push({ reason: "NO_IOMMU_GROUP", message: `${facts.address} is in no IOMMU group: the IOMMU is off or does not cover it` });
  } else if (!group.viable && (others || facts.vfioBound)) {
    // A device that alone spoils its group has been named above.
    const { id, members, otherSpoilers } = group;
    const spoilers = [
      ...members.filter((member) => member.spoils).map((member) => `${member.address} (${member.driver})`),
      ...otherSpoilers,
    ];
    reasons.push({
      reason: "GROUP_NOT_VIABLE",
      message: `IOMMU group ${id} of ${facts.address} cannot be used through VFIO: ${spoilers.join(", ")} ${spoilers.length === 1 ? "does its" : "do their"} own DMA`,
    });
  }
  if (reasons.length > 0) return reasons;
  if (known.state === "QUARANTINED")
    reasons.push({ reason: "DEVICE_QUARANTINED", message: `${facts.address} is quarantined: ${known.stateDetail}` });
  else if (known.probe !== null && known.probe.notReady !== null) {
    reasons.push({ reason: "DEVICE_NOT_READY", message: `${facts.address} is not ready: ${known.probe.notReady}` });
  } else if (known.probe === null) reasons.push(probeReason(known));
  return reasons;
}

function driverReason(facts: DeviceFacts): IneligibleReason {
  if (facts.leaving) {
    const message = `${facts.address} is being unbound from ${facts.driver}, which waits for a descriptor or mapping that somebody still has`;
    return { reason: "DEVICE_LEAVING", message };
  }
  if (facts.driver !== "")
    return { reason: "NO_VFIO_DRIVER", message: `${facts.address} is bound to ${facts.driver}, which is no VFIO driver` };
  if (facts.driverOverride !== "") {
    return {
      reason: "DRIVER_NOT_READY",
      message:
        `${facts.address} is bound to no driver although driver_override names ${facts.driverOverride}: ` +
        "the driver's probe failed (nvgrace gives up with ETIME when the GPU's memory or link is not ready within 30 s), or it has not been asked yet",
    };
  }
  return { reason: "NO_VFIO_DRIVER", message: `${facts.address} is bound to no driver` };
}

/** What a probe may be refused with and what is as true of a lease. The others say only that the device could not be read. */
const TOLD_AS_THEY_ARE: ReadonlySet<Reason> = new Set(["DEVICE_IN_USE", "NO_PERMISSION", "GROUP_NOT_VIABLE", "VF_TOKEN_REQUIRED"]);

function probeReason({ facts, probeRefusal }: Knowledge): IneligibleReason {
  if (probeRefusal === null) return { reason: "DEVICE_NOT_PROBED", message: `${facts.address} is being read for the first time` };
  const { reason, message } = probeRefusal;
  return { reason: TOLD_AS_THEY_ARE.has(reason) ? reason : "DEVICE_NOT_PROBED", message };
}
