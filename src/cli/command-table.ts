// Every command and option, once: the parser, the help, the suggestions, shell completion, the manual pages and docs/CLI.md read this table.

import type { CommandSpec, OptionSpec } from "./command.js";
import { OUTPUT_FORMATS } from "./output.js";
import { DRIVER_COMMANDS } from "./specs/driver.js";
import { HOST_COMMANDS } from "./specs/host.js";
import { INVENTORY_COMMANDS } from "./specs/inventory.js";
import { LEASING_COMMANDS } from "./specs/leasing.js";
import { POLICY_COMMANDS } from "./specs/policy.js";
import { PUSHING_COMMANDS } from "./specs/pushing.js";
import { TOOL_COMMANDS } from "./specs/tool.js";
import { VMM_COMMANDS } from "./specs/vmm.js";

export const GLOBAL_OPTIONS: readonly OptionSpec[] = [
  {
    name: "socket",
    value: "PATH",
    words: "file",
    summary: "the daemon's socket (default: $APERTURE_SOCKET, else the system's daemon, else this user's)",
  },
  { name: "timeout", value: "SECONDS", summary: "longest wait for one call (default 10; for what resets devices 60)" },
  { name: "output", short: "o", value: "FORMAT", words: OUTPUT_FORMATS, summary: "table (default), json, jsonl, yaml or name" },
  { name: "help", short: "h", value: null, summary: "this help, or that of the command" },
  { name: "version", value: null, summary: "the version of aperturectl" },
];

export interface CommandGroup {
  readonly title: string;
  readonly commands: readonly CommandSpec[];
}

export const COMMAND_GROUPS: readonly CommandGroup[] = [
  { title: "Devices", commands: INVENTORY_COMMANDS },
  { title: "Leases", commands: LEASING_COMMANDS },
  { title: "Virtual machines", commands: [...VMM_COMMANDS, ...PUSHING_COMMANDS] },
  { title: "Drivers", commands: DRIVER_COMMANDS },
  { title: "Policy", commands: POLICY_COMMANDS },
  { title: "Daemon and host", commands: HOST_COMMANDS },
  { title: "aperturectl itself", commands: TOOL_COMMANDS },
];

export const COMMANDS: readonly CommandSpec[] = COMMAND_GROUPS.flatMap(({ commands }) => commands);

export const COMMAND_NAMES: readonly string[] = COMMANDS.map(({ name }) => name);

/** What aperturectl reads of its environment. */
export const ENVIRONMENT: readonly { readonly name: string; readonly does: string }[] = [
  { name: "APERTURE_SOCKET", does: "the daemon's socket, when --socket does not name it" },
  { name: "NO_COLOR", does: "set to anything: no colour. Without it there is colour on a terminal only" },
  { name: "COLUMNS", does: "width of what is drawn when stdout is no terminal (default 100)" },
  { name: "LC_ALL, LC_CTYPE, LANG", does: "the first that is set says whether block characters can be shown (UTF-8), or ASCII is drawn" },
];

/** By its name; a name of two words as such. */
export function findCommand(name: string): CommandSpec | null {
  return COMMANDS.find((command) => command.name === name) ?? null;
}

/** The options that a command understands. */
export function optionsOf(command: CommandSpec): readonly OptionSpec[] {
  return [...command.options, ...GLOBAL_OPTIONS.filter(({ name }) => name !== "version" && (command.printsData || name !== "output"))];
}
