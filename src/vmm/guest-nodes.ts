// The guest's NUMA nodes that stand for a device's generic initiators, and the distances between all nodes of the guest. Each guest node stands for one node of the host, and
// distances are the host's own rows.

import type { KnownDevice } from "../broker/ports.js";
import { granted, type Outcome, refuse } from "../broker/refusal.js";
import type { GuestNode, VmmHost, VmmOptions, VmmValue } from "../broker/vmm.js";

/** MAX_NODES of QEMU; libvirt and Cloud Hypervisor have no lower bound of their own. */
const MOST_NODES = 128;

export interface GuestNodes {
  /** With processors or memory: the guest's own. */
  readonly own: readonly GuestNode[];
  /** For each device, in order: its generic initiators. */
  readonly initiators: readonly (readonly GuestNode[])[];
  /** Between all of them; null: there is nothing to say, or whyNoDistances. */
  readonly distances: Distances | null;
  readonly whyNoDistances: string | null;
}

export interface Distances {
  readonly between: (from: number, to: number) => number;
  /** Every distance is the same both ways. */
  readonly symmetrical: boolean;
  /** Guest nodes, ascending. */
  readonly nodes: readonly number[];
}

export function guestNodes(options: VmmOptions, devices: readonly KnownDevice[], host: VmmHost): Outcome<GuestNodes> {
  const own = options.guestNodes.length > 0 ? options.guestNodes : defaultNodes(devices);
  let next = Math.max(-1, ...own.map(({ guest }) => guest)) + 1;
  // A guest whose own nodes are not known has at least node 0.
  if (own.length === 0) next = 1;
  const initiators = devices.map(({ facts }) =>
    (facts.genericInitiators?.nodes ?? []).map((node): GuestNode => {
      const guest = next;
      next += 1;
      return { guest, host: node };
    }),
  );
  if (next > MOST_NODES)
    return refuse("INVALID_FIELD", `guest_nodes: the guest would have node ${next - 1}, and a guest has at most ${MOST_NODES} nodes`, {
      field: "guest_nodes",
    });
  if (initiators.every((nodes) => nodes.length === 0)) return granted({ own, initiators, distances: null, whyNoDistances: null });
  return granted({ own, initiators, ...distancesOf(own, initiators.flat(), host) });
}

function defaultNodes(devices: readonly KnownDevice[]): readonly GuestNode[] {
  const host = devices.find(({ facts }) => facts.genericInitiators !== null)?.facts.numaNode ?? null;
  return host === null ? [] : [{ guest: 0, host }];
}

function distancesOf(
  own: readonly GuestNode[],
  initiators: readonly GuestNode[],
  host: VmmHost,
): Pick<GuestNodes, "distances" | "whyNoDistances"> {
  if (own.length === 0)
    return {
      distances: null,
      whyNoDistances: "which node of the host the guest's own nodes stand for: the kernel knows no node of the device",
    };
  const all = [...own, ...initiators];
  const rows = new Map(host.numaNodes.map(({ id, distances }) => [id, new Map(distances.map(({ node, distance }) => [node, distance]))]));
  const matrix = new Map<string, number>();
  for (const from of all)
    for (const to of all) {
      const real = rows.get(from.host)?.get(to.host);
      if (real === undefined)
        return { distances: null, whyNoDistances: `the kernel shows no distance from node ${from.host} to node ${to.host}` };
      matrix.set(`${from.guest} ${to.guest}`, guestDistance(real, from.guest === to.guest));
    }
  const between = (from: number, to: number): number => matrix.get(`${from} ${to}`) ?? 0;
  const nodes = all.map(({ guest }) => guest).sort((a, b) => a - b);
  const symmetrical = nodes.every((from) => nodes.every((to) => between(from, to) === between(to, from)));
  return { distances: { between, symmetrical, nodes }, whyNoDistances: null };
}

/** A guest throws away a whole table in which two different nodes are 10 apart (drivers/acpi/numa/srat.c slit_valid), and hosts have such rows: two guest nodes may stand for one node of the host too. */
function guestDistance(real: number, self: boolean): number {
  if (self) return 10;
  return real <= 10 ? 11 : real;
}

/** Where the nodes and distances come from, for each device that has initiators. */
export function nodeValues(devices: readonly KnownDevice[], nodes: GuestNodes): readonly VmmValue[] {
  const initiators = devices.flatMap(({ facts }, index): readonly VmmValue[] => {
    const guests = nodes.initiators[index] ?? [];
    if (facts.genericInitiators === null || guests.length === 0) return [];
    return [
      {
        name: `guest nodes ${range(guests.map(({ guest }) => guest))}`,
        value: `nodes ${range(facts.genericInitiators.nodes)} of the host`,
        source: facts.genericInitiators.source,
      },
    ];
  });
  if (nodes.distances === null) return initiators;
  const stands = nodes.own.map(({ guest, host }) => `guest node ${guest} stands for node ${host} of the host`).join(", ");
  const source = `/sys/devices/system/node/nodeN/distance; ${stands}; 10 between different nodes becomes 11, which guests ask for`;
  return [...initiators, { name: "distances", value: `between ${nodes.distances.nodes.length} nodes`, source }];
}

/** `2-9`, or `2,5`. */
export function range(nodes: readonly number[]): string {
  const [first = 0] = nodes;
  const last = nodes.at(-1) ?? first;
  return nodes.length > 1 && last - first === nodes.length - 1 ? `${first}-${last}` : nodes.join(",");
}
