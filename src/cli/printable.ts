// Names and messages come from drivers, from other users' requests and from the daemon. Whatever they hold, a terminal gets no control
// sequence and no invisible character from them, and one long string cannot push the rest off the screen.

const LONGEST = 256;

// C0, DEL, C1, soft hyphen, zero-width and direction marks, line and paragraph separators, BOM, surrogates without a partner.
const UNSAFE = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}\p{Co}\p{Cn}]/gu;

/** The text with everything invisible written as \xNN or \u{N}, cut to 256 characters. */
export function printable(text: string): string {
  const shown = text.length > LONGEST ? `${text.slice(0, LONGEST)}…` : text;
  return shown.replace(UNSAFE, escaped);
}

/** It holds something that printable() would write differently, length apart. */
export function isUnsafe(text: string): boolean {
  return text.search(UNSAFE) >= 0;
}

/** JSON text for a terminal: JSON.stringify escapes C0 only. */
export function printableJson(json: string): string {
  return json.replace(UNSAFE, (character) => {
    // Layout of JSON.stringify's own; inside strings they are escaped already.
    if (character === "\n") return character;
    return [...Array(character.length).keys()].map((at) => `\\u${character.charCodeAt(at).toString(16).padStart(4, "0")}`).join("");
  });
}

function escaped(character: string): string {
  const code = character.codePointAt(0) ?? 0;
  return code <= 0xff ? `\\x${code.toString(16).padStart(2, "0")}` : `\\u{${code.toString(16)}}`;
}
