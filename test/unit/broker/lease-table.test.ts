import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { LEASE_STATES, type LeaseEvent, type LeaseState, transition } from "../../../src/broker/lease-table.js";

const EVENTS: readonly LeaseEvent[] = [
  ...([
    "ACQUIRE",
    "RESERVE",
    "SHOWN",
    "OPENED",
    "OPEN_FAILED",
    "ACKED",
    "RETAINED",
    "END",
    "PROVEN",
    "NOT_PROVEN",
    "RESET_OK",
    "RESET_FAILED",
    "RETRY",
    "REMOVED",
    "REBIND",
    "REBIND_LATE",
    "REBOUND",
  ] as const),
];

function reachable(from: LeaseState, without: (state: LeaseState, event: LeaseEvent) => boolean = () => false): ReadonlySet<LeaseState> {
  const seen = new Set<LeaseState>([from]);
  for (const state of seen) {
    for (const event of EVENTS) {
      const row = without(state, event) ? null : transition(state, event);
      if (row) seen.add(row.next);
    }
  }
  return seen;
}

describe("[pure] lease table", () => {
  it("reaches every state from FREE, and FREE again from every state but REMOVED", () => {
    assert.deepEqual([...reachable("FREE")].sort(), [...LEASE_STATES].sort());
    for (const state of LEASE_STATES) assert.equal(reachable(state).has("FREE"), state !== "REMOVED", state);
  });

  it("never makes a device free that a client had, but through a proof and a reset", () => {
    const after = reachable("OFFERED", (_state, event) => event === "PROVEN");
    assert.ok(!after.has("FREE") && !after.has("RESETTING"));
    assert.ok(!reachable("OFFERED", (_state, event) => event === "RESET_OK").has("FREE"));
  });

  it("proves whatever leaves a client, and unlocks only what is free or gone", () => {
    for (const state of ["OFFERED", "HELD"] as const) {
      for (const event of ["END", "REMOVED"] as const)
        assert.deepEqual(transition(state, event), { next: "RELEASING", effects: ["PROVE"] });
    }
    for (const state of LEASE_STATES) {
      for (const event of EVENTS) {
        const row = transition(state, event);
        if (!row) continue;
        assert.equal(row.effects.includes("UNLOCK"), row.next === "FREE" || row.next === "REMOVED", `${state} ${event}`);
        assert.equal(row.effects.includes("PROVE"), row.next === "RELEASING", `${state} ${event}`);
      }
    }
  });

  it("asks neither for proof nor for a reset of what was only reserved", () => {
    for (const event of ["END", "REMOVED"] as const) assert.deepEqual(transition("RESERVED", event), { next: "FREE", effects: ["UNLOCK"] });
  });

  it("keeps the open files of a lease that is retained, and of no other", () => {
    assert.deepEqual(transition("OFFERED", "ACKED")?.effects, ["DROP_COPIES"]);
    assert.deepEqual(transition("OFFERED", "RETAINED")?.effects, []);
  });

  it("has no row for an event that comes late", () => {
    assert.equal(transition("FREE", "ACKED"), null);
    assert.equal(transition("RELEASING", "ACKED"), null);
    assert.equal(transition("QUARANTINED", "RESET_OK"), null);
    assert.equal(transition("REMOVED", "ACQUIRE"), null);
  });
});
