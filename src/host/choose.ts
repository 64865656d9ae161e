// Which back end the daemon runs on. The simulated one is chosen only when the machine has no VFIO device at all: a node that is missing or closed to us is said as such,
// never answered with devices made of memory.

import { open } from "node:fs/promises";
import { join } from "node:path";
import type { Host, Observer } from "../broker/ports.js";
import type { Outcome } from "../broker/refusal.js";
import { ownerOf } from "./failed-call.js";
import { IommufdHost } from "./iommufd-host.js";
import { containerNode } from "./legacy-group.js";
import { LegacyHost } from "./legacy-host.js";
import { SimulatedHost } from "./simulated-host.js";
import { devicesFolder, readNames, readVfioDevices } from "./sysfs-device.js";
import type { ReadableSource } from "./uevents.js";

export type HostChoice = "auto" | "iommufd" | "legacy" | "simulated";

export interface ChooseOptions {
  readonly host: HostChoice;
  /** Normally /sys. */
  readonly sysRoot: string;
  /** Normally /dev. */
  readonly devRoot: string;
  readonly observer: Pick<Observer, "fault">;
  /** Where the host polls what the kernel says by itself. Absent: changes are found by scans alone. */
  readonly poll?: ReadableSource;
}

/** Why the daemon cannot start, and what a person can do about it. */
export interface StartupError {
  readonly what: string;
  readonly why: string;
  readonly next: string;
}

export type Chosen =
  | { readonly host: Host; readonly reason: string; readonly error: null }
  | { readonly host: null; readonly reason: null; readonly error: StartupError };

/** What is there below /dev and /sys. */
interface Nodes {
  readonly iommu: string;
  readonly container: string;
  readonly cdevs: readonly string[];
  readonly groups: readonly string[];
  /** Devices that sysfs shows with a VFIO driver. */
  readonly bound: readonly string[];
}

export async function chooseHost(options: ChooseOptions): Promise<Chosen> {
  if (options.host === "simulated") return simulated(options, 'the configuration says host = "simulated"');
  let nodes: Nodes;
  try {
    nodes = await look(options);
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    return refused("the VFIO nodes cannot be listed", why, 'give the daemon\'s user access to /dev/vfio, or set host = "simulated"');
  }
  if (options.host === "iommufd") return iommufd(options, nodes, 'the configuration says host = "iommufd"');
  if (options.host === "legacy") return legacy(options, nodes, 'the configuration says host = "legacy"');

  if (nodes.cdevs.length > 0 && (await stateOf(nodes.iommu)) !== "MISSING") {
    return iommufd(options, nodes, `${nodes.cdevs.length} VFIO character device(s) and ${nodes.iommu} are there`);
  }
  if (nodes.groups.length > 0) {
    return legacy(
      options,
      nodes,
      `${nodes.groups.length} VFIO group(s) below ${join(options.devRoot, "vfio")} are there, and no VFIO character device`,
    );
  }
  if (nodes.bound.length > 0) {
    return refused(
      "the VFIO devices of this machine cannot be reached",
      `${nodes.bound.join(", ")} ${nodes.bound.length === 1 ? "has" : "have"} a VFIO driver, but there is no node for it below ${join(options.devRoot, "vfio")}`,
      'start the daemon where it sees /dev/vfio (a container needs the folder), or set host = "simulated"',
    );
  }
  return simulated(options, `no device of this machine has a VFIO driver (nothing in ${devicesFolder(options.sysRoot)}/*/vfio-dev)`);
}

async function look({ sysRoot, devRoot }: ChooseOptions): Promise<Nodes> {
  const folder = join(devRoot, "vfio");
  const [cdevs, groups, functions] = await Promise.all([
    readNames(join(folder, "devices")),
    readNames(folder),
    readNames(devicesFolder(sysRoot)),
  ]);
  const bound: string[] = [];
  for (const address of functions) if ((await readVfioDevices(join(devicesFolder(sysRoot), address))).length > 0) bound.push(address);
  return {
    iommu: join(devRoot, "iommu"),
    container: containerNode(devRoot),
    cdevs: cdevs.filter((name) => /^vfio\d+$/.test(name)).map((name) => join(folder, "devices", name)),
    groups: groups.filter((name) => /^\d+$/.test(name)).map((name) => join(folder, name)),
    bound: bound.sort(),
  };
}

