// Which files are read, and whether they may be trusted: the file itself, then conf.d/*.toml beside it in the order of their names.
//
// What a file says is who may have a device, so only root and the daemon's user may have a hand in it, as sudo and sshd ask of theirs: a file or a conf.d of somebody
// else, or that others can write, is refused, not read with a warning that nobody sees. Symbolic links are followed (Kubernetes mounts every file as one); what counts
// is the file at their end. Nothing that is opened can block: a FIFO, a device or a folder is told apart before it is read.

import { closeSync, constants, fstatSync, openSync, readdirSync, readSync, type Stats, statSync } from "node:fs";
import { dirname, join } from "node:path";

/** Far more than any policy; a file that is larger is another file. */
const MOST_BYTES = 1 << 20;
const MOST_FILES = 256;

export interface SourceFile {
  readonly path: string;
  readonly source: string;
}

export interface SourceFiles {
  readonly files: readonly SourceFile[];
  readonly problems: readonly string[];
}

/** required false: the main file need not be there; its drop-ins are read all the same. */
export function readSources(file: string, required: boolean, uid: number): SourceFiles {
  const folder = join(dirname(file), "conf.d");
  const names = dropIns(folder, uid);
  const read = [readSource(file, required, uid), ...names.files.map((name) => readSource(join(folder, name), true, uid))];
  return {
    files: read.flatMap((one) => (one.source === null ? [] : [{ path: one.path, source: one.source }])),
    problems: [...read.flatMap((one) => one.problem ?? []), ...names.problems],
  };
}

function dropIns(folder: string, uid: number): { readonly files: readonly string[]; readonly problems: readonly string[] } {
  const none = (problem: string): { readonly files: readonly string[]; readonly problems: readonly string[] } => ({
    files: [],
    problems: [problem],
  });
  let files: string[];
  try {
    const stats = statSync(folder);
    if (!stats.isDirectory()) return none(`${folder} is ${kindOf(stats)}, not the folder of drop-in files. Remove it, or rename it`);
    const untrusted = whyUntrusted(folder, stats, uid);
    if (untrusted !== null) return none(untrusted);
    // By code unit: the same order on every machine, whatever its language.
    files = readdirSync(folder)
      .filter((name) => name.endsWith(".toml") && !name.startsWith("."))
      .sort();
  } catch (error) {
    return codeOf(error) === "ENOENT" ? { files: [], problems: [] } : none(`the folder ${folder} cannot be read: ${said(error)}`);
  }
  if (files.length > MOST_FILES) return none(`${folder} holds ${files.length} files, where ${MOST_FILES} are the most`);
  return { files, problems: [] };
}

function readSource(
  path: string,
  required: boolean,
  uid: number,
): { readonly path: string; readonly source: string | null; readonly problem: string | null } {
  const refused = (problem: string | null): ReturnType<typeof readSource> => ({ path, source: null, problem });
  let fd: number;
  try {
    // Looked at before it is opened, because opening a device can do things; and again after, because it may be another by then.
    const kind = kindOf(statSync(path));
    if (kind !== "a file") return refused(`${path} is ${kind}, and no configuration can be read from that`);
    fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY);
  } catch (error) {
    if (codeOf(error) === "ENOENT" && !required) return refused(null);
    return refused(`the configuration file ${path} cannot be read: ${said(error)}`);
  }
  try {
    const stats = fstatSync(fd);
    if (!stats.isFile()) return refused(`${path} is ${kindOf(stats)}, and no configuration can be read from that`);
    const untrusted = whyUntrusted(path, stats, uid);
    if (untrusted !== null) return refused(untrusted);
    const text = readAll(fd);
    return text === null ? refused(`${path} is larger than ${MOST_BYTES} bytes, or no UTF-8`) : { path, source: text, problem: null };
  } catch (error) {
    return refused(`the configuration file ${path} cannot be read: ${said(error)}`);
  } finally {
    closeSync(fd);
  }
}

function readAll(fd: number): string | null {
  const bytes = Buffer.alloc(MOST_BYTES + 1);
  let length = 0;
  for (;;) {
    const got = readSync(fd, bytes, length, bytes.length - length, null);
    if (got === 0) break;
    length += got;
    if (length > MOST_BYTES) return null;
  }
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes.subarray(0, length));
  } catch {
    return null;
  }
}

function whyUntrusted(path: string, stats: Stats, uid: number): string | null {
  if (stats.uid !== 0 && stats.uid !== uid) {
    return `${path} belongs to uid ${stats.uid}, who could give devices to anybody. Make it root's or the daemon's user's (uid ${uid}): chown`;
  }
  if ((stats.mode & 0o022) === 0) return null;
  return `${path} can be written by others (mode ${(stats.mode & 0o7777).toString(8).padStart(4, "0")}), who could give themselves devices: chmod go-w ${path}`;
}

function kindOf(stats: Stats): string {
  if (stats.isFile()) return "a file";
  if (stats.isDirectory()) return "a folder";
  if (stats.isFIFO()) return "a FIFO";
  if (stats.isSocket()) return "a socket";
  return "a device";
}

function codeOf(error: unknown): string {
  return error instanceof Error ? ((error as NodeJS.ErrnoException).code ?? error.message) : String(error);
}

function said(error: unknown): string {
  const code = codeOf(error);
  return code === "ELOOP" ? "ELOOP (symbolic links that lead in a circle)" : code;
}
