// How a command that `exec` starts learns its descriptors: by words in its arguments, and by environment variables. The numbers are positions in the child:
// 3 and up, in the lease's order, whatever they are here.

import type { DescriptorInfo } from "../client/index.js";
import { CliError } from "./exit-code.js";
import { type Placeholder, type PlaceholderName, replacePlaceholders } from "./placeholder.js";

const FIRST = 3;

/**
 * Finds mistakes before anything is leased. addresses: what will be leased; null: not known yet, a ticket tells. Throws CliError (usage). Which descriptors a lease
 * brings depends on the host's back end, so a word can still be refused afterwards.
 */
export function checkPlaceholders(args: readonly string[], addresses: readonly string[] | null): void {
  for (const argument of args) {
    replacePlaceholders(argument, ({ text, name, address }) => {
      if (addresses === null) return "";
      if (address !== null && !addresses.includes(address)) {
        throw new CliError("usage", `${text} names a device that is not to be leased`, `to be leased: ${addresses.join(", ")}`);
      }
      if (name === "device" && address === null && addresses.length > 1) {
        throw new CliError("usage", `${text} could be any of ${addresses.length} devices`, `name one, for example @device:${addresses[0]}`);
      }
      return "";
    });
  }
}

/**
 * The arguments with every word replaced by its number. A word may leave out what the lease has only one of. Throws CliError (conflict) for a word that the
 * lease has no descriptor for, or several.
 */
export function substituteDescriptors(args: readonly string[], descriptors: readonly DescriptorInfo[]): readonly string[] {
  return args.map((argument) => replacePlaceholders(argument, (placeholder) => numberOf(placeholder, descriptors)));
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

function numberOf({ text, name, address, number }: Placeholder, descriptors: readonly DescriptorInfo[]): string {
  const found = descriptors.flatMap((info, index) => {
    const fits =
      wordName(info) === name &&
      (address === null || address === info.address) &&
      (number === null || number === (info.region ?? info.group));
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

/** A bound device and an unbound one are the same to whoever starts a VMM. A kind that is newer than this aperturectl has no word. */
function wordName({ kind }: DescriptorInfo): PlaceholderName | "unspecified" {
  switch (kind) {
    case "DEVICE_UNBOUND":
    case "DEVICE":
      return "device";
    case "IOMMUFD":
      return "iommufd";
    case "CONTAINER":
      return "container";
    case "GROUP":
      return "group";
    case "REGION":
      return "region";
    case "UNSPECIFIED":
      return "unspecified";
  }
}

/** Address, group number, region index: those that the descriptor has. */
function places({ address, group, region }: DescriptorInfo): readonly string[] {
  return [address, group, region].filter((place) => place !== null).map(String);
}
