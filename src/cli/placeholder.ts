// The words that `exec` replaces in its command's arguments: @iommufd, @device:0000:01:00.0 and so on. Pure text: which descriptor a word means is decided elsewhere.

import { nearest } from "../nearest.js";
import { CliError } from "./exit-code.js";
import { printable } from "./printable.js";

export const PLACEHOLDER_NAMES = ["iommufd", "device", "container", "group", "region"] as const;

export type PlaceholderName = (typeof PLACEHOLDER_NAMES)[number];

export interface Placeholder {
  /** As written. */
  readonly text: string;
  readonly name: PlaceholderName;
  readonly address: string | null;
  /** Region index or group number. */
  readonly number: number | null;
}

/** Every placeholder of `exec` with what it becomes, for help and manual. */
export const PLACEHOLDERS: readonly { readonly text: string; readonly means: string }[] = [
  { text: "@iommufd", means: "the lease's iommufd" },
  { text: "@device", means: "the device, when the lease has one; bound by nobody yet on iommufd" },
  { text: "@device:ADDRESS", means: "one device of several" },
  { text: "@container", means: "the VFIO container (legacy)" },
  { text: "@group", means: "the IOMMU group, when the lease has one (legacy)" },
  { text: "@group:NUMBER", means: "one group of several" },
  { text: "@region", means: "the region, when the lease has one (region leases, simulated host)" },
  { text: "@region:INDEX", means: "the region of that VFIO index" },
  { text: "@region:ADDRESS:INDEX", means: "the same of one device of several" },
  { text: "@args", means: "with --for, as a whole argument: all arguments of that VMM for the devices" },
];

// A word stands at the start of an argument or behind something that is no letter, so mail addresses stay what they are, and what goes on with a dot is a host or a file.
const CANDIDATE = /(?<![\w@])(?<escaped>@?)@(?<name>[a-z][\w-]*)(?<rest>(?::[\w.:-]*)?)(?![\w:-]|\.\w|@)/gi;
const REST = /^(?::(?<address>[0-9a-f]{4,8}:[0-9a-f]{2}:[01][0-9a-f]\.[0-7]))?(?::(?<number>\d{1,9}))?$/;

/**
 * The argument with each placeholder replaced; `@@` before one gives a plain `@`. Throws CliError (usage) for a word that is nearly one, or is followed by something
 * that is no address and no number.
 */
export function replacePlaceholders(argument: string, numberFor: (placeholder: Placeholder) => string): string {
  return argument.replace(CANDIDATE, (...match: unknown[]) => {
    const { escaped, name, rest } = match.at(-1) as { readonly escaped: string; readonly name: string; readonly rest: string };
    const text = `@${name}${rest}`;
    const known = PLACEHOLDER_NAMES.find((each) => each === name);
    const near = known ?? nearest(name, PLACEHOLDER_NAMES);
    if (near === null) return `${escaped}${text}`;
    if (escaped !== "") return text;
    const place = REST.exec(rest)?.groups;
    if (known === undefined || place === undefined) throw mistaken(text, known === undefined ? near : null);
    const { address, number } = place;
    return numberFor({ text, name: known, address: address ?? null, number: number === undefined ? null : Number(number) });
  });
}

function mistaken(text: string, near: string | null): CliError {
  const shown = printable(text);
  const plain = `or write \`@${shown}\` for a plain \`${shown}\``;
  return near === null
    ? new CliError(
        "usage",
        `\`${shown}\` does not end in an address or a number`,
        `for example @device:0000:01:00.0 or @region:4, ${plain}`,
      )
    : new CliError("usage", `\`${shown}\` stands for no descriptor`, `did you mean \`@${near}\`? ${plain}`);
}
