// Arguments for VMMs, as proto/aperture/v1/vmm.proto has them: units, ranges and sources stand there.

import type { GetArgumentsRequest } from "../generated/aperture/v1/GetArgumentsRequest.js";
import type { Vmm__Output } from "../generated/aperture/v1/Vmm.js";
import type { VmmArguments__Output } from "../generated/aperture/v1/VmmArguments.js";
import type { VmmForm__Output } from "../generated/aperture/v1/VmmForm.js";
import type { VmmNoteKind__Output } from "../generated/aperture/v1/VmmNoteKind.js";
import type { VmmOptions as WireOptions } from "../generated/aperture/v1/VmmOptions.js";
import { type Bare, bare } from "./bare.js";

// A value that is newer than this library reads as UNSPECIFIED.
export type Vmm = Bare<Vmm__Output, "VMM_">;
export type VmmForm = Bare<VmmForm__Output, "VMM_FORM_">;
export type VmmNoteKind = Bare<VmmNoteKind__Output, "VMM_NOTE_KIND_">;

/** For whom, and what the daemon cannot know of the guest. */
export interface VmmOptions {
  readonly vmm: Exclude<Vmm, "UNSPECIFIED">;
  /** Default: VIRT on an arm64 host and for a Grace GPU, else Q35. */
  readonly machine?: "Q35" | "VIRT";
  /** Bytes. Default: not known, then memlock is null. */
  readonly guestMemory?: bigint;
  /** The guest's own NUMA nodes, and the host's that they stand for. Default: node 0, for the node of the device. */
  readonly guestNodes?: readonly { readonly guest: number; readonly host: number }[];
  /** Resource name of the cluster's device plugin (KubeVirt). Default: not known. */
  readonly resourceName?: string;
}

/** Devices by their addresses, or those of a lease. */
export type VmmDevices = { readonly addresses: readonly string[] } | { readonly leaseId: string };

/** A value in the lines, and where it comes from. */
export interface VmmValue {
  readonly name: string;
  readonly value: string;
  readonly source: string;
}

export interface VmmFragment {
  /** What it is for; of XML and YAML where it goes. */
  readonly place: string;
  /** One argument, or one line, each. */
  readonly lines: readonly string[];
  readonly values: readonly VmmValue[];
}

export interface VmmNote {
  /** TO_DO: left for whoever uses the arguments. LEFT_OUT: not known, and why. */
  readonly kind: VmmNoteKind;
  readonly text: string;
}

export interface VmmDevice {
  readonly address: string;
  /** The VMM's id of the device: made of the address, always the same. */
  readonly id: string;
  readonly guestNodes: readonly number[];
}

/** What a VMM is started with. In lines, @iommufd and @device:ADDRESS stand for descriptors of the lease. */
export interface VmmArguments {
  readonly vmm: Vmm;
  /** First version that takes all of it: `9.0`. Empty: no version is numbered. */
  readonly leastVersion: string;
  readonly form: VmmForm;
  readonly fragments: readonly VmmFragment[];
  readonly notes: readonly VmmNote[];
  readonly devices: readonly VmmDevice[];
  /** RLIMIT_MEMLOCK that the VMM needs, in bytes; null: the guest's memory is not known. */
  readonly memlock: { readonly bytes: bigint; readonly source: string } | null;
}

export function encodeVmm({ vmm, machine, guestMemory, guestNodes, resourceName }: VmmOptions): WireOptions {
  return {
    vmm: `VMM_${vmm}`,
    ...(machine === undefined ? {} : { machine: `GUEST_MACHINE_${machine}` as const }),
    ...(guestMemory === undefined ? {} : { guestMemory: guestMemory.toString() }),
    ...(guestNodes === undefined ? {} : { guestNodes: guestNodes.map(({ guest, host }) => ({ guest, host })) }),
    ...(resourceName === undefined ? {} : { resourceName }),
  };
}

export function encodeGetArguments(options: VmmOptions, devices: VmmDevices): GetArgumentsRequest {
  return { options: encodeVmm(options), ...("leaseId" in devices ? { leaseId: devices.leaseId } : { addresses: [...devices.addresses] }) };
}

export function decodeVmmArguments(wire: VmmArguments__Output): VmmArguments {
  return {
    vmm: bare(wire.vmm, "VMM_"),
    leastVersion: wire.leastVersion,
    form: bare(wire.form, "VMM_FORM_"),
    fragments: wire.fragments.map(({ place, lines, values }) => ({
      place,
      lines,
      values: values.map(({ name, value, source }) => ({ name, value, source })),
    })),
    notes: wire.notes.map(({ kind, text }) => ({ kind: bare(kind, "VMM_NOTE_KIND_"), text })),
    devices: wire.devices.map(({ address, id, guestNodes }) => ({ address, id, guestNodes })),
    memlock: wire.memlock === null ? null : { bytes: BigInt(wire.memlock.bytes), source: wire.memlock.source },
  };
}
