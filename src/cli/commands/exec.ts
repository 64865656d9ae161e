import { spawn } from "node:child_process";
import { constants } from "node:os";
import type { HeldLease } from "../../client/index.js";
import { descriptorEnvironment, substituteDescriptors } from "../child-descriptors.js";
import type { CommandCall } from "../command.js";
import { CliError } from "../exit-code.js";
import { endedByItself, withLease } from "../lease-session.js";

const FORWARDED = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

/** A shell's way of saying "ended by a signal". */
const SIGNALLED = 128;

export async function run(call: CommandCall): Promise<number> {
  return await withLease(call, (lease) => runChild(call, lease));
}

async function runChild(call: CommandCall, lease: HeldLease): Promise<number> {
  const infos = lease.descriptors.map(({ info }) => info);
  const [program = "", ...args] = substituteDescriptors(call.command, infos);
  const child = spawn(program, args, {
    // Entries beyond 2 are duplicated into the child without close-on-exec; here the descriptors keep it.
    stdio: ["inherit", "inherit", "inherit", ...lease.descriptors.map(({ descriptor }) => descriptor.borrow())],
    env: { ...process.env, ...descriptorEnvironment(lease.id, infos) },
  });
  const forward = (signal: NodeJS.Signals): void => {
    // The terminal has sent Ctrl-C to the child too, which shares this process's group: twice would be taken for impatience.
    if (signal !== "SIGINT" || !process.stdin.isTTY) child.kill(signal);
  };
  for (const signal of FORWARDED) process.on(signal, forward);
  try {
    const exited = new Promise<number>((resolve, reject) => {
      child.once("error", (error: NodeJS.ErrnoException) => reject(cannotStart(program, error)));
      child.once("exit", (code, signal) => resolve(code ?? SIGNALLED + (signal === null ? 0 : constants.signals[signal])));
    });
    // The child has its copies since spawn() returned; the device is the child's alone from here on.
    // A failure to close is told by the release, which waits for the same close.
    lease.closeDescriptors().catch(() => undefined);
    const [status] = await Promise.all([exited, tellEnd(call, lease, exited)]);
    return status;
  } finally {
    for (const signal of FORWARDED) process.off(signal, forward);
  }
}

async function tellEnd(call: CommandCall, lease: HeldLease, exited: Promise<number>): Promise<void> {
  const end = await Promise.race([lease.ended, exited.then(() => null)]);
  if (end !== null) call.terminal.message(`${endedByItself(lease, end.cause)}; the command goes on`, "red");
}

function cannotStart(program: string, error: NodeJS.ErrnoException): CliError {
  if (error.code === "ENOENT") return new CliError("commandNotFound", `there is no command ${program} (ENOENT)`, "the lease is given back");
  return new CliError("notExecutable", `${program} cannot be executed: ${error.message}`, "the lease is given back");
}
