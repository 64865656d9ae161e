// Clients without sockets: a channel whose acknowledgements a test gives by hand, and peers that live until told otherwise.

import type {
  EndCause,
  Handover,
  HandoverChannel,
  HandoverResult,
  HandoverSlot,
  Offer,
  Peer,
  Program,
  RecallCause,
} from "../../src/broker/ports.js";
import { granted, type Outcome, refuse } from "../../src/broker/refusal.js";

export class FakePeer implements Peer {
  readonly processId: number;
  readonly pid: number;
  readonly uid: number;
  readonly gid = 0;
  groups: readonly number[] | null = [];
  /** What program() answers. */
  runs: Program = { executable: null, cgroup: null };
  programReads = 0;
  alive = true;
  watches = 0;

  constructor(processId: number, uid: number) {
    this.processId = processId;
    this.pid = 1000 + processId;
    this.uid = uid;
  }

  async program(): Promise<Program> {
    this.programReads += 1;
    return this.runs;
  }

  isAlive(): boolean {
    return this.alive;
  }

  watch(): () => void {
    this.watches += 1;
    return () => {
      this.watches -= 1;
    };
  }
}

export class FakeChannel implements HandoverChannel {
  readonly id: bigint;
  reserved = false;
  failSend = false;
  /** Whether a request may wait for the offer before it. */
  patient = false;
  readonly ends: [string, EndCause | "SUCCEEDED"][] = [];
  readonly recalls: [string, RecallCause, number][] = [];
  readonly offers: Offer[] = [];
  #settle: ((result: HandoverResult) => void) | null = null;
  #waiters: (() => void)[] = [];

  constructor(id: bigint) {
    this.id = id;
  }

  get waiting(): boolean {
    return this.#settle !== null;
  }

  reserve(): Outcome<HandoverSlot> {
    if (this.reserved) return refuse("HANDOVER_PENDING", "an offer waits");
    this.reserved = true;
    return granted({
      offer: (offer: Offer) => {
        if (this.failSend) return refuse("HANDOVER_FAILED", "told to fail");
        this.offers.push(offer);
        const done = new Promise<HandoverResult>((resolve) => {
          this.#settle = resolve;
        });
        return granted({ ackDeadline: 0, done });
      },
      cancel: () => this.#free(),
    });
  }

  busy(): Promise<void> | null {
    if (!this.reserved || !this.patient) return null;
    return new Promise((resolve) => this.#waiters.push(resolve));
  }

  answer(result: HandoverResult): void {
    this.#free();
    this.#settle?.(result);
    this.#settle = null;
  }

  #free(): void {
    this.reserved = false;
    for (const waiter of this.#waiters.splice(0)) waiter();
  }

  ended(leaseId: string, cause: EndCause | "SUCCEEDED"): void {
    this.ends.push([leaseId, cause]);
  }

  recalled(leaseId: string, cause: RecallCause, graceMs: number): void {
    this.recalls.push([leaseId, cause, graceMs]);
  }
}

export class FakeHandover implements Handover {
  readonly channels = new Map<number, FakeChannel>();

  attach(peer: Peer): FakeChannel {
    const channel = new FakeChannel(BigInt(peer.processId));
    this.channels.set(peer.processId, channel);
    return channel;
  }

  channelOf(peer: Peer, wanted: bigint): HandoverChannel | null {
    const channel = this.channels.get(peer.processId) ?? null;
    return wanted === 0n || channel?.id === wanted ? channel : null;
  }
}
