// What the broker remembers of the past: answers to request ids, so that a repeated call does not make a second lease, and leases that have ended, so that
// their holder can still ask what became of them. Both are bounded.

import type { AcquireRequest, Lease } from "./lease.js";
import { type Outcome, refuse } from "./refusal.js";

/** The lease of a request, and its ticket when one was asked for. */
export interface Granted {
  readonly lease: Lease;
  readonly ticket: Uint8Array | null;
}

interface Remembered {
  readonly body: string;
  readonly outcome: Promise<Outcome<Granted>>;
}

export class RequestMemory {
  readonly #requests = new Map<string, Remembered>();

  /** The answer that this id has had already, or the one that make gives now. key: process and request id. */
  async once(key: string, request: AcquireRequest, make: () => Promise<Outcome<Granted>>): Promise<Outcome<Granted>> {
    const { kind, mode, devices, channel, ticket, maxDurationMs } = request;
    const body = JSON.stringify([kind, mode, devices, String(channel), ticket?.uid, ticket?.lifetimeMs, maxDurationMs]);
    const earlier = this.#requests.get(key);
    if (earlier) {
      if (earlier.body === body) return earlier.outcome;
      return refuse("REQUEST_ID_REUSED", `request_id ${request.requestId} was used with another request before`, { field: "request_id" });
    }
    const outcome = make();
    this.#requests.set(key, { body, outcome });
    const settled = await outcome;
    // A refusal changed nothing: the same id may be tried again.
    if (settled.refusal) this.#requests.delete(key);
    return settled;
  }

  forget(key: string): void {
    this.#requests.delete(key);
  }
}

export class EndedLeases {
  readonly #limits: { readonly endedMs: number; readonly endedKept: number };
  readonly #onForgotten: (lease: Lease) => void;
  /** In order of their end. */
  readonly #leases = new Map<string, Lease>();

  constructor(limits: { readonly endedMs: number; readonly endedKept: number }, onForgotten: (lease: Lease) => void) {
    this.#limits = limits;
    this.#onForgotten = onForgotten;
  }

  get(id: string): Lease | null {
    return this.#leases.get(id) ?? null;
  }

  /** Remembers one more, and forgets what is too old or too many. */
  add(lease: Lease, now: number): void {
    this.#leases.set(lease.id, lease);
    for (const [id, old] of this.#leases) {
      if (this.#leases.size <= this.#limits.endedKept && (old.endTime ?? 0) > now - this.#limits.endedMs) return;
      this.#leases.delete(id);
      this.#onForgotten(old);
    }
  }
}
