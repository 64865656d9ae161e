// For which VMM, and what the user says of the guest: the options that `args` and `exec` share.

import type { Vmm, VmmOptions } from "../client/index.js";
import { nearest } from "../nearest.js";
import type { CommandCall, OptionSpec } from "./command.js";
import { CliError } from "./exit-code.js";
import { printable } from "./printable.js";

const NAMES = {
  qemu: "QEMU",
  "cloud-hypervisor": "CLOUD_HYPERVISOR",
  libvirt: "LIBVIRT",
  kubevirt: "KUBEVIRT",
  openvmm: "OPENVMM",
} as const satisfies Readonly<Record<string, Vmm>>;

type Name = keyof typeof NAMES;

export const VMM_NAMES = Object.keys(NAMES) as readonly Name[];

/** As their makers write them. */
export const TITLES: Readonly<Record<VmmOptions["vmm"], string>> = {
  QEMU: "QEMU",
  CLOUD_HYPERVISOR: "Cloud Hypervisor",
  LIBVIRT: "libvirt",
  KUBEVIRT: "KubeVirt",
  OPENVMM: "OpenVMM",
};

export const FOR_VMM: OptionSpec = { name: "for", value: "VMM", words: VMM_NAMES, summary: `the VMM: ${VMM_NAMES.join(", ")}` };

export const GUEST_OPTIONS: readonly OptionSpec[] = [
  {
    name: "guest-memory",
    value: "SIZE",
    summary: "memory of the guest, for example 4G (powers of 1024): tells how much the VMM has to lock",
  },
  {
    name: "machine",
    value: "TYPE",
    words: ["q35", "virt"],
    summary: "machine type (default: virt on arm64 and for a Grace GPU, else q35)",
  },
  {
    name: "guest-nodes",
    value: "GUEST=HOST,...",
    summary: "the guest's own NUMA nodes and the host's that they stand for (default: 0, for the node of the device)",
  },
];

/** --for and the guest's options; null without --for. Throws CliError (usage). */
export function vmmOptions({ values }: Pick<CommandCall, "values">): VmmOptions | null {
  const name = values.get("for");
  if (name === undefined) {
    const lonely = [...GUEST_OPTIONS.map((option) => option.name), "resource"].find((option) => values.has(option));
    if (lonely !== undefined) throw new CliError("usage", `--${lonely} means something only with --for`);
    return null;
  }
  const known = VMM_NAMES.find((each) => each === name);
  if (known === undefined) {
    const near = nearest(name, VMM_NAMES);
    throw new CliError(
      "usage",
      `--for: \`${printable(name)}\` is no VMM that is known here`,
      near === null ? `one of ${VMM_NAMES.join(", ")}` : `did you mean \`${near}\`?`,
    );
  }
  const memory = values.get("guest-memory");
  const machine = values.get("machine");
  const nodes = values.get("guest-nodes");
  const resourceName = values.get("resource");
  return {
    vmm: NAMES[known],
    ...(memory === undefined ? {} : { guestMemory: bytesOf(memory) ?? wrongSize(memory) }),
    ...(machine === undefined ? {} : { machine: machineOf(machine) }),
    ...(nodes === undefined ? {} : { guestNodes: nodes.split(",").map(guestNode) }),
    ...(resourceName === undefined ? {} : { resourceName }),
  };
}

const EXPONENT: Readonly<Record<string, bigint>> = { b: 0n, k: 10n, m: 20n, g: 30n, t: 40n };

/** `4G`, `512M`: powers of 1024. bare: what a number without a unit counts in. null: no size. */
export function bytesOf(text: string, bare: "b" | "m" = "b"): bigint | null {
  const { number, unit } = /^(?<number>\d{1,15})(?<unit>[bkmgt]?)(?:ib)?$/i.exec(text)?.groups ?? {};
  if (number === undefined) return null;
  const bytes = BigInt(number) << (EXPONENT[(unit || bare).toLowerCase()] ?? 0n);
  return bytes > 0n ? bytes : null;
}

function wrongSize(text: string): never {
  throw new CliError("usage", `--guest-memory: \`${printable(text)}\` is no size`, "for example --guest-memory 4G");
}

function machineOf(text: string): "Q35" | "VIRT" {
  if (text === "q35") return "Q35";
  if (text === "virt") return "VIRT";
  throw new CliError("usage", `--machine: \`${printable(text)}\` is neither q35 nor virt`);
}

function guestNode(text: string): { readonly guest: number; readonly host: number } {
  const [, guest, host] = /^(\d{1,4})=(\d{1,4})$/.exec(text) ?? [];
  if (guest === undefined || host === undefined)
    throw new CliError("usage", `--guest-nodes: \`${printable(text)}\` is no GUEST=HOST`, "for example --guest-nodes 0=0,1=1");
  return { guest: Number(guest), host: Number(host) };
}
