// A failed system call on a device becomes a refusal here and nowhere else, so that operation, errno and subject are never lost on the way to the client.
// The same errno means different things at different steps: EINVAL from BIND is "somebody has it", EINVAL from GET_INFO is a driver's fault.

import { stat } from "node:fs/promises";
import type { Address } from "../broker/device.js";
import type { Reason, Refusal } from "../broker/refusal.js";
import type { SysError } from "../native.js";

/**
 * Which step failed: what an errno means depends on it. `node`: opening a node that all devices share (/dev/iommu, /dev/vfio/vfio); `open`: opening the
 * device's own node; `group`: opening its group's; `bind`: VFIO_DEVICE_BIND_IOMMUFD; `call`: anything else.
 */
export type Step = "node" | "open" | "group" | "bind" | "call";

const GONE: ReadonlySet<string> = new Set(["ENOENT", "ENODEV", "ENXIO"]);
const LIMIT: ReadonlySet<string> = new Set(["EMFILE", "ENFILE"]);

/**
 * Errnos of VFIO_DEVICE_BIND_IOMMUFD that say that the device is not free (kernel 7.3): EINVAL from vfio_df_open() when another descriptor is bound,
 * EBUSY from vfio_device_block_group() when its legacy group is open, EPERM from iommu_device_claim_dma_owner() when another device of its
 * group belongs to another iommufd.
 */
const HELD_AT_BIND: Readonly<Record<string, string>> = {
  EINVAL: "another descriptor of it is bound",
  EBUSY: "its IOMMU group is open through the legacy interface",
  EPERM: "another device of its IOMMU group is bound to another iommufd",
};

/** True when the errno says that the device has left, or is leaving, the machine. */
export function isGone(error: SysError, step: Step): boolean {
  if (step === "node") return false;
  // The group's character device is made with its first device and goes with its last, as the cdev does: no node means no device.
  return GONE.has(error.code) && (error.code !== "ENOENT" || step !== "call");
}

/** Why the device is held, in words, when the errno says that it is; else null. */
export function heldBecause(error: SysError, step: Step): string | null {
  if (step === "bind") {
    const why = HELD_AT_BIND[error.code];
    return why === undefined ? null : `${why} (${text(error)})`;
  }
  if (error.code !== "EBUSY") return null;
  return step === "group"
    ? `its IOMMU group is open, or a descriptor or mapping of one of the group's devices is left (${text(error)})`
    : text(error);
}

/** EACCES of BIND, and of a device out of its group: vfio_pci_core.c vfio_pci_validate_vf_token(). Nothing else there answers so: the descriptors are permission enough. */
function needsToken(error: SysError, step: Step): boolean {
  return error.code === "EACCES" && (step === "bind" || error.operation === "VFIO_GROUP_GET_DEVICE_FD");
}

/** `VFIO_DEVICE_BIND_IOMMUFD on 0000:01:00.0: EINVAL (22)`. */
export function text(error: SysError): string {
  return `${error.operation} on ${error.subject}: ${error.code}${error.errno === 0 ? "" : ` (${error.errno})`}`;
}

function reasonOf(error: SysError, step: Step): Reason {
  if (LIMIT.has(error.code)) return "DESCRIPTOR_LIMIT";
  if (heldBecause(error, step) !== null) return "DEVICE_IN_USE";
  if (isGone(error, step)) return "DEVICE_REMOVED";
  if (needsToken(error, step)) return "VF_TOKEN_REQUIRED";
  if (step !== "bind" && step !== "call" && (error.code === "EACCES" || error.code === "EPERM")) return "NO_PERMISSION";
  return "HOST_OPERATION_FAILED";
}

/** The refusal for a failed call on a device. */
export function failedCall(error: SysError, address: Address | null, step: Step = "call"): Refusal {
  const reason = reasonOf(error, step);
  const device = address === null ? "the host" : address;
  const what: Partial<Record<Reason, string>> = {
    DESCRIPTOR_LIMIT: "no descriptor is left for it",
    DEVICE_IN_USE: `it is held outside of this daemon: ${heldBecause(error, step)}`,
    DEVICE_REMOVED: "it has left the machine",
    NO_PERMISSION: `this daemon may not open ${error.subject}`,
    VF_TOKEN_REQUIRED: "its physical function belongs to a VFIO driver too, so that it needs a VF token",
  };
  const message = what[reason] ?? "the kernel refused";
  return {
    reason,
    message: reason === "DEVICE_IN_USE" ? `${device}: ${message}` : `${device}: ${message} (${text(error)})`,
    metadata: {
      ...(address === null ? {} : { address }),
      operation: error.operation,
      errno: String(error.errno),
      code: error.code,
      subject: error.subject,
    },
  };
}

/** failedCall for a node that could not be opened; a permission problem also tells the node's owner and mode, which is what a person must change. */
export async function failedOpen(
  error: SysError,
  address: Address | null,
  node: string,
  step: "node" | "open" | "group",
): Promise<Refusal> {
  const refusal = failedCall(error, address, step);
  if (refusal.reason !== "NO_PERMISSION") return refusal;
  const owner = await ownerOf(node);
  return { ...refusal, message: `${refusal.message}; ${owner}`, metadata: { ...refusal.metadata, node } };
}

/** `/dev/iommu belongs to uid 0, gid 0, mode 0660; this process has uid 1000`. */
export async function ownerOf(node: string): Promise<string> {
  const self = `this process has uid ${process.geteuid?.() ?? "?"}, gid ${process.getegid?.() ?? "?"}`;
  try {
    const facts = await stat(node);
    return `${node} belongs to uid ${facts.uid}, gid ${facts.gid}, mode 0${(facts.mode & 0o7777).toString(8)}; ${self}`;
  } catch {
    return `${node} cannot be examined; ${self}`;
  }
}
