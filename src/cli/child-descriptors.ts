// How a command that `exec` starts learns its descriptors: by words in its arguments, and by environment variables. The numbers are positions in the child:
// 3 and up, in the lease's order, whatever they are here.

import type { DescriptorInfo } from "../client/index.js";
import { CliError } from "./exit-code.js";

const FIRST = 3;
const ADDRESS = "[0-9a-f]{4,8}:[0-9a-f]{2}:[01][0-9a-f]\\.[0-7]";

// `user@device.example` and `x@groups` stay what they are.
const WORD = new RegExp(
  `(?<!\\w)(?<escaped>@?)@(?<name>iommufd|container|group|device|region)(?::(?<address>${ADDRESS}))?(?::(?<number>\\d+))?(?![\\w-]|[.:]\\w)`,
  "g",
);

interface Word {
  readonly escaped: string;
  readonly name: string;
  readonly address: string | undefined;
  readonly number: string | undefined;
}

/**
 * The arguments with every word replaced by its number. A word may leave out what the lease has only one of. Throws CliError (conflict) for a word that the
 * lease has no descriptor for, or several.
 */
export function substituteDescriptors(args: readonly string[], descriptors: readonly DescriptorInfo[]): readonly string[] {
  return args.map((arg) =>
    arg.replace(WORD, (text: string, ...rest: unknown[]) => {
      const word = rest.at(-1) as Word;
      return word.escaped === "" ? numberOf(text, word, descriptors) : text.slice(1);
    }),
  );
}

/** APERTURE_LEASE and APERTURE_FD_...; what the lease has only one of has its short name too. */
export function descriptorEnvironment(leaseId: string, descriptors: readonly DescriptorInfo[]): Record<string, string> {
  const env: Record<string, string> = { APERTURE_LEASE: leaseId };
  for (const [index, info] of descriptors.entries()) {
    const name = wordName(info);
    const alone = descriptors.filter((other) => wordName(other) === name).length === 1;
    for (const place of [places(info), ...(alone ? [[]] : [])]) {
      env[["APERTURE_FD", name, ...place].join("_").toUpperCase().replace(/\W/g, "_")] = String(FIRST + index);
    }
  }
  return env;
}

function numberOf(text: string, word: Word, descriptors: readonly DescriptorInfo[]): string {
  const found = descriptors.flatMap((info, index) => {
    const fits =
      wordName(info) === word.name &&
      (word.address === undefined || word.address === info.address) &&
      (word.number === undefined || Number(word.number) === (info.region ?? info.group));
    return fits ? [FIRST + index] : [];
  });
  const [only] = found;
  if (only !== undefined && found.length === 1) return String(only);
  if (found.length > 1)
    throw new CliError("conflict", `${text} could be any of ${found.length} descriptors`, `name one: ${words(descriptors).join(", ")}`);
  throw new CliError("conflict", `the lease has no descriptor for ${text}`, `it has ${words(descriptors).join(", ")}`);
}

/** The words that this lease has descriptors for. */
function words(descriptors: readonly DescriptorInfo[]): readonly string[] {
  return descriptors.map((info) => [`@${wordName(info)}`, ...places(info)].join(":"));
}

/** A bound device and an unbound one are the same to whoever starts a VMM. */
function wordName({ kind }: DescriptorInfo): string {
  return kind === "DEVICE_UNBOUND" ? "device" : kind.toLowerCase();
}

/** Address, group number, region index: those that the descriptor has. */
function places({ address, group, region }: DescriptorInfo): readonly string[] {
  return [address, group, region].filter((place) => place !== null).map(String);
}
