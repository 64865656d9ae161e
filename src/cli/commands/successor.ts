import type { CommandCall } from "../command.js";
import { EXIT } from "../exit-code.js";
import { ticketOptions } from "../lease-target.js";
import { writeTicket } from "../ticket.js";

export async function run(call: CommandCall): Promise<number> {
  const [leaseId = ""] = call.operands;
  const options = ticketOptions(call);
  await writeTicket(call, await call.withClient((client) => client.nameSuccessor(leaseId, options)));
  return EXIT.ok.code;
}
