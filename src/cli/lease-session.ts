// A lease that a command holds while it works: acquired, used, and given back whatever happens.

import { ApertureConnectionError } from "../client/errors.js";
import type { ApertureClient, HeldLease, VmmDevices } from "../client/index.js";
import type { CommandCall } from "./command.js";
import { CliError } from "./exit-code.js";
import { leaseTarget, leaseTerms } from "./lease-target.js";
import { printable } from "./printable.js";
import { withProgress } from "./progress.js";
import { warnQuarantined } from "./quarantine-warning.js";
import { readTicket } from "./ticket.js";

/**
 * Runs work with the lease that the call's operands or its ticket name. A failed release is told and changes nothing: the lease ends with this process. prepare runs before the
 * lease is taken, or with a ticket, whose devices are not known before, after it; its answer is given to work.
 */
export async function withLease<T, P = null>(
  call: CommandCall,
  work: (lease: HeldLease, prepared: P | null) => Promise<T>,
  prepare: ((client: ApertureClient, devices: VmmDevices) => Promise<P>) | null = null,
): Promise<T> {
  const timeout = call.timeoutMs === undefined ? {} : { timeoutMs: call.timeoutMs };
  const take = taking(call, timeout);
  return await call.withClient(async (client) => {
    const what = call.operands.length === 0 ? "what the ticket is for" : call.operands.join(" ");
    const early = prepare === null || call.operands.length === 0 ? null : await prepare(client, { addresses: call.operands });
    const lease = await withProgress(call.terminal, `acquiring ${what}`, take(client));
    const stopTelling = lease.onRecalled(({ cause, deadline }) => {
      const why = cause === "DEVICE_REMOVED" ? "a device is leaving the machine" : "its time is over";
      call.terminal.message(
        `aperturectl: the daemon asks for lease ${lease.id} back (${why}) and ends it at ${deadline.toISOString()}`,
        "yellow",
      );
    });
    try {
      return await work(lease, early ?? (prepare === null ? null : await prepare(client, { leaseId: lease.id })));
    } finally {
      stopTelling();
      await giveBack(call, lease, timeout);
    }
  });
}

/** Everything that the command line can have wrong is found here, before the daemon is asked. */
function taking(call: CommandCall, timeout: { readonly timeoutMs?: number }): (client: ApertureClient) => Promise<HeldLease> {
  const from = call.values.get("ticket");
  if (from === undefined) {
    const target = leaseTarget(call);
    const terms = leaseTerms(call);
    return (client) => client.acquire(target, { ...terms, ...timeout });
  }
  const other = ["regions", "mode", "max-duration"].find((option) => call.values.has(option));
  if (call.operands.length > 0 || other !== undefined)
    throw new CliError("usage", `--ticket says it all: leave out ${other === undefined ? "the addresses" : `--${other}`}`);
  const ticket = readTicket(from, process.env);
  return (client) => client.showTicket(ticket, timeout);
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
