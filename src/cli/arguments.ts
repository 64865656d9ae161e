// The command line against the command table. node:util's parser splits it; what is known and what was probably meant is decided here, because its own
// messages know neither commands nor suggestions.

import { parseArgs } from "node:util";
import { nearest } from "../nearest.js";
import type { CommandSpec, OptionSpec } from "./command.js";
import { COMMAND_NAMES, COMMANDS, findCommand, GLOBAL_OPTIONS } from "./command-table.js";
import { CliError } from "./exit-code.js";
import { OUTPUT_FORMATS, type OutputFormat } from "./output.js";
import { printable } from "./printable.js";

export interface ParsedArguments {
  /** null: no command was named. */
  readonly command: CommandSpec | null;
  readonly operands: readonly string[];
  /** What followed `--`; null when there was none. */
  readonly childCommand: readonly string[] | null;
  readonly values: ReadonlyMap<string, string>;
  readonly flags: ReadonlySet<string>;
  readonly format: OutputFormat;
  readonly timeoutMs: number | undefined;
}

/** Throws CliError (usage), with the nearest known word for an unknown one. */
export function parseArguments(argv: readonly string[]): ParsedArguments {
  const end = argv.indexOf("--");
  const childCommand = end < 0 ? null : argv.slice(end + 1);
  const { words, values, flags } = split(end < 0 ? argv : argv.slice(0, end));
  const { command, operands } = commandOf(words);
  rejectUnknownOptions([...values.keys(), ...flags], command);
  const parsed = {
    command,
    operands,
    childCommand,
    values,
    flags,
    format: outputFormat(values.get("output")),
    timeoutMs: timeoutMs(values.get("timeout")),
  };
  if (command !== null && !flags.has("help")) checkShape(parsed, command);
  return parsed;
}

interface Split {
  readonly words: readonly string[];
  readonly values: ReadonlyMap<string, string>;
  readonly flags: ReadonlySet<string>;
}

function split(argv: readonly string[]): Split {
  const specs = new Map([...GLOBAL_OPTIONS, ...COMMANDS.flatMap(({ options }) => options)].map((spec) => [spec.name, spec]));
  const { tokens } = parseArgs({ args: [...argv], options: parserOptions(specs), strict: false, allowPositionals: true, tokens: true });
  const words: string[] = [];
  const values = new Map<string, string>();
  const flags = new Set<string>();
  for (const token of tokens) {
    if (token.kind === "positional") words.push(token.value);
    if (token.kind !== "option") continue;
    const spec = specs.get(token.name);
    // Unknown here means unknown everywhere; which command it was meant for is known only later.
    if (spec === undefined || spec.value === null) {
      if (spec !== undefined && token.value !== undefined) throw new CliError("usage", `--${spec.name} takes no value`);
      flags.add(token.name);
    } else if (token.value === undefined || (!token.inlineValue && token.value.length > 1 && token.value.startsWith("-"))) {
      throw new CliError("usage", `--${spec.name} needs a value: --${spec.name} ${spec.value}`);
    } else if (values.has(spec.name)) {
      throw new CliError("usage", `--${spec.name} is given twice`);
    } else {
      values.set(spec.name, token.value);
    }
  }
  return { words, values, flags };
}

function parserOptions(specs: ReadonlyMap<string, OptionSpec>): Record<string, { type: "string" | "boolean"; short?: string }> {
  return Object.fromEntries(
    [...specs.values()].map(({ name, short, value }) => [
      name,
      { type: value === null ? "boolean" : "string", ...(short === undefined ? {} : { short }) },
    ]),
  );
}

/** The command that the first words name: two words before one. */
function commandOf(words: readonly string[]): { readonly command: CommandSpec | null; readonly operands: readonly string[] } {
  const [first, second] = words;
  if (first === undefined) return { command: null, operands: [] };
  const family = COMMAND_NAMES.filter((name) => name.startsWith(`${first} `));
  const command = (second === undefined ? null : findCommand(`${first} ${second}`)) ?? findCommand(first);
  if (command !== null) return { command, operands: words.slice(command.name.split(" ").length) };
  if (family.length > 0) {
    const said = second === undefined ? `\`${first}\` needs a second word` : `there is no command \`${first} ${printable(second)}\``;
    throw new CliError(
      "usage",
      said,
      (second === undefined ? null : suggestion(`${first} ${second}`, family)) ??
        `one of ${family.map((name) => `\`${name}\``).join(", ")}`,
    );
  }
  throw unknownCommand(first);
}

/** The error for a word that is no command. */
export function unknownCommand(name: string): CliError {
  const message = `there is no command \`${printable(name)}\``;
  return new CliError("usage", message, suggestion(name, COMMAND_NAMES) ?? "`aperturectl help` lists the commands");
}

function rejectUnknownOptions(given: readonly string[], command: CommandSpec | null): void {
  const known = [...GLOBAL_OPTIONS, ...(command?.options ?? [])].map(({ name }) => name);
  for (const name of given) {
    if (known.includes(name)) continue;
    const where = command === null ? "aperturectl" : `\`${command.name}\``;
    const shown = name.length === 1 ? `-${printable(name)}` : `--${printable(name)}`;
    throw new CliError("usage", `${where} has no option ${shown}`, suggestion(name, known, "--") ?? helpFor(command));
  }
}

function checkShape(parsed: ParsedArguments, command: CommandSpec): void {
  const usage = `usage: aperturectl ${command.name} ${command.operands}`.trimEnd();
  const { operands, childCommand } = parsed;
  if (operands.length < command.leastOperands) throw new CliError("usage", `\`${command.name}\` needs ${command.operands}`, usage);
  if (operands.length > command.mostOperands) {
    const what = command.mostOperands === 0 ? "no operands" : `at most ${command.mostOperands} operand(s)`;
    throw new CliError("usage", `\`${command.name}\` takes ${what}, not ${operands.length}`, usage);
  }
  if (command.takesCommand && (childCommand === null || childCommand.length === 0)) {
    throw new CliError("usage", `\`${command.name}\` needs a command after \`--\``, usage);
  }
  if (!command.takesCommand && childCommand !== null && childCommand.length > 0) {
    throw new CliError("usage", `\`${command.name}\` takes nothing after \`--\``, usage);
  }
  if (!command.printsData && parsed.values.has("output"))
    throw new CliError("usage", `\`${command.name}\` prints no data, so -o has no meaning`, usage);
}

function outputFormat(text: string | undefined): OutputFormat {
  if (text === undefined) return "table";
  const format = OUTPUT_FORMATS.find((known) => known === text);
  if (format !== undefined) return format;
  throw new CliError(
    "usage",
    `there is no output format \`${printable(text)}\``,
    suggestion(text, OUTPUT_FORMATS) ?? `one of ${OUTPUT_FORMATS.join(", ")}`,
  );
}

function timeoutMs(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const seconds = Number(text);
  // setTimeout counts milliseconds in 31 bits.
  if (/^\d+(\.\d+)?$/.test(text) && seconds > 0 && seconds <= 2_000_000) return Math.ceil(seconds * 1000);
  throw new CliError("usage", `--timeout ${printable(text)} is not a number of seconds above 0`, "for example --timeout 30");
}

/** Words for the nearest known word; null: none is near. */
export function suggestion(word: string, known: readonly string[], sign = ""): string | null {
  const near = nearest(word, known);
  return near === null ? null : `did you mean \`${sign}${near}\`?`;
}

function helpFor(command: CommandSpec | null): string {
  return `\`aperturectl ${command === null ? "help" : `${command.name} --help`}\` lists the options`;
}
