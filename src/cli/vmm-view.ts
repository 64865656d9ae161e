// Arguments for a VMM, for people: what can be copied first, then where each value comes from, and what is left to do.

import type { VmmArguments, VmmFragment, VmmOptions } from "../client/index.js";
import { renderFactGroups } from "./fact-sheet.js";
import { printable } from "./printable.js";
import { hexAndHuman } from "./size.js";
import { wrapped } from "./table.js";
import { type Look, paint } from "./terminal.js";
import { TITLES } from "./vmm-options.js";

export function renderArguments(made: VmmArguments, look: Look): string {
  return [copied(made), values(made, look), locked(made, look), ...notes(made, look)].filter((part) => part !== "").join("\n");
}

/** All lines alone: of arguments one a line, not quoted. */
export function plainLines({ fragments }: VmmArguments): string {
  return fragments.flatMap(({ lines }) => lines.map((line) => `${printable(line)}\n`)).join("");
}

function copied({ form, fragments }: VmmArguments): string {
  switch (form) {
    case "ARGUMENTS":
      return `${fragments.flatMap(commandLines).join(" \\\n")}\n`;
    case "XML":
      return documents(fragments, (place) => `<!-- in ${place} -->`);
    case "YAML":
    case "FIELDS":
    case "UNSPECIFIED":
      return documents(fragments, (place) => `# ${place}`);
  }
}

/** One option with its values a line, as a shell reads them. */
function commandLines({ lines }: VmmFragment): readonly string[] {
  const options: string[] = [];
  for (const line of lines) {
    const last = options.at(-1);
    if (last === undefined || line.startsWith("-")) options.push(shellWord(line));
    else options[options.length - 1] = `${last} ${shellWord(line)}`;
  }
  return options;
}

export function shellWord(argument: string): string {
  const text = printable(argument);
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

function documents(fragments: readonly VmmFragment[], comment: (place: string) => string): string {
  return fragments
    .map(({ place, lines }) => `${comment(printable(place))}\n${lines.map((line) => `${printable(line)}\n`).join("")}`)
    .join("\n");
}

function values({ fragments }: VmmArguments, look: Look): string {
  return renderFactGroups(
    fragments.map(({ place, values: facts }) => ({ title: printable(place), facts })),
    look,
  ).replace(/^\n/, "");
}

function locked({ memlock }: VmmArguments, look: Look): string {
  if (memlock === null) return "";
  return paragraph("to lock: ", `RLIMIT_MEMLOCK ${memlock.bytes} (${hexAndHuman(memlock.bytes)}): ${memlock.source}`, look);
}

function notes({ vmm, leastVersion, notes: all }: VmmArguments, look: Look): readonly string[] {
  const least =
    vmm === "UNSPECIFIED" || leastVersion === ""
      ? []
      : [paragraph("needs: ", `${TITLES[vmm as VmmOptions["vmm"]]} ${leastVersion} or later`, look)];
  return [...least, ...all.map(({ kind, text }) => paragraph(kind === "LEFT_OUT" ? "left out: " : "to do: ", text, look))];
}

function paragraph(word: string, text: string, look: Look): string {
  const whole = `${word}${printable(text)}`;
  const lines = look.interactive ? wrapped(whole, look.width - 2) : [whole];
  return lines
    .map((line, at) => (at === 0 ? `${paint(word.trimEnd(), "bold", look.colour)} ${line.slice(word.length)}\n` : `  ${line}\n`))
    .join("");
}
