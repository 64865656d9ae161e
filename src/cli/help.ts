// Help, printed from the command table.

import type { CommandSpec, OptionSpec } from "./command.js";
import { COMMANDS, GLOBAL_OPTIONS } from "./command-table.js";
import { EXIT } from "./exit-code.js";

const WIDTH = 100;

/** Help of aperturectl itself. */
export function generalHelp(): string {
  const lines = [
    "aperturectl: see and lease the VFIO devices that an Aperture daemon brokers",
    "",
    "usage: aperturectl [OPTION...] COMMAND [ARGUMENT...]",
    "",
    "Commands:",
    ...columns(COMMANDS.map(({ name, summary }) => [name, summary])),
    "",
    "Options:",
    ...optionLines(GLOBAL_OPTIONS),
    "",
    "Exit status:",
    ...columns(Object.values(EXIT).map(({ code, when }) => [String(code), when])),
    "  `exec` returns the exit status of its command, 128 + N when signal N ended it",
    "",
    "Examples:",
    ...COMMANDS.flatMap(({ examples }) => examples.slice(0, 1)).map(({ line }) => `  ${line}`),
    "",
    "`aperturectl help COMMAND` tells more about one command.",
  ];
  return `${lines.join("\n")}\n`;
}

/** Help of one command. */
export function commandHelp(command: CommandSpec): string {
  const lines = [
    `aperturectl ${command.name}: ${command.summary}`,
    "",
    `usage: aperturectl ${command.name} [OPTION...] ${command.operands}`.trimEnd(),
  ];
  for (const paragraph of command.description) lines.push("", ...wrap(paragraph));
  const global = GLOBAL_OPTIONS.filter(({ name }) => name !== "version" && (command.printsData || name !== "output"));
  lines.push("", "Options:", ...optionLines([...command.options, ...global]));
  if (command.examples.length > 0) {
    lines.push("", "Examples:");
    for (const { line, does } of command.examples) lines.push(`  # ${does}`, `  ${line}`);
  }
  return `${lines.join("\n")}\n`;
}

function optionLines(options: readonly OptionSpec[]): string[] {
  return columns(
    options.map(({ name, short, value, summary }) => [
      `${short === undefined ? "    " : `-${short}, `}--${name}${value === null ? "" : ` ${value}`}`,
      summary,
    ]),
  );
}

function columns(rows: readonly (readonly [left: string, right: string])[]): string[] {
  const width = Math.max(...rows.map(([left]) => left.length));
  return rows.map(([left, right]) => `  ${left.padEnd(width)}  ${right}`);
}

function wrap(paragraph: string): string[] {
  const lines: string[] = [];
  let line = "";
  for (const word of paragraph.split(" ")) {
    if (line !== "" && line.length + 1 + word.length > WIDTH) {
      lines.push(line);
      line = word;
    } else {
      line = line === "" ? word : `${line} ${word}`;
    }
  }
  lines.push(line);
  return lines;
}
