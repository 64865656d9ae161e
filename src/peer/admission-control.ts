// How many connections there may be, in all and for each user. grpc-js cannot shed hostile connections by itself (measured: 300 of 300 silent connections were
// still held after its idle and age limits), so the daemon counts and closes them before gRPC ever sees them.

export interface ConnectionLimits {
  readonly connections: number;
  readonly connectionsPerUid: number;
}

export class ConnectionCounter {
  readonly #limits: ConnectionLimits;
  readonly #byUid = new Map<number, number>();
  #total = 0;

  constructor(limits: ConnectionLimits) {
    this.#limits = limits;
  }

  get total(): number {
    return this.#total;
  }

  /** Counts one more. null: over a limit; else a function that gives the place back, once. */
  enter(uid: number): (() => void) | null {
    const own = this.#byUid.get(uid) ?? 0;
    if (this.#total >= this.#limits.connections || own >= this.#limits.connectionsPerUid) return null;
    this.#total += 1;
    this.#byUid.set(uid, own + 1);
    let inside = true;
    return () => {
      if (!inside) return;
      inside = false;
      this.#total -= 1;
      const rest = (this.#byUid.get(uid) ?? 1) - 1;
      if (rest === 0) this.#byUid.delete(uid);
      else this.#byUid.set(uid, rest);
    };
  }
}
