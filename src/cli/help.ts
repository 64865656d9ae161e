// Help, printed from the command table.

import type { CommandSpec, OptionSpec } from "./command.js";
import { COMMAND_GROUPS, COMMANDS, ENVIRONMENT, GLOBAL_OPTIONS, optionsOf } from "./command-table.js";
import { EXIT } from "./exit-code.js";

const WIDEST = 100;
/** A word on the left that is longer than this has its text on the next line. */
const LONGEST_LEFT = 28;

/** Help of aperturectl itself. */
export function generalHelp(columns = WIDEST): string {
  const width = Math.min(columns, WIDEST);
  const lines = [
    ...wrap("aperturectl: see and lease the VFIO devices that an Aperture daemon brokers", width),
    "",
    "usage: aperturectl [OPTION...] COMMAND [ARGUMENT...]",
    "",
    ...COMMAND_GROUPS.flatMap(({ title, commands }) => [
      `${title}:`,
      ...pairs(
        commands.map(({ name, summary }) => [name, summary]),
        width,
        Math.max(...COMMANDS.map(({ name }) => name.length)),
      ),
      "",
    ]),
    "Options:",
    ...optionLines(GLOBAL_OPTIONS, width),
    "",
    "Environment:",
    ...pairs(
      ENVIRONMENT.map(({ name, does }) => [name, does]),
      width,
    ),
    "",
    "Exit status:",
    ...pairs(
      Object.values(EXIT).map(({ code, when }) => [String(code), when]),
      width,
    ),
    ...wrap("`exec` returns the exit status of its command, 128 + N when signal N ended it", width, "  "),
    "",
    "Examples:",
    ...FIRST_STEPS.flatMap(({ line, does }) => [`  # ${does}`, `  ${line}`]),
    "",
    "`aperturectl help COMMAND` tells more about one command.",
  ];
  return `${lines.join("\n")}\n`;
}

const FIRST_STEPS = [
  { line: "aperturectl devices", does: "what is there" },
  { line: "aperturectl device 0000:01:00.0", does: "everything about one device" },
  { line: "aperturectl exec 0000:01:00.0 -- COMMAND fd=@device", does: "run a command that inherits it" },
] as const;

/** Help of one command. */
export function commandHelp(command: CommandSpec, columns = WIDEST): string {
  const width = Math.min(columns, WIDEST);
  const lines = [
    ...wrap(`aperturectl ${command.name}: ${command.summary}`, width),
    "",
    `usage: aperturectl ${command.name} [OPTION...] ${command.operands}`.trimEnd(),
  ];
  for (const paragraph of command.description) lines.push("", ...wrap(paragraph, width));
  lines.push("", "Options:", ...optionLines(optionsOf(command), width));
  if (command.examples.length > 0) {
    lines.push("", "Examples:");
    for (const { line, does } of command.examples) lines.push(`  # ${does}`, `  ${line}`);
  }
  return `${lines.join("\n")}\n`;
}

/** `-o, --output FORMAT`. */
export function optionWords({ name, short, value }: OptionSpec): string {
  return `${short === undefined ? "" : `-${short}, `}--${name}${value === null ? "" : ` ${value}`}`;
}

function optionLines(options: readonly OptionSpec[], width: number): string[] {
  return pairs(
    options.map((option) => [`${option.short === undefined ? "    " : ""}${optionWords(option)}`, option.summary]),
    width,
  );
}

/** Two columns, the right one wrapped. */
function pairs(rows: readonly (readonly [left: string, right: string])[], width: number, least = 0): string[] {
  const short = rows.map(([left]) => left.length).filter((length) => length <= LONGEST_LEFT);
  const column = Math.max(least, ...short);
  const indent = " ".repeat(column + 4);
  return rows.flatMap(([left, right]) => {
    const [first = "", ...rest] = wrap(right, width, indent);
    if (left.length > column) return [`  ${left}`, first, ...rest];
    return [`  ${left.padEnd(column)}  ${first.slice(indent.length)}`, ...rest];
  });
}

/** Lines of at most width columns, each after the indent; a longer word stands alone. */
export function wrap(paragraph: string, width: number, indent = ""): string[] {
  const lines: string[] = [];
  let line = "";
  for (const word of paragraph.split(" ")) {
    if (line !== "" && indent.length + line.length + 1 + word.length > width) {
      lines.push(indent + line);
      line = word;
    } else {
      line = line === "" ? word : `${line} ${word}`;
    }
  }
  lines.push(indent + line);
  return lines;
}
