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

/** How one kind of watch speaks. Kind: of changes; last is the one after which there is nothing more to tell of a thing. */
export interface WatchWords<Kind extends string, View, Event, Message> {
  readonly last: Kind;
  readonly synced: Event;
  event(kind: Kind | "SNAPSHOT", view: View): Event;
  message(events: Event[]): Message;
}

/** The stream of one watcher. What waits to be sent is one entry a thing: its newest state. */
export class CoalescedStream<Kind extends string, View, Event, Message> {
  readonly #call: Pick<ServerWritableStream<unknown, Message>, "on" | "write">;
  readonly #words: WatchWords<Kind, View, Event, Message>;
  readonly #waiting = new Map<string, { readonly kind: Kind | "SNAPSHOT"; readonly view: View }>();
  /** What the watcher was told of and, as far as it knows, is there. */
  readonly #known = new Set<string>();
  /** Snapshots among what waits. */
  #snapshots = 0;
  #synced = false;
  #flowing = true;
  #scheduled = false;

  constructor(call: Pick<ServerWritableStream<unknown, Message>, "on" | "write">, words: WatchWords<Kind, View, Event, Message>) {
    this.#call = call;
    this.#words = words;
  }

  start(snapshot: Iterable<readonly [string, View]>): void {
    for (const [key, view] of snapshot) this.#waiting.set(key, { kind: "SNAPSHOT", view });
    this.#snapshots = this.#waiting.size;
    this.#call.on("drain", () => {
      this.#flowing = true;
      this.#send();
    });
    this.#send();
  }

  tell(key: string, kind: Kind, view: View): void {
    const earlier = this.#waiting.get(key);
    if (kind === this.#words.last && !this.#known.has(key)) {
      // It came and went unread: the watcher need not hear of it, or what waits would grow with every one.
      this.#forget(key);
    } else this.#waiting.set(key, { kind: earlier?.kind === "SNAPSHOT" ? "SNAPSHOT" : kind, view });
    this.#schedule();
  }

  stop(): void {
    this.#waiting.clear();
    this.#known.clear();
    this.#flowing = false;
  }

  #forget(key: string): void {
    if (this.#waiting.get(key)?.kind === "SNAPSHOT") this.#snapshots -= 1;
    this.#waiting.delete(key);
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
    while (this.#flowing && (this.#waiting.size > 0 || !this.#synced)) {
      const events: Event[] = [];
      for (const [key, { kind, view }] of this.#waiting) {
        if (events.length === BATCH) break;
        this.#forget(key);
        if (kind === this.#words.last) this.#known.delete(key);
        else this.#known.add(key);
        events.push(this.#words.event(kind, view));
      }
      if (!this.#synced && events.length < BATCH && this.#snapshots === 0) {
        this.#synced = true;
        events.push(this.#words.synced);
      }
      this.#flowing = this.#call.write(this.#words.message(events));
    }
  }
}
