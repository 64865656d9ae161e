// Which queue a descriptor is closed on, when devices come and go.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { DeviceQueues } from "../../../src/host/device-queues.js";
import { Holding } from "../../../src/host/holding.js";
import { type BlockingQueue, native } from "../../../src/native.js";
import { must, openDescriptors } from "../../contract/client-side.js";

/** A real queue that tells of each call of one method. */
function watched(name: string, method: "closeAll" | "finish", tell: (argument: unknown) => void): BlockingQueue {
  const queue: BlockingQueue = new native.BlockingQueue(name);
  return new Proxy(queue, {
    get(_target, property) {
      const value: unknown = Reflect.get(queue, property, queue);
      if (typeof value !== "function") return value;
      return (...args: unknown[]): unknown => {
        if (property === method) tell(args[0]);
        return Reflect.apply(value, queue, args);
      };
    },
  });
}

describe("[real descriptors] device queues", () => {
  const finished: string[] = [];

  function makeQueues(): DeviceQueues {
    finished.length = 0;
    return new DeviceQueues((name) => watched(name, "finish", () => finished.push(name)));
  }

  const observer = {
    fault: (where: string, error: unknown) => {
      assert.fail(`${where}: ${String(error)}`);
    },
  };

  test("one queue for each device, the same every time, and another for another", () => {
    const queues = makeQueues();
    const [a, again, b] = [queues.use("a"), queues.use("a"), queues.use("b")];
    assert.equal(a.queue, again.queue);
    assert.notEqual(a.queue, b.queue);
    assert.equal(queues.size, 2);
    for (const use of [a, again, b]) use.release();
    queues.keepOnly(new Set());
  });

  test("a device that goes takes its queue along when the last descriptor is closed, not before", async () => {
    const open = openDescriptors();
    const queues = makeQueues();
    const holding = new Holding(queues, observer);
    holding.own(must(native.eventfdCreate()), "an eventfd", "a");
    queues.keepOnly(new Set(["b"]));
    assert.deepEqual([queues.size, finished], [0, []]);
    // The device is back: new work does not wait behind the old.
    const next = queues.use("a");
    assert.notEqual(next.queue, holding.queue("a"));
    await holding.close();
    assert.deepEqual(finished, ["a"]);
    assert.equal(openDescriptors(), open);
    queues.keepOnly(new Set());
    assert.deepEqual(finished, ["a"]);
    next.release();
    next.release();
    assert.deepEqual(finished, ["a", "a"]);
  });

  test("a holding closes in reverse order, on each descriptor's queue, once", async () => {
    const open = openDescriptors();
    const order: string[] = [];
    const queues = new DeviceQueues((name) => watched(name, "closeAll", (descriptors) => order.push(`${name} ${String(descriptors)}`)));
    const holding = new Holding(queues, observer);
    const numbers = ["group", "device", "device"].map((key) => {
      const number = must(native.eventfdCreate());
      return { key, owned: holding.own(number, key, key), number };
    });
    const [group, first, second] = numbers;
    assert.ok(group !== undefined && first !== undefined && second !== undefined);
    // The second waits for what the first has begun: whoever asks the kernel next must not meet our own descriptor.
    void holding.close();
    await holding.close();
    assert.equal(openDescriptors(), open);
    assert.deepEqual(order, [`device ${second.number},${first.number}`, `group ${group.number}`]);
    assert.throws(() => first.owned.borrow(), /after it was closed/);
    assert.equal(openDescriptors(), open);
    queues.keepOnly(new Set());
  });
});
