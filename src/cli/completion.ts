// What could stand at a place of the command line, from the command table. The shells' scripts only show it, so that no table of words exists twice; what has to be
// asked of the daemon is left to the caller.

import type { CommandSpec, OptionSpec, Words } from "./command.js";
import { COMMANDS, findCommand, GLOBAL_OPTIONS, optionsOf } from "./command-table.js";

export interface Candidate {
  readonly word: string;
  readonly help: string;
}

/** file, command: the shell knows better. Else: these words, and those of the daemon. */
export interface Completion {
  readonly candidates: readonly Candidate[];
  readonly ask: "address" | "leasable address" | "lease" | "file" | "command line" | null;
  /** Stands before every word that is asked for: `--device=`. */
  readonly prefix: string;
  /** Words that are given already and would be refused twice. */
  readonly given: readonly string[];
  readonly socket: string | null;
}

/** words: what follows `aperturectl`, up to and with the one at the cursor, which may be empty. Candidates that do not fit it are left to the shell. */
export function complete(words: readonly string[]): Completion {
  const current = words.at(-1) ?? "";
  const line = readLine(words.slice(0, -1));
  const options = line.command === null ? GLOBAL_OPTIONS : optionsOf(line.command);
  if (line.rest) return result(line, line.command?.takesCommand === true ? { ask: "command line" } : {});
  if (line.pending !== null) return result(line, wordsOf(line.pending.words ?? "nothing", ""));
  const inline = /^(--[\w-]+)=/.exec(current);
  if (inline !== null) {
    const option = options.find(({ name }) => `--${name}` === inline[1]);
    return result(line, option === undefined || option.value === null ? {} : wordsOf(option.words ?? "nothing", `${inline[1]}=`));
  }
  if (current.startsWith("-"))
    return result(line, { candidates: options.filter(({ name }) => !line.options.has(name)).map(optionCandidate) });
  if (line.command === null) return result(line, { candidates: commandWords(line.words) });
  return result(line, operands(line.command, line));
}

interface Line {
  /** Words that are no options. */
  readonly words: readonly string[];
  readonly options: ReadonlyMap<string, string | null>;
  readonly command: CommandSpec | null;
  readonly operands: readonly string[];
  /** The option whose value comes next. */
  readonly pending: OptionSpec | null;
  /** `--` has been. */
  readonly rest: boolean;
}

function readLine(words: readonly string[]): Line {
  const specs = [...GLOBAL_OPTIONS, ...COMMANDS.flatMap(({ options }) => options)];
  const plain: string[] = [];
  const options = new Map<string, string | null>();
  let pending: OptionSpec | null = null;
  let rest = false;
  for (const word of words) {
    if (rest) break;
    if (pending !== null) {
      options.set(pending.name, word);
      pending = null;
    } else if (word === "--") {
      rest = true;
    } else if (word.startsWith("-") && word !== "-") {
      const [name = "", value] = word.replace(/^--?/, "").split(/=(.*)/s);
      const spec = specs.find((each) => each.name === name || each.short === name);
      if (spec !== undefined) options.set(spec.name, value ?? null);
      if (spec !== undefined && spec.value !== null && value === undefined) pending = spec;
    } else {
      plain.push(word);
    }
  }
  const [first = "", second = ""] = plain;
  const command = findCommand(`${first} ${second}`) ?? findCommand(first);
  const operands = command === null ? [] : plain.slice(command.name.split(" ").length);
  return { words: plain, options, command, operands, pending, rest };
}

function result(line: Line, found: Partial<Pick<Completion, "candidates" | "ask" | "prefix">>): Completion {
  return { candidates: [], ask: null, prefix: "", ...found, given: line.operands, socket: line.options.get("socket") ?? null };
}

function operands(command: CommandSpec, { operands: given }: Line): Partial<Completion> {
  const end = command.takesCommand && given.length >= command.leastOperands ? [{ word: "--", help: "the command follows" }] : [];
  if (given.length >= command.mostOperands) return { candidates: end };
  if (command.words === "command") return { candidates: commandWords(given) };
  const words = wordsOf(command.words, "");
  return { ...words, candidates: [...(words.candidates ?? []), ...end] };
}

function wordsOf(words: Words, prefix: string): Partial<Completion> {
  if (words === "nothing" || words === "command") return {};
  if (typeof words === "string") return { ask: words, prefix };
  return { candidates: words.map((word) => ({ word: `${prefix}${word}`, help: "" })) };
}

/** The next word of every command that begins with these. */
function commandWords(begun: readonly string[]): readonly Candidate[] {
  const found = new Map<string, string>();
  for (const { name, summary } of COMMANDS) {
    const parts = name.split(" ");
    const next = parts[begun.length];
    if (next === undefined || begun.some((word, index) => word !== parts[index])) continue;
    const family = parts.length > begun.length + 1;
    found.set(
      next,
      family
        ? `commands: ${COMMANDS.flatMap((each) => (each.name.startsWith(`${parts[0]} `) ? [each.name.split(" ")[1]] : [])).join(", ")}`
        : summary,
    );
  }
  return [...found].map(([word, help]) => ({ word, help }));
}

function optionCandidate({ name, summary }: OptionSpec): Candidate {
  return { word: `--${name}`, help: summary };
}
