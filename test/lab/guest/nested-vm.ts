// A QEMU inside the guest, started by `aperturectl exec` as a user who may open nothing of VFIO, with the lab's own kernel. A shell answers on its serial line.

import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process";
import { once } from "node:events";
import { chmodSync, chownSync, copyFileSync, mkdtempSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { CLI } from "../../harness/cli.js";
import { daemonEnvironment } from "../../harness/daemon.js";
import { Lines } from "../../harness/lines.js";
import { packInitrd } from "../initrd.js";

/** Who runs it. */
export const VMM_UID = 65534;

/** Emulation inside emulation. */
const BOOT_MS = 600_000;
const ANSWER_MS = 120_000;

const RAM_MIB = 128;
/** Of QEMU's process: the guest's memory, and as much again for what else is mapped for devices. */
const MEMLOCK = 2 * RAM_MIB * 1024 * 1024;

/** What of the kernel's start takes longest and serves nothing here is left out: two thirds of its time. */
const KERNEL_ARGUMENTS = [
  "console=ttyS0 quiet loglevel=3 panic=-1 oops=panic nowatchdog mitigations=off intel_iommu=off",
  "pty.legacy_count=0 loop.max_loop=0",
  // A virtual function stays what it is plugged in as: a device that nobody uses.
  "initcall_blacklist=igbvf_init_module,param_sysfs_builtin_init,slab_late_init",
];

/**
 * Its clock goes with its instructions, 64 ns each. By the clock on the wall a machine this slow gets the next timer interrupt before it has done with the last, and hardly anything else,
 * or the first one before the kernel is ready for it.
 */
const PROCESSOR = ["-accel", "tcg,thread=single", "-icount", "shift=6", "-cpu", "Nehalem"];

/** The command line that runs these words as the VMM's user, with the memory that a VMM needs. */
export function asVmm(words: readonly string[]): readonly [string, readonly string[]] {
  const identity = [`--reuid=${VMM_UID}`, `--regid=${VMM_UID}`, "--clear-groups"];
  return ["prlimit", [`--memlock=${MEMLOCK}:${MEMLOCK}`, "setpriv", ...identity, ...words]];
}

/** A folder of the VMM's user. */
export function vmmFolder(): string {
  const folder = mkdtempSync("/tmp/vmm-");
  chmodSync(folder, 0o755);
  chownSync(folder, VMM_UID, VMM_UID);
  return folder;
}

/** aperturectl as the VMM's user. */
export function spawnAsVmm(socket: string, args: readonly string[]): ChildProcessWithoutNullStreams {
  const [command, words] = asVmm([process.execPath, CLI, "--socket", socket, "--timeout", "120", ...args]);
  return spawn(command, words, { env: daemonEnvironment() });
}

export class NestedVm {
  readonly folder: string;
  /** A monitor for whoever connects first. */
  readonly qmpSocket: string;
  readonly #child: ChildProcessWithoutNullStreams;
  readonly #serial: Lines;
  readonly #messages: Lines;

  private constructor(folder: string, child: ChildProcessWithoutNullStreams) {
    this.folder = folder;
    this.qmpSocket = join(folder, "qmp");
    this.#child = child;
    this.#serial = new Lines(child.stdout);
    this.#messages = new Lines(child.stderr);
  }

  /** Leases the devices, starts QEMU on them, and waits for its guest. args: QEMU's, with the words of `exec`. */
  static async start(socket: string, addresses: readonly string[], args: readonly string[]): Promise<NestedVm> {
    const folder = vmmFolder();
    const [kernel, initrd] = [join(folder, "kernel"), join(folder, "initrd")];
    copyFileSync(process.env["APERTURE_LAB_KERNEL"] ?? "", kernel);
    const init = fileURLToPath(new URL("../../../../test/lab/inner-init.sh", import.meta.url));
    writeFileSync(initrd, await packInitrd({ busybox: "/bin/busybox", init, modules: [] }));
    for (const file of [kernel, initrd]) chmodSync(file, 0o644);
    const qemu = [
      ...["qemu-system-x86_64", "-nodefaults", "-display", "none", "-no-reboot"],
      ...["-M", "q35,sata=off,smbus=off,vmport=off,hpet=off,i8042=off", ...PROCESSOR, "-m", `${RAM_MIB}M`],
      ...["-kernel", kernel, "-initrd", initrd, "-append", KERNEL_ARGUMENTS.join(" "), "-serial", "stdio"],
      ...["-qmp", `unix:${join(folder, "qmp")},server=on,wait=off`],
      ...args,
    ];
    const vm = new NestedVm(folder, spawnAsVmm(socket, ["exec", ...addresses, "--", ...qemu]));
    await vm.#until("inner: ready", BOOT_MS);
    return vm;
  }

  /** Runs a line of shell in the inner guest; what it printed. Throws when its status is not 0. */
  async say(line: string): Promise<readonly string[]> {
    this.#child.stdin.write(`${line}\n`);
    const printed = await this.#until("inner: done ", ANSWER_MS);
    const status = printed.pop()?.slice("inner: done ".length);
    if (status !== "0") throw new Error(`${line}: status ${status}\n${printed.join("\n")}`);
    return printed;
  }

  /** The inner guest's own end, and with it QEMU's and the lease's. Exit status of aperturectl. */
  async powerOff(): Promise<number | null> {
    this.#child.stdin.write("poweroff -f\n");
    return await this.ended();
  }

  async ended(): Promise<number | null> {
    if (this.#child.exitCode === null && this.#child.signalCode === null) await once(this.#child, "exit");
    return this.#child.exitCode;
  }

  get running(): boolean {
    return this.#child.exitCode === null && this.#child.signalCode === null;
  }

  /** Whatever was said on stderr, by aperturectl and by QEMU. */
  get messages(): readonly string[] {
    return this.#messages.all;
  }

  async kill(): Promise<void> {
    if (!this.running) return;
    this.#child.kill("SIGTERM");
    await this.ended();
  }

  /** Lines up to and with the one that begins so. */
  async #until(prefix: string, deadlineMs: number): Promise<string[]> {
    const deadline = performance.now() + deadlineMs;
    const seen: string[] = [];
    for (;;) {
      const line = await this.#serial.next(Math.max(1, deadline - performance.now()));
      if (line === null) throw new Error(`the VM ended before "${prefix}":\n${[...this.#serial.all, ...this.#messages.all].join("\n")}`);
      seen.push(line.replaceAll("\r", ""));
      if (seen.at(-1)?.startsWith(prefix)) return seen;
    }
  }
}
