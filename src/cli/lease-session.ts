// A lease that a command holds while it works: acquired, used, and given back whatever happens.

import { ApertureConnectionError } from "../client/errors.js";
import type { HeldLease } from "../client/index.js";
import type { CommandCall } from "./command.js";
import { leaseTarget } from "./lease-target.js";
import { printable } from "./printable.js";
import { withProgress } from "./progress.js";
import { warnQuarantined } from "./quarantine-warning.js";

/** Runs work with the lease that the call's operands name. A failed release is told and changes nothing: the lease ends with this process. */
export async function withLease<T>(call: CommandCall, work: (lease: HeldLease) => Promise<T>): Promise<T> {
  const target = leaseTarget(call);
  const timeout = call.timeoutMs === undefined ? {} : { timeoutMs: call.timeoutMs };
  return await call.withClient(async (client) => {
    const lease = await withProgress(call.terminal, `acquiring ${call.operands.join(" ")}`, client.acquire(target, timeout));
    try {
      return await work(lease);
    } finally {
      await giveBack(call, lease, timeout);
    }
  });
}

async function giveBack(call: CommandCall, lease: HeldLease, timeout: { readonly timeoutMs?: number }): Promise<void> {
  try {
    warnQuarantined(await withProgress(call.terminal, releasing(lease.id), lease.release(timeout)), call.terminal);
  } catch (error) {
    // The end of the daemon has been told already, by the end of its channel.
    if (error instanceof ApertureConnectionError) return;
    const why = error instanceof Error ? error.message : String(error);
    call.terminal.message(`aperturectl: lease ${lease.id} was not released, it ends with this process: ${printable(why)}`, "yellow");
  }
}

/** What the wait is for when a lease ends. */
export function releasing(leaseId: string): string {
  return `releasing lease ${leaseId}: its devices are proven free and reset`;
}

/** Words for a lease that ended although nobody here asked for it. */
export function endedByItself(lease: HeldLease, cause: string): string {
  return cause === "CHANNEL_CLOSED"
    ? `the daemon is gone; what becomes of lease ${lease.id} is told by \`aperturectl leases\` when it is back`
    : `lease ${lease.id} has ended: ${cause}`;
}
