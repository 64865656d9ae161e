// How the reasons of tickets and successors are brought about.

import { LeaseBench } from "../harness/lease-bench.js";
import { LeaseService } from "../harness/rpc.js";
import { asked, attached, type Daemons, NVME, type Provocation, type Target, type Told } from "./provocation.js";

const CONFIG = '[[policy]]\nname = "all"\ndevice = "*"\nmode = ["hand_off", "retain"]\ndelegate = true\n';

/** Shows a ticket from this process, and says what came back. */
async function shown(target: Target, ticket: Uint8Array): Promise<Told> {
  const channel = await attached(target);
  channel.show(ticket);
  const arrived = await channel.next();
  if (arrived?.frame.type === "REFUSED") return { by: "refused", reason: arrived.frame.reason };
  throw new Error(`${arrived?.frame.type ?? "the end"} came`);
}

function onTicket(bring: (bench: LeaseBench, target: Target) => Promise<Uint8Array>): Provocation {
  return {
    rung: "daemon",
    provoke: async (daemons: Daemons) => {
      const daemon = await daemons.process(CONFIG);
      return [await shown(daemon, await bring(await LeaseBench.at(daemon), daemon))];
    },
  };
}

function onSuccessor(mode: string, held: boolean): Provocation {
  return {
    rung: "daemon",
    provoke: async (daemons: Daemons) => {
      const daemon = await daemons.process(CONFIG);
      const bench = await LeaseBench.at(daemon);
      const channel = await attached(daemon);
      const { frame } = held ? await bench.held(channel, NVME, { mode }) : await bench.offered(channel, NVME, { mode });
      return [asked(await bench.rpc.call(LeaseService, "NameSuccessor", { leaseId: frame.leaseId }))];
    },
  };
}

export const TICKET_PROVOCATIONS = {
  LEASE_NOT_RETAINED: onSuccessor("LEASE_MODE_HAND_OFF", true),
  LEASE_NOT_HELD: onSuccessor("LEASE_MODE_RETAIN", false),
  TICKET_EXPIRED: onTicket(async (bench) => {
    const { id, ticket } = await bench.reserved(NVME);
    await bench.release(id);
    return ticket;
  }),
  TICKET_USED: onTicket(async (bench, target) => {
    const { ticket } = await bench.reserved(NVME);
    const channel = await attached(target);
    channel.show(ticket);
    const { frame, descriptors } = await channel.offer();
    channel.acknowledge(frame.leaseId, descriptors.length);
    return ticket;
  }),
  TICKET_OTHER_USER: onTicket(async (bench) => (await bench.reserved(NVME, { ticket: { uid: 4_000_000 } })).ticket),
  TICKET_UNKNOWN: {
    rung: "daemon",
    provoke: async (daemons) => {
      const channel = await attached(daemons.common());
      channel.show(new Uint8Array(16));
      return [{ by: "goodbye", reason: await channel.goodbye() }];
    },
  },
} as const satisfies Readonly<Record<string, Provocation>>;
