// Arguments for a VMM: what is asked read with distrust, what was made put into the API's words. How they are made is src/vmm's; this layer is handed the function.

import type { Address } from "../broker/device.js";
import type { Inventory } from "../broker/inventory.js";
import type { Host, KnownDevice } from "../broker/ports.js";
import { granted, type Outcome, refuse } from "../broker/refusal.js";
import type { GuestNode, MakeVmmArguments, Vmm, VmmArguments, VmmOptions } from "../broker/vmm.js";
import type { VmmArguments as WireArguments } from "../generated/aperture/v1/VmmArguments.js";
import type { VmmOptions__Output } from "../generated/aperture/v1/VmmOptions.js";
import { readAddress, wrong } from "./validate.js";

const MOST_DEVICES = 16;
const MOST_GUEST_NODES = 64;
const HIGHEST_GUEST_NODE = 127;
/** 1 << CONFIG_NODES_SHIFT, whose largest value is 10. */
const HIGHEST_HOST_NODE = 1023;
const MOST_MEMORY = 1n << 60n;
/** Of a Kubernetes resource: a DNS name of 253 characters, a slash and a name of 63 less one; ASCII that YAML needs no quotes for. */
const RESOURCE = /^(?=.{1,316}$)[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?\/[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?$/;

const VMMS: Readonly<Record<string, Vmm>> = {
  VMM_QEMU: "QEMU",
  VMM_CLOUD_HYPERVISOR: "CLOUD_HYPERVISOR",
  VMM_LIBVIRT: "LIBVIRT",
  VMM_KUBEVIRT: "KUBEVIRT",
  VMM_OPENVMM: "OPENVMM",
};

export interface VmmWordsDeps {
  readonly inventory: Inventory;
  readonly host: Pick<Host, "backend" | "capabilities" | "numaNodes">;
  readonly make: MakeVmmArguments;
}

export class VmmWords {
  readonly #deps: VmmWordsDeps;

  constructor(deps: VmmWordsDeps) {
    this.#deps = deps;
  }

  /** field: where options stand in the request. */
  arguments(options: VmmOptions__Output | null, addresses: readonly Address[], field: string): Outcome<WireArguments> {
    const asked = readOptions(options, field);
    if (asked.refusal) return asked;
    const devices: KnownDevice[] = [];
    for (const address of addresses) {
      const { inventory } = this.#deps;
      const known = inventory.known(address);
      if (known !== null && this.#needsToken(known)) {
        const message = `${address}: its physical function has a VFIO driver too, and no VMM shows the VF token when it binds on iommufd`;
        return refuse("VF_TOKEN_REQUIRED", message, { address });
      }
      if (known !== null) devices.push(known);
      else if (inventory.get(address) === null)
        return refuse("DEVICE_NOT_FOUND", `there is no device ${address} on this host`, { address });
      else return refuse("DEVICE_NOT_PROBED", `${address}: its regions are not known, and with them what a guest needs`, { address });
    }
    const { host, make } = this.#deps;
    const made = make(asked.value, devices, { backend: host.backend, architecture: process.arch, numaNodes: host.numaNodes() });
    return made.refusal ? made : granted(toWire(made.value));
  }

  #needsToken({ facts: { physicalFunction } }: KnownDevice): boolean {
    const { host, inventory } = this.#deps;
    if (host.backend !== "IOMMUFD" || physicalFunction === null) return false;
    const checked = host.capabilities().some(({ name, availability }) => name === "bind_token" && availability === "AVAILABLE");
    return checked && inventory.get(physicalFunction)?.facts.vfioBound === true;
  }
}

/** 1 to 16 distinct ones. */
export function readAddresses(texts: readonly string[], field: string): Outcome<readonly Address[]> {
  if (texts.length < 1 || texts.length > MOST_DEVICES) return wrong(field, `${texts.length} devices, where 1 to ${MOST_DEVICES} are taken`);
  const addresses: Address[] = [];
  for (const [i, text] of texts.entries()) {
    const address = readAddress(text, `${field}[${i}]`);
    if (address.refusal) return address;
    if (addresses.includes(address.value)) return wrong(`${field}[${i}]`, `${address.value} is named twice`);
    addresses.push(address.value);
  }
  return granted(addresses);
}

function readOptions(options: VmmOptions__Output | null, field: string): Outcome<VmmOptions> {
  const vmm = VMMS[options?.vmm ?? ""];
  if (options === null || vmm === undefined) return wrong(`${field}.vmm`, `say one of ${Object.keys(VMMS).join(", ")}`);
  if (!["GUEST_MACHINE_UNSPECIFIED", "GUEST_MACHINE_Q35", "GUEST_MACHINE_VIRT"].includes(options.machine))
    return wrong(`${field}.machine`, "say GUEST_MACHINE_Q35 or GUEST_MACHINE_VIRT");
  const machine = options.machine === "GUEST_MACHINE_Q35" ? "Q35" : options.machine === "GUEST_MACHINE_VIRT" ? "VIRT" : null;
  const guestMemory = options._guestMemory === "guestMemory" ? BigInt(options.guestMemory ?? 0) : null;
  if (guestMemory !== null && (guestMemory < 1n || guestMemory > MOST_MEMORY))
    return wrong(`${field}.guest_memory`, `${guestMemory} bytes, where 1 to ${MOST_MEMORY} are taken`);
  const guestNodes = readGuestNodes(options, `${field}.guest_nodes`);
  if (guestNodes.refusal) return guestNodes;
  const { resourceName } = options;
  if (resourceName !== "" && !RESOURCE.test(resourceName))
    return wrong(`${field}.resource_name`, "no resource name of Kubernetes, for example example.com/gpu");
  return granted({ vmm, machine, guestMemory, guestNodes: guestNodes.value, resourceName });
}

function readGuestNodes({ guestNodes }: VmmOptions__Output, field: string): Outcome<readonly GuestNode[]> {
  if (guestNodes.length > MOST_GUEST_NODES) return wrong(field, `${guestNodes.length} nodes, where ${MOST_GUEST_NODES} are the most`);
  const numbers = new Set<number>();
  for (const [i, { guest, host }] of guestNodes.entries()) {
    if (host > HIGHEST_HOST_NODE) return wrong(`${field}[${i}].host`, `${host} is above ${HIGHEST_HOST_NODE}`);
    if (guest > HIGHEST_GUEST_NODE) return wrong(`${field}[${i}].guest`, `${guest} is above ${HIGHEST_GUEST_NODE}`);
    if (numbers.has(guest)) return wrong(`${field}[${i}].guest`, `node ${guest} is named twice`);
    numbers.add(guest);
  }
  return granted(guestNodes.map(({ guest, host }) => ({ guest, host })));
}

function toWire(made: VmmArguments): WireArguments {
  return {
    vmm: `VMM_${made.vmm}`,
    leastVersion: made.leastVersion,
    form: `VMM_FORM_${made.form}`,
    fragments: made.fragments.map(({ place, lines, values }) => ({
      place,
      lines: [...lines],
      values: values.map((value) => ({ ...value })),
    })),
    notes: made.notes.map(({ kind, text }) => ({ kind: `VMM_NOTE_KIND_${kind}`, text })),
    devices: made.devices.map(({ address, id, guestNodes }) => ({ address, id, guestNodes: [...guestNodes] })),
    ...(made.memlock === null ? {} : { memlock: { bytes: made.memlock.bytes.toString(), source: made.memlock.source } }),
  };
}
