// A client must not fill the disk: lines that a peer can cause at no cost are counted for its user, and from the eleventh in 5 s on only counted. Users, not processes:
// a process can make as many processes as it likes. The first line of each kind in a window is always written: noise must not hide what it was made to hide.

export const LINE_LIMIT = { lines: 10, windowMs: 5_000, users: 1_024 } as const;

/** All users that came when the memory was full. */
const OTHERS = -1;

interface Window {
  lines: number;
  suppressed: number;
  readonly kinds: Set<string>;
  readonly cancel: () => void;
}

export interface LineLimitDeps {
  /** Calls back once after ms; the returned function cancels. */
  readonly after: (ms: number, callback: () => void) => () => void;
  /** A window with lines left out is over. */
  readonly onSuppressed: (uid: number, count: number) => void;
}

export class LineLimit {
  readonly #deps: LineLimitDeps;
  readonly #windows = new Map<number, Window>();
  #total = 0;

  constructor(deps: LineLimitDeps) {
    this.#deps = deps;
  }

  /** Lines left out so far. */
  get total(): number {
    return this.#total;
  }

  /** Whether one more line of this user may be written. kind: a constant of the code. */
  admits(uid: number, kind: string): boolean {
    const key = this.#windows.has(uid) || this.#windows.size < LINE_LIMIT.users ? uid : OTHERS;
    let window = this.#windows.get(key);
    if (!window) {
      window = { lines: 0, suppressed: 0, kinds: new Set(), cancel: this.#deps.after(LINE_LIMIT.windowMs, () => this.#end(key)) };
      this.#windows.set(key, window);
    }
    if (window.lines < LINE_LIMIT.lines || !window.kinds.has(kind)) {
      window.kinds.add(kind);
      window.lines += 1;
      return true;
    }
    window.suppressed += 1;
    this.#total += 1;
    return false;
  }

  /** Ends every window now, so that no count is lost when the daemon stops. */
  flush(): void {
    for (const [uid, window] of this.#windows) {
      window.cancel();
      this.#end(uid);
    }
  }

  #end(uid: number): void {
    const window = this.#windows.get(uid);
    this.#windows.delete(uid);
    if (window && window.suppressed > 0) this.#deps.onSuppressed(uid, window.suppressed);
  }
}
