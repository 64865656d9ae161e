// What all watches have in common: a number of places for all of them together, and a stream that costs a watcher who does not read a bounded amount (grpc-js queues
// without limit when write()'s answer is ignored).

import type { ServerWritableStream } from "@grpc/grpc-js";
import { granted, type Outcome, type Reason, refuse } from "../broker/refusal.js";
import { toGrpcError } from "./status.js";

/** Events in one message of a watch. */
const BATCH = 100;

/** The watches that there may be at once, of all services. */
export class WatcherPlaces {
  readonly #most: () => number;
  readonly #onRefused: (reason: Reason) => void;
  #taken = 0;

  constructor(most: () => number, onRefused: (reason: Reason) => void) {
    this.#most = most;
    this.#onRefused = onRefused;
  }

  /** Takes a place; the returned function gives it back, once. */
  #take(): Outcome<() => void> {
    const most = this.#most();
    if (this.#taken >= most) return refuse("CONNECTION_QUOTA", `${most} watchers are the most`);
    this.#taken += 1;
    return granted(() => {
      this.#taken -= 1;
    });
  }

  /** Serves a watch for as long as its call lives. serve: starts it, and returns what stops it; or why there is none. */
  serve<Request, Message>(call: ServerWritableStream<Request, Message>, serve: () => Outcome<() => void>): void {
    const place = this.#take();
    const stop = place.refusal ? place : serve();
    if (stop.refusal) {
      place.value?.();
      this.#onRefused(stop.refusal.reason);
      call.emit("error", toGrpcError(stop.refusal));
      return;
    }
    call.once("close", () => {
      place.value?.();
      stop.value();
    });
  }
}

/** What one message of a watch tells, in this order. */
export interface Batch<Kind, View> {
  /** Things that were there when the watch began. */
  readonly snapshot: readonly View[];
  readonly changes: readonly Change<Kind, View>[];
  /** The snapshot is complete. Said once. */
  readonly synced: boolean;
}

export interface Change<Kind, View> {
  readonly kind: Kind;
  readonly view: View;
}

/** How one kind of watch speaks. Kind: of changes; last is the one after which there is nothing more to tell of a thing. */
export interface WatchWords<Kind extends string, View, Message> {
  readonly last: Kind;
  /** Which thing it is, and its place in a snapshot: the same for all views of a thing. */
  key(view: View): string;
  message(batch: Batch<Kind, View>): Message;
}

/** The stream of one watcher. What waits to be sent is one entry a thing: its newest state. */
export class CoalescedStream<Kind extends string, View, Message> {
  readonly #call: Pick<ServerWritableStream<unknown, Message>, "on" | "write">;
  readonly #words: WatchWords<Kind, View, Message>;
  /** By key. It is shared with others and never written to: an entry of our own for each of 10,000 devices takes longer than sending them. */
  #snapshot: readonly View[] = [];
  /** How many of the snapshot have been sent. */
  #told = 0;
  /** In the place of the snapshot's, of what has not been sent yet; null: it is gone. */
  readonly #newer = new Map<string, View | null>();
  readonly #changes = new Map<string, Change<Kind, View>>();
  /** Whether a thing is there as far as the watcher knows, where that is not what the snapshot said. */
  readonly #since = new Map<string, boolean>();
  #synced = false;
  #flowing = true;
  #scheduled = false;

  constructor(call: Pick<ServerWritableStream<unknown, Message>, "on" | "write">, words: WatchWords<Kind, View, Message>) {
    this.#call = call;
    this.#words = words;
  }

  /** snapshot: in the order of its keys. */
  start(snapshot: readonly View[]): void {
    this.#snapshot = snapshot;
    this.#call.on("drain", () => {
      this.#flowing = true;
      this.#send();
    });
    this.#send();
  }

  tell(kind: Kind, view: View): void {
    const key = this.#words.key(view);
    const place = this.#placeOf(key);
    if (place >= this.#told) this.#newer.set(key, kind === this.#words.last ? null : view);
    else if (kind === this.#words.last && !(this.#since.get(key) ?? place >= 0)) {
      // It came and went unread: the watcher need not hear of it, or what waits would grow with every one.
      this.#changes.delete(key);
    } else this.#changes.set(key, { kind, view });
    this.#schedule();
  }

  stop(): void {
    this.#snapshot = [];
    this.#told = 0;
    for (const each of [this.#newer, this.#changes, this.#since]) each.clear();
    this.#synced = true;
    this.#flowing = false;
  }

  /** Where a thing stands in the snapshot; -1: it was not there. */
  #placeOf(key: string): number {
    let [low, high] = [0, this.#snapshot.length];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#keyAt(middle) < key) low = middle + 1;
      else high = middle;
    }
    return low < this.#snapshot.length && this.#keyAt(low) === key ? low : -1;
  }

  #keyAt(place: number): string {
    const view = this.#snapshot[place];
    return view === undefined ? "" : this.#words.key(view);
  }

  /** Changes of one turn of the event loop go out together. */
  #schedule(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    setImmediate(() => {
      this.#scheduled = false;
      this.#send();
    });
  }

  #send(): void {
    while (this.#flowing && (this.#told < this.#snapshot.length || this.#changes.size > 0 || !this.#synced)) {
      const snapshot = this.#nextOfSnapshot();
      // Where there is room behind it, the snapshot is complete.
      const changes = this.#nextChanges(BATCH - snapshot.length);
      const synced = !this.#synced && snapshot.length + changes.length < BATCH;
      this.#synced ||= synced;
      this.#flowing = this.#call.write(this.#words.message({ snapshot, changes, synced }));
    }
  }

  #nextOfSnapshot(): readonly View[] {
    const from = this.#told;
    if (this.#newer.size === 0) {
      this.#told = Math.min(from + BATCH, this.#snapshot.length);
      return this.#snapshot.slice(from, this.#told);
    }
    const views: View[] = [];
    for (; views.length < BATCH && this.#told < this.#snapshot.length; this.#told += 1) {
      const key = this.#keyAt(this.#told);
      const view = this.#newer.has(key) ? this.#newer.get(key) : this.#snapshot[this.#told];
      this.#newer.delete(key);
      if (view === undefined || view === null) this.#since.set(key, false);
      else views.push(view);
    }
    return views;
  }

  #nextChanges(most: number): readonly Change<Kind, View>[] {
    const changes: Change<Kind, View>[] = [];
    for (const [key, change] of this.#changes) {
      if (changes.length === most) break;
      this.#changes.delete(key);
      if (change.kind !== this.#words.last) this.#since.set(key, true);
      else if (this.#placeOf(key) >= 0) this.#since.set(key, false);
      else this.#since.delete(key);
      changes.push(change);
    }
    return changes;
  }
}
