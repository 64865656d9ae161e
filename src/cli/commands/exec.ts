import { spawn } from "node:child_process";
import { constants } from "node:os";
import type { HeldLease, VmmArguments } from "../../client/index.js";
import { checkPlaceholders, descriptorEnvironment, substituteDescriptors } from "../child-descriptors.js";
import { forwardSignals } from "../child-signals.js";
import type { CommandCall } from "../command.js";
import { cannotStart, checkExecutable } from "../executable.js";
import { CliError } from "../exit-code.js";
import { endedByItself, withLease } from "../lease-session.js";
import { withArguments } from "../vmm-command.js";
import { prepareVmm, vmmOf } from "../vmm-start.js";

/** A shell's way of saying "ended by a signal". */
const SIGNALLED = 128;

export async function run(call: CommandCall): Promise<number> {
  checkPlaceholders(call.command, call.values.has("ticket") ? null : call.operands);
  const vmm = vmmOf(call);
  const [program = ""] = call.command;
  if (!program.includes("@")) checkExecutable(program, process.env["PATH"]);
  return await withLease<number, VmmArguments>(
    call,
    (lease, made) => runChild(call, lease, made),
    vmm === null ? null : (client, devices) => prepareVmm(call, vmm, client, devices),
  );
}

async function runChild(call: CommandCall, lease: HeldLease, made: VmmArguments | null): Promise<number> {
  const infos = lease.descriptors.map(({ info }) => info);
  const lines = made?.fragments.flatMap((fragment) => fragment.lines) ?? [];
  const [program = "", ...args] = substituteDescriptors(withArguments(call.command, lines), infos);
  // A race that a lease which has ended already wins.
  const ended = await Promise.race([lease.ended, null]);
  if (ended !== null) throw new CliError("conflict", `${endedByItself(lease, ended.cause)}, before the command was started`);
  const child = spawn(program, args, {
    // Entries beyond 2 are duplicated into the child without close-on-exec; here the descriptors keep it.
    stdio: ["inherit", "inherit", "inherit", ...lease.descriptors.map(({ descriptor }) => descriptor.borrow())],
    env: { ...process.env, ...descriptorEnvironment(lease.id, infos) },
  });
  const stopForwarding = forwardSignals(child);
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
    stopForwarding();
  }
}

async function tellEnd(call: CommandCall, lease: HeldLease, exited: Promise<number>): Promise<void> {
  const end = await Promise.race([lease.ended, exited.then(() => null)]);
  if (end !== null) call.terminal.message(`aperturectl: ${endedByItself(lease, end.cause)}; the command goes on`, "red");
}
