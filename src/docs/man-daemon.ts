// apertured(8) from its own usage text, aperture.toml(5) from the tables of settings and of the keys of a rule.

import { version } from "../cli/version.js";
import { rangeWords, whenWords } from "../daemon/config-print.js";
import { DEFAULT_FILE, USAGE } from "../daemon/flags.js";
import { POLICY_KEYS } from "../daemon/policy-file.js";
import { environmentName, SETTING_NAMES, SETTINGS } from "../daemon/settings.js";
import { PAGE_DATE } from "./man-aperturectl.js";
import { bold, example, item, paragraph, prose, section, title } from "./roff.js";

export function aperturedPage(): string {
  const lines = [
    title("apertured", 8, PAGE_DATE, version()),
    section("NAME"),
    "apertured \\- broker of VFIO devices and their regions",
    section("SYNOPSIS"),
    `${bold("apertured")} [\\fIOPTION\\fP...]`,
    ".br",
    `${bold("apertured config")} ${bold("check")}|${bold("default")}|${bold("dump")} [\\fIOPTION\\fP...]`,
    section("DESCRIPTION"),
    "Owns this host's VFIO devices and hands descriptors and region metadata to VMMs over gRPC on a UNIX socket, and a descriptor channel beside it.",
    "What has no VFIO device gets a simulated host, said loudly.",
    section("COMMANDS"),
    ...usageItems("Commands"),
    section("OPTIONS"),
    ...usageItems("Options"),
    section("SIGNALS"),
    ...item(bold("SIGHUP"), "reads the configuration again; with a mistake in it everything stays as it was"),
    ...item(`${bold("SIGTERM")}, ${bold("SIGINT")}`, "end it in order"),
    section("EXIT STATUS"),
    ...item(bold("0"), "stopped on request"),
    ...item(bold("1"), "it cannot run, or `config check` found a mistake in a file"),
    ...item(bold("2"), "wrong option, or a mistake in a variable"),
    section("FILES"),
    ...item(`\\fI${DEFAULT_FILE}\\fP`, "the configuration, with drop-ins in conf.d/*.toml beside it"),
    section("SEE ALSO"),
    ".BR aperturectl (1),",
    ".BR aperture.toml (5)",
  ];
  return `${lines.join("\n")}\n`;
}

export function aperturetomlPage(): string {
  const lines = [
    title("aperture.toml", 5, PAGE_DATE, version()),
    section("NAME"),
    "aperture.toml \\- configuration of apertured",
    section("DESCRIPTION"),
    prose(`\`${DEFAULT_FILE}\`, in TOML. Files of conf.d/ beside it that end in .toml are read after it, in the order of their names.`),
    "A later value replaces an earlier one; rules of policy are appended. Unknown keys and values out of range are errors.",
    ...paragraph(
      "The environment is stronger than every file, flags are stronger than the environment. `apertured config check` finds mistakes, `apertured config dump` tells where each value comes from.",
    ),
    ...paragraph("Each file must belong to root or to the daemon's user and be writable by nobody else."),
    section("SETTINGS"),
    "A name with a dot stands in the table before the dot.",
    ...SETTING_NAMES.flatMap((name) =>
      item(
        bold(name),
        `${SETTINGS[name].help}. Default \`${JSON.stringify(SETTINGS[name].default)}\`; ${rangeWords(name).replaceAll("`", "")}; reload: ${whenWords(name).replaceAll("`", "")}. Variable ${environmentName(name)}.`,
      ),
    ),
    section("POLICY"),
    prose(
      "Each `[[policy]]` table is a rule. The first one that matches who calls and which device it is about decides; without one the answer is no.",
    ),
    ...Object.entries(POLICY_KEYS).flatMap(([key, { form, missing, help }]) =>
      item(bold(key), `${help}. ${form}; when not given: ${missing}.`),
    ),
    section("EXAMPLES"),
    "A rule for one user.",
    ...example([
      "[[policy]]",
      'name = "vmm"',
      "uid = [1000]",
      'device = ["10de:*", "0000:41:00.0"]',
      'kind = ["device"]',
      "max_leases = 4",
    ]),
    section("SEE ALSO"),
    ".BR apertured (8),",
    ".BR aperturectl (1)",
  ];
  return `${lines.join("\n")}\n`;
}

/** The entries below a heading of the usage text: two spaces, the words, two spaces or more, what it does; further lines are indented more. */
function usageItems(heading: string): readonly string[] {
  const [, below = ""] = USAGE.split(`\n${heading}:\n`);
  const [block = ""] = below.split("\n\n");
  const entries: { readonly words: string; does: string }[] = [];
  for (const line of block.split("\n")) {
    const [, words, does] = /^ {2}(\S.*?) {2,}(\S.*)$/.exec(line) ?? [];
    const last = entries.at(-1);
    if (words !== undefined && does !== undefined) entries.push({ words, does });
    else if (last !== undefined) last.does += ` ${line.trim()}`;
  }
  if (entries.length === 0) throw new Error(`the usage text of apertured has nothing below "${heading}:"`);
  return entries.flatMap(({ words, does }) => item(bold(words), does));
}
