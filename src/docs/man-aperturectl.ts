// aperturectl(1) from the command table.

import type { CommandSpec, OptionSpec } from "../cli/command.js";
import { COMMAND_GROUPS, ENVIRONMENT, GLOBAL_OPTIONS } from "../cli/command-table.js";
import { EXIT } from "../cli/exit-code.js";
import { FORMATS } from "../cli/output.js";
import { PLACEHOLDERS } from "../cli/placeholder.js";
import { version } from "../cli/version.js";
import { bold, escaped, example, item, paragraph, section, subsection, title } from "./roff.js";

/** Of the texts: changed by hand when they are. */
export const PAGE_DATE = "2026-11-25";

export function aperturectlPage(): string {
  const lines = [
    title("aperturectl", 1, PAGE_DATE, version()),
    section("NAME"),
    "aperturectl \\- see and lease the VFIO devices that an Aperture daemon brokers",
    section("SYNOPSIS"),
    `${bold("aperturectl")} [\\fIOPTION\\fP...] \\fICOMMAND\\fP [\\fIARGUMENT\\fP...]`,
    section("DESCRIPTION"),
    "Asks",
    ".BR apertured (8)",
    "for devices, their regions and leases, and gives descriptors to the commands that it runs.",
    ...paragraph(
      "Data goes to stdout; warnings, progress and failures go to stderr. A failure says what, why and what to do next, with its reason. A step that takes over a second says what it waits for.",
    ),
    section("COMMANDS"),
    ...COMMAND_GROUPS.flatMap(({ commands }) => commands.flatMap(commandPart)),
    section("OPTIONS"),
    "Of every command.",
    ...GLOBAL_OPTIONS.flatMap(optionItem),
    section("OUTPUT FORMATS"),
    "Of",
    `${bold("-o")}. In JSON and YAML 64-bit numbers are decimal strings, times are RFC 3339, bytes are base64.`.replace(
      "64-bit",
      "64\\-bit",
    ),
    ...Object.entries(FORMATS).flatMap(([name, does]) => item(bold(name), does)),
    section("PLACEHOLDERS"),
    "In the arguments of the command that",
    `${bold("exec")} runs; each becomes the number of an inherited descriptor.`,
    ...PLACEHOLDERS.flatMap(({ text, means }) => item(bold(text), means)),
    section("EXIT STATUS"),
    ...Object.values(EXIT).flatMap(({ code, when }) => item(bold(String(code)), when)),
    ...paragraph("`exec` returns the exit status of its command, 128 + N when signal N ended it."),
    section("ENVIRONMENT"),
    ...ENVIRONMENT.flatMap(({ name, does }) => item(bold(name), does)),
    section("SEE ALSO"),
    ".BR apertured (8),",
    ".BR aperture.toml (5)",
  ];
  return `${lines.join("\n")}\n`;
}

function commandPart(command: CommandSpec): readonly string[] {
  const usage = `${bold(`aperturectl ${command.name}`)} [\\fIOPTION\\fP...] ${escaped(command.operands)}`.trimEnd();
  const summary = `${command.summary.charAt(0).toUpperCase()}${command.summary.slice(1)}.`;
  return [
    subsection(command.name),
    usage,
    ...paragraph(summary),
    ...command.description.flatMap(paragraph),
    ...command.options.flatMap(optionItem),
    ...(command.examples.length === 0 ? [] : example(command.examples.flatMap(({ line, does }) => [`# ${does}`, line]))),
  ];
}

function optionItem({ name, short, value, summary }: OptionSpec): readonly string[] {
  const words = [...(short === undefined ? [] : [bold(`-${short}`)]), bold(`--${name}`)].join(", ");
  return item(value === null ? words : `${words} \\fI${escaped(value)}\\fP`, summary);
}
