// The NUMA nodes of the simulated machine: two sockets, and for each of the two Grace GPUs the eight nodes of its memory, as a machine with two Grace Hopper modules has them.

import type { NumaNode } from "../broker/facts.js";

const SOCKETS = [0, 1] as const;
const INITIATORS = 16;
const PER_GPU = 8;

/** 10 to itself; between the sockets; from a socket to a GPU; inside one GPU; from one GPU to the other. */
const DISTANCE = { self: 10, sockets: 40, toGpu: 80, inGpu: 11, gpus: 160 } as const;

/** Number of the GPU whose node it is; null: a socket. */
function gpuOf(node: number): number | null {
  return node < SOCKETS.length ? null : Math.floor((node - SOCKETS.length) / PER_GPU);
}

function distance(from: number, to: number): number {
  if (from === to) return DISTANCE.self;
  const [a, b] = [gpuOf(from), gpuOf(to)];
  if (a === null && b === null) return DISTANCE.sockets;
  if (a === null || b === null) return DISTANCE.toGpu;
  return a === b ? DISTANCE.inGpu : DISTANCE.gpus;
}

const ALL = Array.from({ length: SOCKETS.length + INITIATORS }, (_, node) => node);

export const SIMULATED_NUMA_NODES: readonly NumaNode[] = ALL.map((id) => ({
  id,
  hasCpus: gpuOf(id) === null,
  hasMemory: gpuOf(id) === null,
  genericInitiator: gpuOf(id) !== null,
  distances: ALL.map((node) => ({ node, distance: distance(id, node) })),
}));
