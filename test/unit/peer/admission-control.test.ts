import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { ConnectionCounter } from "../../../src/peer/admission-control.js";

describe("[pure] ConnectionCounter", () => {
  it("lets exactly connectionsPerUid of one user in", () => {
    const counter = new ConnectionCounter({ connections: 100, connectionsPerUid: 3 });
    const inside = [1, 2, 3].map(() => counter.enter(7));
    assert.ok(inside.every((leave) => leave !== null));
    assert.equal(counter.enter(7), null);
    assert.ok(counter.enter(8) !== null, "another user has places of its own");
    inside[0]?.();
    assert.ok(counter.enter(7) !== null);
    assert.equal(counter.enter(7), null);
  });

  it("lets exactly connections of all users in", () => {
    const counter = new ConnectionCounter({ connections: 3, connectionsPerUid: 2 });
    const inside = [counter.enter(1), counter.enter(1), counter.enter(2)];
    assert.ok(inside.every((leave) => leave !== null));
    assert.equal(counter.enter(2), null);
    assert.equal(counter.enter(3), null);
    assert.equal(counter.total, 3);
    inside[0]?.();
    assert.ok(counter.enter(3) !== null);
    assert.equal(counter.enter(2), null);
  });

  it("takes a place back once, however often it is given", () => {
    const counter = new ConnectionCounter({ connections: 2, connectionsPerUid: 2 });
    const first = counter.enter(1);
    counter.enter(1);
    first?.();
    first?.();
    first?.();
    assert.equal(counter.total, 1);
    assert.ok(counter.enter(1) !== null);
    assert.equal(counter.enter(1), null);
  });

  it("a refusal costs nothing", () => {
    const counter = new ConnectionCounter({ connections: 1, connectionsPerUid: 1 });
    const leave = counter.enter(1);
    for (let i = 0; i < 10; i += 1) assert.equal(counter.enter(1), null);
    leave?.();
    assert.equal(counter.total, 0);
    assert.ok(counter.enter(1) !== null);
  });

  it("agrees with a plain count in every order of coming and going", () => {
    const steps = fc.array(fc.record({ uid: fc.integer({ min: 0, max: 3 }), leave: fc.boolean(), which: fc.nat() }), { maxLength: 200 });
    fc.assert(
      fc.property(steps, (all) => {
        const counter = new ConnectionCounter({ connections: 7, connectionsPerUid: 3 });
        const inside: { uid: number; leave: () => void }[] = [];
        for (const step of all) {
          if (step.leave && inside.length > 0) {
            const [gone] = inside.splice(step.which % inside.length, 1);
            gone?.leave();
          } else if (!step.leave) {
            const may = inside.length < 7 && inside.filter(({ uid }) => uid === step.uid).length < 3;
            const leave = counter.enter(step.uid);
            assert.equal(leave !== null, may);
            if (leave !== null) inside.push({ uid: step.uid, leave });
          }
          assert.equal(counter.total, inside.length);
        }
      }),
    );
  });
});
