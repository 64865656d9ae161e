// What a VMM is given besides descriptors: the words of its command line or its configuration. Types only; src/vmm makes them, rpc and daemon pass them on.
// They are the messages of proto/aperture/v1/vmm.proto, where units, ranges and sources stand.

import type { Address, BackendName } from "./device.js";
import type { NumaNode } from "./facts.js";
import type { KnownDevice } from "./ports.js";
import type { Outcome } from "./refusal.js";

export type Vmm = "QEMU" | "CLOUD_HYPERVISOR" | "LIBVIRT" | "KUBEVIRT" | "OPENVMM";

/** QEMU's machine types; libvirt's too. */
export type GuestMachine = "Q35" | "VIRT";

/** A node of the guest that has processors or memory, and the host's node that it stands for. */
export interface GuestNode {
  readonly guest: number;
  readonly host: number;
}

export interface VmmOptions {
  readonly vmm: Vmm;
  /** null: by the devices and the host's processor. */
  readonly machine: GuestMachine | null;
  /** Bytes. null: not known, then no memlock is told. */
  readonly guestMemory: bigint | null;
  /** Empty: one node, 0, that stands for the node of the first device. */
  readonly guestNodes: readonly GuestNode[];
  /** Resource name of the cluster's device plugin (KubeVirt). Empty: not known. */
  readonly resourceName: string;
}

/** Of the machine, what the words depend on. */
export interface VmmHost {
  readonly backend: BackendName;
  /** Node's name of the processor: arm64, x64. */
  readonly architecture: string;
  readonly numaNodes: readonly NumaNode[];
}

/** A number or a name in the words, and where it comes from. */
export interface VmmValue {
  readonly name: string;
  readonly value: string;
  readonly source: string;
}

/** ARGUMENTS: each line is one argument. FIELDS: names and values of a structure of the VMM's API. */
export type VmmForm = "ARGUMENTS" | "XML" | "YAML" | "FIELDS";

export interface VmmFragment {
  /** What it is for, and in a document where it goes: `<domain>`, `<domain><devices>`. */
  readonly place: string;
  readonly lines: readonly string[];
  readonly values: readonly VmmValue[];
}

export interface VmmNote {
  /** TO_DO: what its user has to do. LEFT_OUT: what cannot be known, and why. */
  readonly kind: "TO_DO" | "LEFT_OUT";
  readonly text: string;
}

/** A device under the id that the VMM knows it by. */
export interface VmmDevice {
  readonly address: Address;
  readonly id: string;
  /** Nodes of the guest that stand for its generic initiators, in their order. */
  readonly guestNodes: readonly number[];
}

export interface Memlock {
  /** Bytes of RLIMIT_MEMLOCK. */
  readonly bytes: bigint;
  readonly source: string;
}

export interface VmmArguments {
  readonly vmm: Vmm;
  /** `9.0` */
  readonly leastVersion: string;
  readonly form: VmmForm;
  readonly fragments: readonly VmmFragment[];
  readonly notes: readonly VmmNote[];
  readonly devices: readonly VmmDevice[];
  /** null: the guest's memory is not known. */
  readonly memlock: Memlock | null;
}

/** Makes the words. Refusals: VMM_NEEDS_IOMMUFD, BAR_NOT_POWER_OF_TWO, INVALID_FIELD. */
export type MakeVmmArguments = (options: VmmOptions, devices: readonly KnownDevice[], host: VmmHost) => Outcome<VmmArguments>;
