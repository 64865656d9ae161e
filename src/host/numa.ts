// The NUMA nodes of the machine, and which of them stand for which Grace GPU. A Grace GPU brings memory nodes that the firmware describes as generic initiators; a guest needs as many of its own,
// with the same distances, or the GPU's memory cannot be brought online in it. No kernel interface says which node belongs to which GPU.

import { join } from "node:path";
import { type Address, parseAddress } from "../broker/device.js";
import type { ExtendedGpuMemory, GenericInitiators, NumaDistance, NumaNode } from "../broker/facts.js";
import type { FolderEntry } from "../native.js";
import type { FolderReader } from "./folder-reader.js";

/** Instances that the memory of one GPU can be split into (MIG), each with a node of its own. */
const NODES_PER_GPU = 8;
/** 1 << CONFIG_NODES_SHIFT, whose largest value is 10. */
const MOST_NODES = 1024;

export interface NumaTopology {
  /** Ordered. */
  readonly nodes: readonly NumaNode[];
  readonly extendedMemory: readonly ExtendedGpuMemory[];
}

export const NO_TOPOLOGY: NumaTopology = { nodes: [], extendedMemory: [] };

const text = (name: string): FolderEntry => ({ kind: "text", name });
const names = (name: string): FolderEntry => ({ kind: "names", name });

const NODE_STATES: readonly FolderEntry[] = [text("online"), text("has_cpu"), text("has_memory"), text("has_generic_initiator")];

export async function readTopology(reader: FolderReader, sysRoot: string): Promise<NumaTopology> {
  const system = join(sysRoot, "devices/system");
  const states: (string | null)[] = [];
  await reader.read(system, ["node"], NODE_STATES, (_folder, walk) => {
    for (const _ of NODE_STATES) states.push(walk.text());
    walk.unreadable();
  });
  const [online = null, cpus = null, memory = null, initiators = null] = states.map(nodeList);
  const rows = new Map<number, readonly number[] | null>();
  const folders = (online ?? []).map((node) => `node${node}`);
  await reader.read(join(system, "node"), folders, [text("distance")], (folder, walk) => {
    rows.set(Number(folder.slice("node".length)), rowOf(walk.text()));
    walk.unreadable();
  });
  return {
    nodes: (online ?? []).map((id) => ({
      id,
      hasCpus: cpus?.includes(id) ?? null,
      hasMemory: memory?.includes(id) ?? null,
      genericInitiator: initiators?.includes(id) ?? null,
      distances: distancesOf(rows.get(id) ?? null, online ?? []),
    })),
    extendedMemory: await readExtendedMemory(reader, sysRoot),
  };
}

/** `0-1,4` (bitmap_print_to_pagebuf); "" is none. null: it makes no sense, or is not there. */
export function nodeList(text: string | null): readonly number[] | null {
  if (text === null) return null;
  const nodes: number[] = [];
  for (const part of text === "" ? [] : text.split(",")) {
    const { first, last = first } = /^(?<first>\d{1,4})(?:-(?<last>\d{1,4}))?$/.exec(part)?.groups ?? {};
    if (first === undefined || last === undefined || Number(last) < Number(first) || Number(last) >= MOST_NODES) return null;
    for (let node = Number(first); node <= Number(last); node += 1) nodes.push(node);
  }
  return nodes;
}

function rowOf(text: string | null): readonly number[] | null {
  return text !== null && /^\d{1,3}( \d{1,3})*$/.test(text.trim()) ? text.trim().split(" ").map(Number) : null;
}

/** One number for each node that is online, in their order (drivers/base/node.c node_read_distance). */
function distancesOf(row: readonly number[] | null, online: readonly number[]): readonly NumaDistance[] {
  if (row === null || row.length !== online.length) return [];
  return online.map((node, index) => ({ node, distance: row[index] ?? 0 }));
}

/** nvgrace-egm's: a folder for each socket, with a link to each GPU, or a file that lists them. */
async function readExtendedMemory(reader: FolderReader, sysRoot: string): Promise<readonly ExtendedGpuMemory[]> {
  let found: readonly string[] = [];
  await reader.read(join(sysRoot, "class"), ["egm"], [names("")], (_folder, walk) => {
    found = (walk.names() ?? []).filter((name) => /^egm\d{1,4}$/.test(name)).sort();
    walk.unreadable();
  });
  const all: ExtendedGpuMemory[] = [];
  await reader.read(join(sysRoot, "class/egm"), found, [text("egm_size"), text("gpu_devices"), names("")], (name, walk) => {
    const size = walk.text();
    const listed = (walk.text() ?? "").split(/[\s,]+/);
    const gpus = [...listed, ...(walk.names() ?? [])].map(parseAddress).filter((address) => address !== null);
    walk.unreadable();
    all.push({ name, size: sizeOf(size), gpus: [...new Set(gpus)].sort() });
  });
  return all;
}

function sizeOf(text: string | null): bigint | null {
  return text !== null && /^(0x[0-9a-f]{1,16}|\d{1,20})$/i.test(text) ? BigInt(text) : null;
}

/**
 * By the only rule there is: 8 nodes for each GPU of the host, both in order. Where the numbers do not fit (a GPU that does not show, nodes of something else) nothing is
 * known of any. gpus: ordered.
 */
export function initiatorsOf(nodes: readonly NumaNode[], gpus: readonly Address[]): ReadonlyMap<Address, GenericInitiators> {
  const told = nodes.some(({ genericInitiator }) => genericInitiator !== null);
  const found = nodes.filter(({ hasCpus, hasMemory, genericInitiator }) =>
    told ? genericInitiator === true : hasCpus === false && hasMemory === false,
  );
  if (gpus.length === 0 || found.length !== gpus.length * NODES_PER_GPU) return new Map();
  const how = told ? "has_generic_initiator" : "nodes without processors and memory";
  const source = `/sys/devices/system/node: ${how}; ${NODES_PER_GPU} for each of ${gpus.length} Grace GPU${gpus.length === 1 ? "" : "s"}, in order`;
  return new Map(
    gpus.map((gpu, index) => {
      const own = found.slice(index * NODES_PER_GPU, (index + 1) * NODES_PER_GPU);
      return [gpu, { nodes: own.map(({ id }) => id), source }];
    }),
  );
}
