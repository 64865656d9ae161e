// What `exec --for` does before it starts a VMM: asks the daemon for the arguments and the VMM for its version, and raises the limit of locked memory, all before
// anything is leased where the devices are known by then.

import { spawn } from "node:child_process";
import type { ApertureClient, VmmArguments, VmmDevices, VmmOptions } from "../client/index.js";
import { native } from "../native.js";
import type { CommandCall } from "./command.js";
import { CliError } from "./exit-code.js";
import { printable } from "./printable.js";
import { humanSize } from "./size.js";
import type { Terminal } from "./terminal.js";
import { checkArgsWord, guestMemory, isOlder, isProgramOf, machineOfProgram, versionIn } from "./vmm-command.js";
import { TITLES, vmmOptions } from "./vmm-options.js";

/** A VMM says its version at once; one that does not is not asked any longer. */
const VERSION_MS = 5_000;
const VERSION_BYTES = 4_096;
const NO_LIMIT = 2n ** 64n - 1n;

/** null without --for. Throws CliError (usage). */
export function vmmOf(call: CommandCall): VmmOptions | null {
  const options = vmmOptions(call);
  checkArgsWord(call.command, options);
  if (options === null) return null;
  if (call.values.has("regions")) throw new CliError("usage", "a VMM takes whole devices: leave out --regions, or --for");
  const memory = options.guestMemory ?? guestMemory(options.vmm, call.command);
  const machine = options.machine ?? (options.vmm === "QEMU" ? machineOfProgram(call.command[0] ?? "") : null);
  return { ...options, ...(memory === null ? {} : { guestMemory: memory }), ...(machine === null ? {} : { machine }) };
}

/** Throws ApertureError; CliError (notExecutable) for a VMM that is too old. */
export async function prepareVmm(
  call: CommandCall,
  options: VmmOptions,
  client: ApertureClient,
  devices: VmmDevices,
): Promise<VmmArguments> {
  const made = await client.vmmArguments(options, devices);
  await checkVersion(options.vmm, call.command[0] ?? "", made.leastVersion);
  allowLocking(made, call.terminal);
  return made;
}

async function checkVersion(vmm: VmmOptions["vmm"], program: string, least: string): Promise<void> {
  if (!isProgramOf(vmm, program)) return;
  const version = versionIn(vmm, await printedVersion(program));
  if (version === null || !isOlder(version, least)) return;
  throw new CliError(
    "notExecutable",
    `\`${printable(program)}\` is ${TITLES[vmm]} ${version}, which cannot take these devices by descriptor`,
    `use ${TITLES[vmm]} ${least} or later; no lease is held`,
  );
}

/** What it prints until it ends, has printed enough, or its time is over. */
function printedVersion(program: string): Promise<string> {
  return new Promise((resolve) => {
    const child = spawn(program, ["--version"], { stdio: ["ignore", "pipe", "ignore"] });
    let printed = "";
    const done = (): void => {
      clearTimeout(timer);
      child.stdout.destroy();
      child.kill("SIGKILL");
      resolve(printed);
    };
    const timer = setTimeout(done, VERSION_MS);
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      printed += text;
      if (printed.length >= VERSION_BYTES) done();
    });
    // What cannot be started at all is told when it is started in earnest.
    child.once("error", done);
    child.once("close", done);
  });
}

/** Children inherit the limit. A guest's memory is pinned whole, and without the limit the VMM dies with ENOMEM when it maps it. */
function allowLocking({ memlock }: VmmArguments, terminal: Terminal): void {
  if (memlock === null) {
    terminal.message(
      "aperturectl: RLIMIT_MEMLOCK is left as it is, because the guest's memory is not known: --guest-memory tells it",
      "yellow",
    );
    return;
  }
  const raised = native.raiseMemlock(memlock.bytes);
  if (raised.error === null && raised.value[0] >= memlock.bytes) return;
  const has = raised.error === null ? limitWords(raised.value[0]) : `unknown (${raised.error.operation}: ${raised.error.code})`;
  terminal.message(
    `aperturectl: the VMM needs RLIMIT_MEMLOCK of ${memlock.bytes} bytes (${humanSize(memlock.bytes)}: ${printable(memlock.source)}), unless it has CAP_IPC_LOCK; the limit is ${has}, and only root may raise it: ` +
      `LimitMEMLOCK=${memlock.bytes} in the unit, or \`memlock\` in /etc/security/limits.conf. The command is started nevertheless`,
    "yellow",
  );
}

function limitWords(bytes: bigint): string {
  return bytes === NO_LIMIT ? "none" : humanSize(bytes);
}
