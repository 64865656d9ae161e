// What a process runs and where, for policy's executable and cgroup patterns.
//
// Read at the first decision that needs it, not at accept: most connections never ask for a lease, most policies have no such pattern, and /proc/PID/cgroup takes the
// kernel's one cgroup mutex, which others can hold for long. A thread of the process's own does it: neither the event loop nor another client waits when it hangs.
// Whoever asks looks at the pidfd afterwards (SPIRE's order): a process that is alive then had the number all the time, so what was read is its own.
//
// A path is worth nothing by itself: the kernel writes it as the file's own mount namespace sees it, and any user can make a namespace in which /usr/bin/qemu is a file
// of theirs. So a path counts only while it names, in the daemon's view, the very file that runs. That look-up is made only for paths that a rule names: a path of the
// client's choice could lead to a file system that never answers.

import type { Program } from "../broker/ports.js";
import { type BlockingQueue, native, type ProgramFacts } from "../native.js";

/** A look-up that takes longer counts as failed, and is made again at the next call. */
const DEADLINE_MS = 5_000;

/** What the kernel appends to the path of a file or cgroup that is no more. A name that really ends so is not told apart, and counts as gone. */
const DELETED = " (deleted)";

const NOTHING: Program = { executable: null, cgroup: null };

export class ProgramReader {
  readonly #pid: number;
  #queue: BlockingQueue | null = null;
  #facts: Promise<ProgramFacts | null> | null = null;
  /** The executable's path and whether it names the file: asked once. */
  #verified: Promise<boolean> | null = null;

  constructor(pid: number) {
    this.#pid = pid;
  }

  /** Never rejects. */
  async read(named: (executable: string) => boolean): Promise<Program> {
    let timer: NodeJS.Timeout | null = null;
    const late = new Promise<Program>((resolve) => {
      timer = setTimeout(resolve, DEADLINE_MS, NOTHING).unref();
    });
    const program = await Promise.race([this.#read(named), late]);
    if (timer) clearTimeout(timer);
    return program;
  }

  async #read(named: (executable: string) => boolean): Promise<Program> {
    this.#queue ??= new native.BlockingQueue(`process ${this.#pid}`);
    const queue = this.#queue;
    this.#facts ??= queue.program(this.#pid).then((answer) => answer.value);
    const facts = await this.#facts;
    if (facts === null) return NOTHING;
    const path = pathOf(facts.executable);
    const cgroup = pathOf(facts.cgroup);
    if (path === null || !named(path)) return { executable: null, cgroup };
    this.#verified ??= queue.isFile(path, facts.device, facts.inode).then((answer) => answer.value === true);
    return { executable: (await this.#verified) ? path : null, cgroup };
  }
}

/** null: nothing, gone, or no UTF-8: then two different names could read the same. */
function pathOf(bytes: Uint8Array): string | null {
  if (bytes.length === 0) return null;
  try {
    const path = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
    return path.endsWith(DELETED) ? null : path;
  } catch {
    return null;
  }
}
