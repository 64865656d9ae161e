// The little of man(7) that the manual pages need.

/** Text as it stands in a page: nothing of it is a request or an escape; `code` is bold. */
export function prose(text: string): string {
  return text
    .split("`")
    .map((part, index) => (index % 2 === 0 ? escaped(part) : bold(part)))
    .join("");
}

export function bold(text: string): string {
  return text === "" ? "" : `\\fB${escaped(text)}\\fP`;
}

/** A hyphen that is typed has to be a minus for copying; a line that starts with a dot or a quote would be a request. */
export function escaped(text: string): string {
  return text
    .replaceAll("\\", "\\e")
    .replaceAll("-", "\\-")
    .replace(/^([.'])/, "\\&$1");
}

/** date: of the last release, ISO 8601. */
export function title(name: string, section: number, date: string, version: string): string {
  return `.TH ${name.toUpperCase()} ${section} ${date} "Aperture ${version}"`;
}

export function section(name: string): string {
  return `.SH ${name}`;
}

export function subsection(name: string): string {
  return `.SS ${escaped(name)}`;
}

/** An item with its explanation: `term` is roff already. */
export function item(term: string, text: string): readonly string[] {
  return [".TP", term, prose(text)];
}

/** Lines that are shown as they are. */
export function example(lines: readonly string[]): readonly string[] {
  return [".PP", ".nf", ".RS", ...lines.map(escaped), ".RE", ".fi"];
}

export function paragraph(text: string): readonly string[] {
  return [".PP", prose(text)];
}
