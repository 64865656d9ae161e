import type { HeldLease } from "../../client/index.js";
import { IommufdSocket, type IommufdTaker } from "../../push/index.js";
import type { CommandCall } from "../command.js";
import { CliError, EXIT } from "../exit-code.js";
import { interruption } from "../interruption.js";
import { endedByItself, withLease } from "../lease-session.js";
import { seconds } from "../lease-target.js";
import { writeOne } from "../output.js";
import { printable } from "../printable.js";

export async function run(call: CommandCall): Promise<number> {
  // Before a device is taken, and reset, for a socket that cannot be made.
  const socket = IommufdSocket.listen(socketOptions(call));
  const interrupted = interruption();
  try {
    return await withLease(call, (lease) => serve(call, lease, socket, interrupted.first));
  } finally {
    interrupted.stop();
    socket.close();
  }
}

/** Throws CliError (usage). */
function socketOptions({ values }: CommandCall): Parameters<typeof IommufdSocket.listen>[0] {
  const path = values.get("at");
  if (path === undefined) throw new CliError("usage", "where? Name the socket's path with --at");
  const [owner, permissions] = [values.get("owner"), values.get("permissions")];
  if (owner !== undefined && !/^\d{1,9}$/.test(owner)) throw new CliError("usage", `--owner: \`${printable(owner)}\` is no user's number`);
  if (permissions !== undefined && !/^0?[0-7]{3}$/.test(permissions))
    throw new CliError("usage", `--permissions: \`${printable(permissions)}\` is no mode`, "three octal digits, for example 660");
  const takeMs = seconds(values.get("wait"), "wait");
  return {
    path,
    ...(owner === undefined ? {} : { owner: Number(owner) }),
    ...(permissions === undefined ? {} : { mode: Number.parseInt(permissions, 8) }),
    ...(takeMs === undefined ? {} : { takeMs }),
  };
}

async function serve(call: CommandCall, lease: HeldLease, socket: IommufdSocket, interrupted: Promise<void>): Promise<number> {
  call.terminal.message(`lease ${lease.id}: waiting at ${socket.path} for who takes its iommufd`);
  const asked = interrupted.then(() => null);
  const given = socket.give(lease);
  // Whatever wins, the other may fail afterwards.
  given.catch(() => undefined);
  const taker = await Promise.race([given, asked, lease.ended]);
  if (taker === null) return EXIT.ok.code;
  if ("cause" in taker) return endedEarly(call, lease, taker.cause);
  await show(call, lease, socket, taker);
  const end = await Promise.race([asked, lease.ended]);
  return end === null ? EXIT.ok.code : endedEarly(call, lease, end.cause);
}

async function show(call: CommandCall, lease: HeldLease, socket: IommufdSocket, taker: IommufdTaker): Promise<void> {
  const value = { id: lease.id, path: socket.path, taker };
  await writeOne(
    call.terminal,
    call.format,
    { value, name: lease.id },
    () => `process ${taker.pid} of user ${taker.uid} has the iommufd\n`,
  );
  call.terminal.message(`holding lease ${lease.id} in process ${process.pid}; Ctrl-C or SIGTERM gives it back`);
}

function endedEarly(call: CommandCall, lease: HeldLease, cause: string): number {
  call.terminal.message(`aperturectl: ${endedByItself(lease, cause)}`, "red");
  return cause === "CHANNEL_CLOSED" ? EXIT.unavailable.code : EXIT.conflict.code;
}
