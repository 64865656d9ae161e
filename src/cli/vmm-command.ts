// A VMM's command line as its user wrote it: what can be read of it without being that VMM. Pure text.

import { basename } from "node:path";
import type { VmmOptions } from "../client/index.js";
import { CliError } from "./exit-code.js";
import { bytesOf, TITLES } from "./vmm-options.js";

/** Where a VMM's arguments go: this word, as a whole argument. Written @@args it is plain. */
export const ARGS = "@args";

/** Throws CliError (usage) when --for and @args do not go together. */
export function checkArgsWord(command: readonly string[], options: VmmOptions | null): void {
  const count = command.filter((argument) => argument === ARGS).length;
  if (options === null) {
    if (count > 0)
      throw new CliError(
        "usage",
        `${ARGS} stands for the arguments of a VMM, which --for names`,
        `or write \`@${ARGS}\` for a plain \`${ARGS}\``,
      );
    return;
  }
  const { vmm } = options;
  if (vmm !== "QEMU" && vmm !== "CLOUD_HYPERVISOR")
    throw new CliError(
      "usage",
      `${TITLES[vmm]} takes no descriptors on a command line`,
      `\`aperturectl args --for ${vmm.toLowerCase()} ADDRESS\` prints what it takes instead`,
    );
  if (command[0] === ARGS) throw new CliError("usage", `${ARGS} stands for arguments, not for the command`);
  if (count !== 1)
    throw new CliError(
      "usage",
      `--for puts arguments where ${ARGS} stands, which has to be one argument of COMMAND; there are ${count}`,
      `for example -- qemu-system-x86_64 -m 4G ${ARGS}`,
    );
}

/** The command with the arguments in place of their word. */
export function withArguments(command: readonly string[], lines: readonly string[]): readonly string[] {
  return command.flatMap((argument) => (argument === ARGS ? lines : argument === `@${ARGS}` ? [ARGS] : [argument]));
}

/** Bytes of the guest's memory, when the command says it plainly: once, and nothing that can grow. */
export function guestMemory(vmm: VmmOptions["vmm"], command: readonly string[]): bigint | null {
  const option = vmm === "QEMU" ? /^--?m$/ : vmm === "CLOUD_HYPERVISOR" ? /^--memory(?:=(?<inline>.*))?$/s : null;
  if (option === null) return null;
  const given = command.flatMap((argument, index) => {
    const match = option.exec(argument);
    return match === null ? [] : [match.groups?.["inline"] ?? command[index + 1] ?? ""];
  });
  const [value] = given;
  if (value === undefined || given.length !== 1) return null;
  const parts = value.split(",");
  if (vmm === "QEMU") {
    const [only = ""] = parts;
    return parts.length === 1 ? bytesOf(only.replace(/^size=/, ""), "m") : null;
  }
  const size = parts.find((part) => part.startsWith("size="))?.slice("size=".length);
  return size === undefined || parts.some((part) => part.startsWith("hotplug")) ? null : bytesOf(size);
}

/** By the name of the program; null: it does not say. */
export function machineOfProgram(program: string): "Q35" | "VIRT" | null {
  const name = basename(program);
  if (/^qemu-system-(aarch64|arm)/.test(name)) return "VIRT";
  return /^qemu-system-(x86_64|i386)/.test(name) ? "Q35" : null;
}

/** Whether the program is that VMM itself, so that it can be asked for its version: a script of the user's must not be run for that. */
export function isProgramOf(vmm: VmmOptions["vmm"], program: string): boolean {
  const name = basename(program);
  return vmm === "QEMU"
    ? /^(qemu-system-[\w-]+|qemu-kvm|kvm)$/.test(name)
    : vmm === "CLOUD_HYPERVISOR" && /^cloud-hypervisor(-static)?$/.test(name);
}

/** `9.2` of what `--version` prints; null: it says nothing that is known. */
export function versionIn(vmm: VmmOptions["vmm"], printed: string): string | null {
  const pattern = vmm === "QEMU" ? /^QEMU emulator version (\d{1,4}\.\d{1,4})/m : /^cloud-hypervisor v(\d{1,4}\.\d{1,4})/m;
  return pattern.exec(printed)?.[1] ?? null;
}

export function isOlder(version: string, than: string): boolean {
  const [major = 0, minor = 0] = version.split(".").map(Number);
  const [leastMajor = 0, leastMinor = 0] = than.split(".").map(Number);
  return major < leastMajor || (major === leastMajor && minor < leastMinor);
}
