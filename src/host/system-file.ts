// Lists that the system has in files (PCI ids, module aliases): megabytes of lines of which a few are wanted. Read in pieces, so that the event loop turns in between; what is
// longer than a line can be is skipped, and a file that is not there, or that is none, is no lines at all.

import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";

const PIECE = 64 * 1024;
/** The largest of these files has 2 MB today. */
const MOST_BYTES = 32 * 1024 * 1024;
const LONGEST_LINE = 4096;

/** Where the system keeps its lists. */
export interface SystemFiles {
  /** PCI ID lists; the first that is there is read. */
  readonly pciIds: readonly string[];
  /** Folder of the running kernel's modules. */
  readonly modules: string;
}

export function systemFiles(kernelRelease: string): SystemFiles {
  return {
    // Debian and Arch; Fedora and SUSE; what update-pciids writes.
    pciIds: ["/usr/share/misc/pci.ids", "/usr/share/hwdata/pci.ids", "/var/lib/pciutils/pci.ids"],
    modules: `/lib/modules/${kernelRelease}`,
  };
}

/** Changes with the file: "" when there is no such regular file. */
export async function fileStamp(path: string): Promise<string> {
  try {
    const facts = await stat(path, { bigint: true });
    return facts.isFile() ? `${facts.dev}:${facts.ino}:${facts.size}:${facts.mtimeNs}` : "";
  } catch {
    return "";
  }
}

/** The lines of a regular file, some hundreds at a time. Reading ends quietly where the file cannot be read any further. */
export async function* linesOf(path: string, separator: "\n" | "\0"): AsyncGenerator<readonly string[]> {
  // A FIFO or device in its place would never end.
  if ((await fileStamp(path)) === "") return;
  const stream = createReadStream(path, { encoding: "utf8", highWaterMark: PIECE, end: MOST_BYTES - 1 });
  let rest = "";
  let tooLong = false;
  try {
    for await (const piece of stream as AsyncIterable<string>) {
      const lines = (rest + piece).split(separator);
      rest = lines.pop() ?? "";
      // The first is the end of a line whose beginning was thrown away.
      if (tooLong && lines.length > 0) lines.shift();
      tooLong = (tooLong && lines.length === 0) || rest.length > LONGEST_LINE;
      if (tooLong) rest = "";
      yield lines.filter((line) => line.length <= LONGEST_LINE);
    }
  } catch {
    // Damaged or gone while it was read: what was read until then stands.
    return;
  } finally {
    stream.destroy();
  }
  if (rest !== "" && !tooLong) yield [rest];
}
