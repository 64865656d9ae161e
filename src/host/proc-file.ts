// The lines of a file of /proc, which says that it is empty whatever is in it.

import { readFile } from "node:fs/promises";

/** None when it cannot be read. */
export async function linesOfProc(path: string): Promise<readonly string[]> {
  try {
    return (await readFile(path, "latin1")).split("\n");
  } catch {
    return [];
  }
}
