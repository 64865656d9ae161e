import type { CommandCall } from "../command.js";
import { EXIT } from "../exit-code.js";
import { leaseTarget, leaseTerms, ticketOptions } from "../lease-target.js";
import { writeTicket } from "../ticket.js";

export async function run(call: CommandCall): Promise<number> {
  const target = leaseTarget(call);
  const timeout = call.timeoutMs === undefined ? {} : { timeoutMs: call.timeoutMs };
  const options = { ...leaseTerms(call), ...timeout };
  const ticket = ticketOptions(call);
  await writeTicket(call, await call.withClient((client) => client.reserve(target, ticket, options)));
  return EXIT.ok.code;
}