type NodeState = "USABLE" | "MISSING" | "FORBIDDEN";

/**
 * Opens the node and closes it again, which does nothing to a device that is not bound. Not access(2): that asks for the real uid without its capabilities, and would
 * call a node closed that a daemon with CAP_DAC_OVERRIDE can open.
 */
async function stateOf(node: string): Promise<NodeState> {
  try {
    const file = await open(node, "r+");
    await file.close();
    return "USABLE";
  } catch (error) {
    const code = error instanceof Error && "code" in error ? error.code : "";
    if (code === "EACCES" || code === "EPERM") return "FORBIDDEN";
    // Anything else (EBUSY: somebody has the group) is for the host itself to meet and to name.
    return code === "ENOENT" || code === "ENOTDIR" || code === "ENXIO" || code === "ENODEV" ? "MISSING" : "USABLE";
  }
}

/** FORBIDDEN only when there are nodes and none is usable: one that is closed to us is told as that device's own reason. */
async function stateOfAny(nodes: readonly string[]): Promise<{ readonly state: NodeState; readonly example: string }> {
  const [example = ""] = nodes;
  for (const node of nodes) if ((await stateOf(node)) === "USABLE") return { state: "USABLE", example: node };
  return { state: nodes.length === 0 ? "MISSING" : "FORBIDDEN", example };
}

async function forbidden(node: string): Promise<Chosen> {
  return refused(
    `this daemon may not open ${node}`,
    await ownerOf(node),
    'give the daemon\'s user read and write access to the node (a udev rule, or its group), run the daemon as root, or set host = "simulated"',
  );
}

async function iommufd(options: ChooseOptions, nodes: Nodes, reason: string): Promise<Chosen> {
  const iommu = await stateOf(nodes.iommu);
  if (iommu === "MISSING") {
    return refused(
      "the iommufd interface is not there",
      `${nodes.iommu} does not exist: the kernel has no CONFIG_IOMMUFD (stock Debian kernels have not), or its module is not loaded`,
      'load the module iommufd, or set host = "legacy"',
    );
  }
  if (iommu === "FORBIDDEN") return forbidden(nodes.iommu);
  const cdevs = await stateOfAny(nodes.cdevs);
  // Said so by the configuration, and nothing bound yet: the daemon itself can bind the first device.
  const mayBind = options.host === "iommufd" && nodes.bound.length === 0;
  if (cdevs.state === "MISSING" && !mayBind) {
    return refused(
      "no device can be opened through iommufd",
      `there is nothing in ${join(options.devRoot, "vfio/devices")}: no device has a VFIO driver, or the kernel has no CONFIG_VFIO_DEVICE_CDEV`,
      'bind a device to vfio-pci or its variant driver, or set host = "legacy" or "simulated"',
    );
  }
  if (cdevs.state === "FORBIDDEN") return forbidden(cdevs.example);
  return created(await IommufdHost.create(options), reason, "the iommufd interface does not answer as it should");
}

async function legacy(options: ChooseOptions, nodes: Nodes, reason: string): Promise<Chosen> {
  const container = await stateOf(nodes.container);
  if (container === "MISSING") {
    return refused(
      "the legacy VFIO interface is not there",
      `${nodes.container} does not exist: the module vfio is not loaded, or the kernel has no CONFIG_VFIO_CONTAINER`,
      'load the modules vfio_iommu_type1 and vfio-pci, or set host = "iommufd" or "simulated"',
    );
  }
  if (container === "FORBIDDEN") return forbidden(nodes.container);
  const groups = await stateOfAny(nodes.groups);
  if (groups.state === "FORBIDDEN") return forbidden(groups.example);
  return created(await LegacyHost.create(options), reason, "the legacy VFIO interface does not answer as it should");
}

async function simulated(options: ChooseOptions, reason: string): Promise<Chosen> {
  return created(await SimulatedHost.create({ observer: options.observer }), reason, "the simulated devices could not be made");
}

function created(host: Outcome<Host>, reason: string, what: string): Chosen {
  if (host.refusal === null) return { host: host.value, reason, error: null };
  return refused(what, host.refusal.message, "read the operation and errno above; the kernel log may have more");
}

function refused(what: string, why: string, next: string): Chosen {
  return { host: null, reason: null, error: { what, why, next } };
}
