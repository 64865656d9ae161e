// What of a lease a VMM is given, and what it is called there.

import type { HeldLease } from "../client/index.js";
import type { OwnedDescriptor } from "../descriptor.js";
import { PushError } from "./errors.js";

/** What is needed of a lease; a HeldLease is one. */
export type PushedLease = Pick<HeldLease, "id" | "descriptors" | "succeeded" | "closeDescriptors">;

/** A device in the VM. */
export interface PluggedDevice {
  /** On the host. */
  readonly address: string;
  /** The VMM's name for it. */
  readonly id: string;
}

/** Why the devices are in the VM no more although nobody here has asked for that. */
export type VmEnd =
  /** The VMM has closed its socket: its process has ended, or its monitor was taken away. */
  | "VMM_GONE"
  /** The VMM has let go of every device by itself, asked by its guest or by somebody else. */
  | "UNPLUGGED";

/** Devices of one lease in one VM. */
export interface Plugged {
  readonly devices: readonly PluggedDevice[];
  /** Settles when they are in the VM no more and unplug() was not called. Never rejects. */
  readonly gone: Promise<VmEnd>;
  /**
   * Takes all of them out: asks the guest's system, and waits until the VMM has closed its descriptors. Release the lease then. Throws PushError GUEST_REFUSED, GUEST_SILENT,
   * VMM_REFUSED, VMM_SILENT, VMM_GONE: then the VMM may have some of them still, and a release leaves those in quarantine until it has let go.
   */
  unplug(options?: { readonly timeoutMs?: number }): Promise<void>;
}

export interface PlugOptions {
  /** The VMM's names for the devices, in the order of the lease. Default: idOf() of each. */
  readonly ids?: readonly string[];
  /** Milliseconds for adding one device, in which the VMM binds it and pins the guest's memory. Default 300,000. */
  readonly plugMs?: number;
}

/** Binding a device can take as long as its reset and its memory being ready, and pinning memory takes about a second for 10 GiB. */
export const PLUG_MS = 300_000;
/** The guest's system asks its own driver. */
export const UNPLUG_MS = 60_000;
/** Everything else is answered at once. */
export const ANSWER_MS = 10_000;

/** The name of a device that was given none, the same as in ready-made arguments. QEMU takes letters, digits, `-`, `.` and `_`, a letter first. */
export function idOf(address: string): string {
  return `vfio-${address.replace(/[:.]/g, "-")}`;
}

export interface LeasedForVmm {
  readonly iommufd: OwnedDescriptor;
  readonly devices: readonly (PluggedDevice & { readonly descriptor: OwnedDescriptor })[];
}

/** Throws PushError LEASE_NOT_FOR_VMM; RangeError for ids that are not as many as devices, or name two the same. */
export function forVmm(lease: PushedLease, ids: readonly string[] | undefined): LeasedForVmm {
  const iommufd = lease.descriptors.find(({ info }) => info.kind === "IOMMUFD")?.descriptor;
  const unbound = lease.descriptors.flatMap(({ info, descriptor }) =>
    info.kind === "DEVICE_UNBOUND" && info.address !== null ? [{ address: info.address, descriptor }] : [],
  );
  if (iommufd === undefined || unbound.length === 0) {
    const have = [...new Set(lease.descriptors.map(({ info }) => info.kind))].join(", ");
    throw notForVmm(
      `it has ${have}, and a VMM takes an IOMMUFD and a DEVICE_UNBOUND`,
      "this needs device leases on a host with iommufd (`aperturectl host`)",
    );
  }
  if (lease.succeeded)
    throw notForVmm("its devices are bound already by the holder before", "a device is bound once for each open file: acquire it anew");
  const names = ids ?? unbound.map(({ address }) => idOf(address));
  if (names.length !== unbound.length) throw new RangeError(`${names.length} ids for ${unbound.length} devices`);
  if (new Set(names).size !== names.length) throw new RangeError(`two devices cannot have one id: ${names.join(", ")}`);
  return { iommufd, devices: unbound.map((device, index) => ({ ...device, id: names[index] ?? "" })) };
}

function notForVmm(why: string, next: string): PushError {
  return new PushError("LEASE_NOT_FOR_VMM", `this lease cannot be given to a running VMM: ${why}`, next);
}
