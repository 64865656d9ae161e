import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { type Batch, CoalescedStream } from "../../../src/rpc/watching.js";

type Kind = "CHANGED" | "REMOVED";
interface Thing {
  readonly name: string;
  readonly version: number;
}
type Told = Batch<Kind, Thing>;

const nextTurn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** A call that takes as many messages as it has room for, and says "drain" when it has room again. */
class Call {
  readonly messages: Told[] = [];
  room: number;
  #drained: () => void = () => undefined;

  constructor(room: number) {
    this.room = room;
  }

  on(event: string, listener: () => void): this {
    if (event === "drain") this.#drained = listener;
    return this;
  }

  write(message: Told): boolean {
    this.messages.push(message);
    this.room -= 1;
    return this.room > 0;
  }

  drain(room: number): void {
    const full = this.room <= 0;
    this.room = room;
    if (full) this.#drained();
  }
}

/** What a watcher holds true after the messages; every rule of a watch is checked on the way. */
function heard(messages: readonly Told[]): ReadonlyMap<string, Thing> {
  const known = new Map<string, Thing>();
  let synced = false;
  for (const { snapshot, changes, synced: now } of messages) {
    assert.ok(snapshot.length + changes.length + (now ? 1 : 0) <= 100, "no more than 100 events in a message");
    assert.ok(snapshot.length + changes.length > 0 || now, "no message says nothing");
    for (const thing of snapshot) {
      assert.ok(!synced && !known.has(thing.name), "a snapshot is told once, and before SYNCED");
      known.set(thing.name, thing);
    }
    for (const { kind, view } of changes) {
      const before = known.get(view.name);
      assert.ok(view.version >= (before?.version ?? 0), "no older state after a newer one");
      if (kind === "CHANGED") known.set(view.name, view);
      else assert.ok(known.delete(view.name), "only what was told of can go");
    }
    assert.ok(!(now && synced), "SYNCED is said once");
    synced ||= now;
  }
  return known;
}

function streamTo(call: Call): CoalescedStream<Kind, Thing, Told> {
  return new CoalescedStream<Kind, Thing, Told>(call as never, { last: "REMOVED", key: ({ name }) => name, message: (batch) => batch });
}

const named = (number: number): string => `t${String(number).padStart(4, "0")}`;
const startWith = (count: number): readonly Thing[] =>
  Array.from({ length: count }, (_, index) => ({ name: named(index * 2), version: 1 }));

// Few things, so that much happens to each: names of the snapshot, which are even, and others, from what is sent at once and from what has to wait.
const anyThing = fc.oneof(fc.nat(5), fc.integer({ min: 210, max: 215 }));

const step = fc.oneof(
  { weight: 6, arbitrary: fc.record({ act: fc.constant("change" as const), number: anyThing }) },
  { weight: 3, arbitrary: fc.record({ act: fc.constant("remove" as const), number: anyThing }) },
  { weight: 2, arbitrary: fc.record({ act: fc.constant("turn" as const), number: fc.constant(0) }) },
  { weight: 2, arbitrary: fc.record({ act: fc.constant("drain" as const), number: fc.integer({ min: 1, max: 3 }) }) },
);

describe("[pure] the stream of a watcher", () => {
  it("ends with what is there, in any history of changes and of a slow reader", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 0, max: 220 }),
        fc.integer({ min: 1, max: 4 }),
        fc.array(step, { maxLength: 120, size: "max" }),
        async (count, room, steps) => {
          const snapshot = startWith(count);
          const there = new Map(snapshot.map((thing) => [thing.name, thing]));
          const call = new Call(room);
          const stream = streamTo(call);
          stream.start(snapshot);
          let version = 1;
          for (const { act, number } of steps) {
            version += 1;
            const thing = { name: named(number), version };
            if (act === "change") {
              there.set(thing.name, thing);
              stream.tell("CHANGED", thing);
            } else if (act === "remove" && there.delete(thing.name)) stream.tell("REMOVED", thing);
            else if (act === "turn") await nextTurn();
            else if (act === "drain") call.drain(number);
            heard(call.messages);
          }
          call.drain(1_000);
          await nextTurn();
          assert.deepEqual(new Map([...heard(call.messages)].sort()), new Map([...there].sort()));
          assert.equal(call.messages.filter(({ synced }) => synced).length, 1);
          assert.deepEqual(snapshot, startWith(count), "the snapshot is not ours to change");
        },
      ),
      { numRuns: 300 },
    );
  });

  it("tells of a thing that waits once, as its newest state, and not at all of one that came and went", async () => {
    const call = new Call(1);
    const stream = streamTo(call);
    stream.start(startWith(150));
    assert.deepEqual(
      call.messages.map((message) => message.snapshot.length),
      [100],
    );
    for (let version = 2; version < 1_000; version += 1) {
      stream.tell("CHANGED", { name: named(0), version });
      stream.tell("CHANGED", { name: named(298), version });
      stream.tell("CHANGED", { name: named(2 * version + 1), version });
      stream.tell("REMOVED", { name: named(2 * version + 1), version });
    }
    stream.tell("REMOVED", { name: named(296), version: 1_000 });
    await nextTurn();
    assert.equal(call.messages.length, 1);
    call.drain(10);
    const [, rest, ...none] = call.messages;
    assert.deepEqual(none, []);
    assert.equal(rest?.snapshot.length, 49);
    assert.deepEqual(rest?.snapshot.at(-1), { name: named(298), version: 999 });
    assert.deepEqual(rest?.changes, [{ kind: "CHANGED", view: { name: named(0), version: 999 } }]);
    assert.equal(rest?.synced, true);
    // Of the snapshot, but this watcher was never told of it.
    stream.tell("CHANGED", { name: named(296), version: 1_001 });
    stream.tell("REMOVED", { name: named(296), version: 1_002 });
    await nextTurn();
    assert.equal(call.messages.length, 2);
  });

  it("writes nothing after its end", async () => {
    const call = new Call(1);
    const stream = streamTo(call);
    stream.start(startWith(150));
    stream.tell("CHANGED", { name: named(0), version: 2 });
    stream.stop();
    call.drain(10);
    await nextTurn();
    assert.equal(call.messages.length, 1);
  });
});
