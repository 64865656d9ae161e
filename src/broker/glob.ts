// Patterns for paths, whole string against whole string: * stands for any number of bytes within one path segment, ** for any number across segments; everything else,
// also ? and [, stands for itself. No regular expressions from a configuration: the text is a client's, and a pattern that backtracks would let it stop the daemon.

/** Longest pattern, in UTF-16 units. With the longest path (4,096) a match costs at most 2 million steps, whatever the text. */
export const LONGEST_GLOB = 512;

/** null: a good pattern; else what is wrong with it. */
export function globProblem(pattern: string): string | null {
  if (pattern === "") return "is empty";
  if (pattern.length > LONGEST_GLOB) return `is longer than ${LONGEST_GLOB} characters`;
  // biome-ignore lint/suspicious/noControlCharactersInRegex: that is what is looked for
  if (/[\u0000-\u001f\u007f]/.test(pattern)) return "holds a control character";
  if (!pattern.startsWith("/") && !pattern.startsWith("**")) return "does not begin with / (or **), and every path does";
  if (pattern.includes("***")) return "holds ***; write * or **";
  return null;
}

type Token = { readonly any: "segment" | "path" } | { readonly any: null; readonly unit: number };

function tokens(pattern: string): readonly Token[] {
  const list: Token[] = [];
  for (let at = 0; at < pattern.length; at += 1) {
    if (pattern[at] !== "*") list.push({ any: null, unit: pattern.charCodeAt(at) });
    else if (pattern[at + 1] === "*") {
      list.push({ any: "path" });
      at += 1;
    } else list.push({ any: "segment" });
  }
  return list;
}

const SLASH = 0x2f;

/** Walks the text once and keeps the set of places in the pattern that it may have reached. */
export function globMatches(pattern: string, text: string): boolean {
  const list = tokens(pattern);
  let reached = closure(list, new Uint8Array(list.length + 1).fill(1, 0, 1));
  for (let at = 0; at < text.length; at += 1) {
    const unit = text.charCodeAt(at);
    const next = new Uint8Array(list.length + 1);
    let any = false;
    for (const [place, token] of list.entries()) {
      if (reached[place] !== 1) continue;
      if (token.any === null) {
        if (token.unit !== unit) continue;
        next[place + 1] = 1;
      } else if (token.any === "path" || unit !== SLASH) next[place] = 1;
      else continue;
      any = true;
    }
    if (!any) return false;
    reached = closure(list, next);
  }
  return reached[list.length] === 1;
}

/** A star may stand for nothing. */
function closure(list: readonly Token[], reached: Uint8Array): Uint8Array {
  for (const [place, token] of list.entries()) if (reached[place] === 1 && token.any !== null) reached[place + 1] = 1;
  return reached;
}
