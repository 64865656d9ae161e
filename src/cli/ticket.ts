// Tickets on the command line: 32 hexadecimal digits. Read from where only their owner can see them, because every user can read the arguments of a process.

import { readFileSync } from "node:fs";
import type { LeaseTicket } from "../client/index.js";
import type { CommandCall } from "./command.js";
import { CliError } from "./exit-code.js";
import { writeOne } from "./output.js";
import { printable } from "./printable.js";

const TICKET = /^[0-9a-f]{32}$/;

/** from: a file, `-` for stdin, `env` for APERTURE_TICKET. Throws CliError (usage). */
export function readTicket(from: string, env: NodeJS.ProcessEnv): Uint8Array {
  if (TICKET.test(from))
    throw new CliError(
      "usage",
      "--ticket takes no ticket: `ps` would show it to every user",
      "put it into a file, or into APERTURE_TICKET",
    );
  const text = (from === "env" ? (env["APERTURE_TICKET"] ?? "") : read(from)).trim();
  if (TICKET.test(text)) return Buffer.from(text, "hex");
  const where = from === "env" ? "APERTURE_TICKET" : from === "-" ? "stdin" : printable(from);
  throw new CliError("usage", `there is no ticket in ${where}: it is 32 hexadecimal digits, as \`aperturectl reserve\` prints them`);
}

function read(from: string): string {
  try {
    return readFileSync(from === "-" ? 0 : from, "latin1");
  } catch (error) {
    const { code = "unreadable" } = error as NodeJS.ErrnoException;
    throw new CliError("usage", `--ticket: ${printable(from)} cannot be read: ${code}`);
  }
}

/** The ticket on stdout, in every format; what it is for on stderr, where a pipe does not take it along. */
export async function writeTicket(call: CommandCall, { lease, ticket }: LeaseTicket): Promise<void> {
  const hex = Buffer.from(ticket).toString("hex");
  const value = { ticket: hex, leaseId: lease.id, expireTime: lease.ticketExpireTime };
  await writeOne(call.terminal, call.format, { value, name: hex }, () => `${hex}\n`);
  const until = lease.ticketExpireTime?.toISOString() ?? "its time is over";
  call.terminal.message(`ticket for lease ${lease.id}, to be used once, until ${until}`);
}
