// Reads the same few entries of many folders of sysfs: a native thread makes the system calls, some hundred folders a call, and the event loop decodes one such answer at a time, while the
// thread is at the next. One folder that is missing or wrong costs nobody else anything.

import { setImmediate as nextTurn } from "node:timers/promises";
import { getSystemErrorName } from "node:util";
import type { FolderEntry, Native } from "../native.js";
import { text } from "./failed-call.js";

/** Folders of one call: their answer is decoded in one go, in a few milliseconds. */
const AT_ONCE = 256;

/** errno of a missing file; ENODEV and ENXIO come from a device that leaves while it is read, ENOTDIR when something else takes its place. */
const MISSING: ReadonlySet<number> = new Set([2 /* ENOENT */, 6 /* ENXIO */, 19 /* ENODEV */, 20 /* ENOTDIR */]);
const EFBIG = 27;

const NEWLINE = 0x0a;
const SLASH = 0x2f;
const NONE: readonly string[] = [];

/** Answers, walked through in the order in which their entries were asked for. null: the entry is not there, or cannot be read. */
export class EntryWalk {
  readonly #entries: readonly FolderEntry[];
  /** What each entry was in the folder before: in most it is the same again, and then needs no string of its own. */
  readonly #before: string[];
  #bytes: Buffer = Buffer.alloc(0);
  #at = 0;
  #next = 0;
  #unreadable: string[] | null = null;

  constructor(entries: readonly FolderEntry[]) {
    this.#entries = entries;
    this.#before = entries.map(() => "");
  }

  /** Goes on with the next answer. */
  enter(answer: Uint8Array): void {
    this.#bytes = Buffer.from(answer.buffer, answer.byteOffset, answer.byteLength);
    this.#at = 0;
  }

  /** A file's text without its newline. */
  text(): string | null {
    const length = this.#step("text");
    if (length < 0) return null;
    const end = this.#at;
    return this.#string(end - length, length > 0 && this.#bytes[end - 1] === NEWLINE ? end - 1 : end);
  }

  link(): string | null {
    const length = this.#step("link");
    return length < 0 ? null : this.#string(this.#at - length, this.#at);
  }

  /** The last part of a link's target. */
  linkName(): string | null {
    const length = this.#step("link");
    if (length < 0) return null;
    let begin = this.#at;
    while (begin > this.#at - length && this.#bytes[begin - 1] !== SLASH) begin -= 1;
    return this.#string(begin, this.#at);
  }

  names(): readonly string[] | null {
    const length = this.#step("names");
    if (length < 0) return null;
    return length === 0 ? NONE : this.#bytes.toString("utf8", this.#at - length, this.#at - 1).split("\0");
  }

  inode(): bigint | null {
    return this.#step("inode") < 0 ? null : this.#bytes.readBigUInt64LE(this.#at - 8);
  }

  /** What could not be read since this was last asked, with why: each is worth a line in the log. */
  unreadable(): readonly string[] {
    const unreadable = this.#unreadable ?? NONE;
    this.#unreadable = null;
    return unreadable;
  }

  /** Goes behind the next entry. Its length, or below 0 when there is none. */
  #step(kind: FolderEntry["kind"]): number {
    const entry = this.#entries[this.#next];
    if (entry?.kind !== kind) throw new Error(`${kind} is read where ${entry?.kind} ${entry?.name} was asked for`);
    this.#next = (this.#next + 1) % this.#entries.length;
    const length = this.#bytes.readInt32LE(this.#at);
    this.#at += 4 + Math.max(0, length);
    if (length < 0 && !MISSING.has(-length)) {
      this.#unreadable ??= [];
      this.#unreadable.push(`${entry.name || "folder"}: ${whyNot(-length)}`);
    }
    return length;
  }

  #string(begin: number, end: number): string {
    const index = (this.#next === 0 ? this.#entries.length : this.#next) - 1;
    const before = this.#before[index] ?? "";
    if (this.#says(before, begin, end)) return before;
    const now = this.#bytes.toString("latin1", begin, end);
    this.#before[index] = now;
    return now;
  }

  #says(text: string, begin: number, end: number): boolean {
    if (text.length !== end - begin) return false;
    for (let i = 0; i < text.length; i += 1) if (text.charCodeAt(i) !== this.#bytes[begin + i]) return false;
    return true;
  }
}

function whyNot(errno: number): string {
  return errno === EFBIG ? "longer than 4096 bytes" : getSystemErrorName(-errno);
}

export class FolderReader {
  readonly #native: Pick<Native, "BlockingQueue">;

  constructor(native: Pick<Native, "BlockingQueue">) {
    this.#native = native;
  }

  /** Calls back once for each folder, in their order; decode has to walk through all entries. */
  async read<Folder extends string>(
    parent: string,
    folders: readonly Folder[],
    entries: readonly FolderEntry[],
    decode: (folder: Folder, walk: EntryWalk) => void,
  ): Promise<void> {
    // Of this read alone: one that the kernel keeps waiting holds up no other.
    const queue = new this.#native.BlockingQueue("scan");
    const ask = (from: number) => {
      const some = folders.slice(from, from + AT_ONCE);
      return { some, answer: some.length === 0 ? null : queue.readFolders(parent, some, entries) };
    };
    const walk = new EntryWalk(entries);
    let now = ask(0);
    for (let from = AT_ONCE; now.answer !== null; from += AT_ONCE) {
      const next = ask(from);
      const answer = await now.answer;
      if (answer.error !== null) throw new Error(`${parent}: ${text(answer.error)}`);
      walk.enter(answer.value);
      for (const folder of now.some) decode(folder, walk);
      now = next;
      // The next answer may be there already, and would be told in the same turn.
      if (now.answer !== null) await nextTurn();
    }
  }
}
