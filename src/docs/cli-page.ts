// docs/CLI.md from the command table.

import type { CommandSpec, OptionSpec } from "../cli/command.js";
import { COMMAND_GROUPS, ENVIRONMENT, GLOBAL_OPTIONS } from "../cli/command-table.js";
import { EXIT } from "../cli/exit-code.js";
import { optionWords } from "../cli/help.js";
import { FORMATS } from "../cli/output.js";

export function cliPage(): string {
  const lines = [
    "# aperturectl",
    "",
    "This page is generated from the command table (`src/cli/specs/`) by `npm run docs`; a test keeps it current. `aperturectl help COMMAND` says the same.",
    "",
    "```",
    "aperturectl [OPTION...] COMMAND [ARGUMENT...]",
    "```",
    "",
    "Data goes to stdout, everything else to stderr: warnings, what is being waited for when a step takes over a second, and why a command failed. An error says what, why and",
    "what to do next, and ends with its reason from [REASONS.md](REASONS.md). What other users, drivers or the daemon put into a name or a message reaches a terminal with its control",
    "characters written out.",
    "",
    "## Options of every command",
    "",
    ...optionTable(GLOBAL_OPTIONS),
    "## Output formats",
    "",
    ...table(
      ["`-o`", "what it is"],
      Object.entries(FORMATS).map(([name, does]) => [`\`${name}\``, does]),
    ),
    "Field names of JSON and YAML are those of the TypeScript client (`src/client/model.ts`), the lowerCamelCase of the proto files. 64-bit numbers are decimal strings, times are RFC 3339,",
    "bytes are base64, as in protobuf's own JSON; what is absent is `null`.",
    "",
    "## Exit status",
    "",
    ...table(
      ["status", "when"],
      Object.values(EXIT).map(({ code, when }) => [String(code), when]),
    ),
    "`exec` returns the exit status of its command, 128 + N when signal N ended it.",
    "",
    "## Environment",
    "",
    ...table(
      ["variable", "what it does"],
      ENVIRONMENT.map(({ name, does }) => [`\`${name.replaceAll(", ", "`, `")}\``, does]),
    ),
  ];
  for (const { title, commands } of COMMAND_GROUPS) {
    lines.push(`## ${title}`, "", ...commands.flatMap(commandSection));
  }
  return `${lines.join("\n").trimEnd()}\n`;
}

function commandSection(command: CommandSpec): string[] {
  const lines = [`### ${command.name}`, "", sentence(command.summary), ""];
  lines.push("```", `aperturectl ${command.name} [OPTION...] ${command.operands}`.trimEnd(), "```", "");
  for (const paragraph of command.description) lines.push(paragraph, "");
  if (command.options.length > 0) lines.push(...optionTable(command.options));
  if (command.examples.length > 0) {
    lines.push("```sh", ...command.examples.flatMap(({ line, does }) => [`# ${does}`, line]), "```", "");
  }
  return lines;
}

function optionTable(options: readonly OptionSpec[]): string[] {
  return table(
    ["option", "what it does"],
    options.map((option) => [`\`${optionWords(option)}\``, option.summary]),
  );
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string[] {
  const line = (cells: readonly string[]): string => `| ${cells.map((cell) => cell.replaceAll("|", "\\|")).join(" | ")} |`;
  return [line(head), `|${head.map(() => "---|").join("")}`, ...rows.map(line), ""];
}

function sentence(text: string): string {
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}.`;
}
