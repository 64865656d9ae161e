// Random histories against the rules that must hold in every one of them. 300 histories of up to 60 commands a run; the seed is printed by fast-check when one fails.
// Leases are acquired by their holder, reserved for whoever shows a ticket, passed on to successors, recalled, and end in every way there is.

import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import type { LeaseView } from "../../../src/broker/lease.js";
import { ANYBODY, client, type FakeBroker, fakeBroker, settle, wish } from "../../fakes/broker.js";
import type { FakePeer } from "../../fakes/handover.js";
import { fakeAddress } from "../../fakes/host.js";

const GROUPS = [[1], [2, 3], [4]];
const DEVICES = GROUPS.flat().map(fakeAddress);

type Machine = "held" | "unheld" | "resetFails" | "resetWorks" | "noReset" | "failOpen" | "unplug" | "plug";

type Command =
  | { readonly do: "acquire"; readonly peer: number; readonly device: number; readonly second: number | null; readonly how: How }
  | { readonly do: "ack" | "short" | "silence" | "release" | "die" | "name"; readonly peer: number }
  | { readonly do: "show"; readonly peer: number; readonly ticket: number }
  | { readonly do: "recall"; readonly lease: number; readonly cause: "DEVICE_REMOVED" | "EXPIRED" }
  | { readonly do: Machine; readonly device: number }
  | { readonly do: "time"; readonly ms: number };

interface How {
  readonly mode: "HAND_OFF" | "RETAIN";
  readonly ticket: { readonly uid: number | null; readonly lifetimeMs: number } | null;
  readonly maxDurationMs: number | null;
}

const device = fc.nat(DEVICES.length - 1);
const peer = fc.nat(3);
const how: fc.Arbitrary<How> = fc.record({
  mode: fc.constantFrom("HAND_OFF" as const, "RETAIN" as const),
  ticket: fc.option(fc.record({ uid: fc.constantFrom(null, 1000, 1001), lifetimeMs: fc.constantFrom(1000, 60_000) })),
  maxDurationMs: fc.option(fc.constantFrom(2000, 100_000), { freq: 3 }),
});
const command: fc.Arbitrary<Command> = fc.oneof(
  { weight: 6, arbitrary: fc.record({ do: fc.constant("acquire" as const), peer, device, second: fc.option(device), how }) },
  {
    weight: 8,
    arbitrary: fc.record({
      do: fc.constantFrom(...(["ack", "ack", "ack", "short", "silence", "release", "die", "name"] as const)),
      peer,
    }),
  },
  // The latest tickets, in most cases.
  { weight: 4, arbitrary: fc.record({ do: fc.constant("show" as const), peer, ticket: fc.nat(3) }) },
  {
    weight: 1,
    arbitrary: fc.record({ do: fc.constant("recall" as const), lease: fc.nat(3), cause: fc.constantFrom("DEVICE_REMOVED", "EXPIRED") }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constantFrom(...(["held", "unheld", "resetFails", "resetWorks", "noReset", "failOpen", "unplug", "plug"] as const)),
      device,
    }),
  },
  { weight: 3, arbitrary: fc.record({ do: fc.constant("time" as const), ms: fc.constantFrom(999, 31_000) }) },
);

class World {
  readonly broker: FakeBroker;
  readonly peers: FakePeer[];
  /** Ids of the leases that a process acquired. */
  readonly leases = new Map<FakePeer, string[]>();
  /** Latest first, with whether it was good for an offer already. */
  readonly tickets: { readonly bytes: Uint8Array; used: boolean }[] = [];
  /** A watch of the operator's: what there is by what it was told. */
  readonly told = new Map<string, LeaseView>();
  readonly ended = new Set<string>();
  readonly #operator: FakePeer;
  #nextProcess = 10;
  /** Who had a device last without a reset afterwards, as an independent account. */
  readonly soiled = new Map<string, number>();
  readonly #lastUser = new Map<string, number>();

  constructor(broker: FakeBroker) {
    this.broker = broker;
    this.peers = [0, 1, 2, 3].map((n) => client(broker, n + 1, 1000 + (n % 2)));
    broker.host.onReset = (addresses, cleared) => {
      for (const address of addresses) {
        const user = this.#lastUser.get(address);
        if (cleared) this.soiled.delete(address);
        else if (user !== undefined) this.soiled.set(address, user);
      }
    };
    this.#operator = client(broker, 9, 0);
    broker.leases.watch(this.#operator, ({ kind, view }) => {
      assert.ok(!this.ended.has(view.id), "nothing is told of a lease after its end");
      assert.equal(kind === "ENDED", view.phase === "ENDED");
      if (kind === "CHANGED") this.told.set(view.id, view);
      else {
        this.told.delete(view.id);
        this.ended.add(view.id);
      }
    });
  }

  peerAt(n: number): FakePeer {
    return this.peers[n] as FakePeer;
  }

  async run(c: Command): Promise<void> {
    const { broker } = this;
    if (c.do === "time") broker.clock.advance(c.ms);
    else if (c.do === "acquire") await this.#acquire(c);
    else if (c.do === "show") await this.#show(c.peer, c.ticket);
    else if (c.do === "recall") {
      const active = broker.leases.list(this.#operator);
      const lease = active[c.lease % Math.max(1, active.length)];
      if (lease) broker.leases.recall(lease.id, c.cause);
    } else if ("device" in c) await this.#machine(c.do, c.device);
    else await this.#person(c.do, c.peer);
    await settle();
    this.check();
  }

  async #acquire(c: Extract<Command, { do: "acquire" }>): Promise<void> {
    const peer = this.peerAt(c.peer);
    const wanted = [...new Set([c.device, ...(c.second === null ? [] : [c.second])])].map((n) => fakeAddress(GROUPS.flat()[n] ?? 0));
    const before = wanted.map((address) => this.broker.inventory.get(address)?.state);
    const first = wanted[0];
    if (!first) return;
    const devices = wanted.map((address) => ({ address, regions: [] }));
    const outcome = await this.broker.leases.acquire(peer, wish(first, { devices, ...c.how }));
    if (outcome.refusal !== null) return;
    assert.deepEqual(
      before,
      wanted.map(() => "FREE"),
      "only a free device is granted",
    );
    const { lease, ticket } = outcome.value;
    assert.equal(ticket === null, c.how.ticket === null);
    if (ticket === null) this.#comesTo(peer, wanted);
    else this.tickets.unshift({ bytes: ticket, used: false });
    this.leases.set(peer, [...(this.leases.get(peer) ?? []), lease.id]);
  }

  /** Fresh descriptors are sent to this process. */
  #comesTo(peer: FakePeer, addresses: readonly string[]): void {
    for (const address of addresses) {
      const last = this.soiled.get(address);
      assert.ok(last === undefined || last === peer.uid, `${address} went from uid ${last} to ${peer.uid} without a reset`);
    }
  }

  async #show(n: number, which: number): Promise<void> {
    const peer = this.peerAt(n);
    const channel = this.broker.handover.channels.get(peer.processId);
    const ticket = this.tickets[which];
    if (!channel || !ticket) return;
    const offers = channel.offers.length;
    const { refusal } = await this.broker.leases.show(peer, channel, ticket.bytes);
    assert.notEqual(refusal?.reason, "TICKET_UNKNOWN");
    assert.equal(channel.offers.length, refusal === null ? offers + 1 : offers);
    if (refusal !== null) return;
    assert.ok(!ticket.used, "a ticket works once");
    ticket.used = true;
    const offer = channel.offers.at(-1);
    const lease = this.broker.leases.get(this.#operator, offer?.leaseId ?? "").value;
    assert.equal(offer?.succession, lease?.phase === "HELD");
    if (offer?.succession === false) this.#comesTo(peer, lease?.devices.map(({ address }) => address) ?? []);
  }

  async #person(what: "ack" | "short" | "silence" | "release" | "die" | "name", n: number): Promise<void> {
    const peer = this.peerAt(n);
    const channel = this.broker.handover.channels.get(peer.processId);
    if (what === "ack" && channel?.waiting) channel.answer({ result: "ACKNOWLEDGED" });
    else if (what === "short" && channel?.waiting) channel.answer({ result: "SHORT", count: 0 });
    else if (what === "silence" && channel?.waiting) channel.answer({ result: "NOT_ACKNOWLEDGED", detail: "" });
    else if (what === "release") {
      const lease = this.leases.get(peer)?.shift();
      if (lease) await this.broker.leases.release(peer, lease);
    } else if (what === "name") {
      const [lease] = this.leases.get(peer) ?? [];
      const named = lease ? this.broker.leases.nameSuccessor(peer, lease, { uid: null, lifetimeMs: 5000 }) : null;
      if (named?.value?.ticket) this.tickets.unshift({ bytes: named.value.ticket, used: false });
    } else if (what === "die") {
      peer.alive = false;
      if (channel?.waiting) channel.answer({ result: "NOT_ACKNOWLEDGED", detail: "" });
      this.broker.leases.processExited(peer.processId);
      this.leases.delete(peer);
      this.peers[n] = client(this.broker, this.#nextProcess, peer.uid);
      this.#nextProcess += 1;
    }
  }

  async #machine(what: Machine, n: number): Promise<void> {
    const it = this.broker.host.device(DEVICES[n] ?? fakeAddress(1));
    if (what === "held") it.held = true;
    if (what === "unheld") it.held = false;
    if (what === "resetFails") it.reset = "FAILED";
    if (what === "resetWorks") it.reset = "DONE";
    if (what === "noReset") it.reset = "UNSUPPORTED";
    if (what === "failOpen") it.failOpen = true;
    if (what === "unplug" || what === "plug") {
      it.present = what === "plug";
      await this.broker.inventory.refresh();
      await this.broker.inventory.settled();
    }
  }

  check(): void {
    const { broker } = this;
    assert.deepEqual(broker.observer.faults, []);
    assert.deepEqual(broker.host.violations, []);
    assert.equal(broker.host.openProofs, 0, "a proof was left open");
    const active = broker.leases.list(this.#operator);
    assert.deepEqual(
      [...this.told.values()].sort((a, b) => (a.id < b.id ? -1 : 1)),
      [...active].sort((a, b) => (a.id < b.id ? -1 : 1)),
      "a watch has told what there is",
    );
    const owners = new Map<string, string>();
    for (const lease of active) {
      for (const { address } of lease.devices) {
        assert.ok(!owners.has(address), `${address} is in two leases`);
        owners.set(address, lease.id);
        if (lease.phase !== "RESERVED") this.#lastUser.set(address, lease.holderUid);
      }
    }
    for (const view of broker.inventory.list()) {
      const busy = view.state === "RESERVED" || view.state === "OFFERED" || view.state === "HELD";
      const group = view.facts.iommuGroup?.members.map((member) => member.address) ?? [];
      assert.equal(
        busy,
        group.some((address) => owners.has(address)),
        `${view.facts.address} is ${view.state}`,
      );
    }
    // Settled: nothing is on its way, so what is open is exactly what is leased.
    const open = active.filter(({ phase }) => phase !== "RESERVED");
    assert.equal(broker.host.openLeases, open.length, "open leases on the host");
    for (const lease of active) {
      assert.equal(lease.holderPid === 0, lease.phase === "RESERVED");
      assert.ok(lease.phase !== "RESERVED" || lease.ticketExpireTime !== null, "what is reserved has a ticket out");
      const holder = this.peers.find(({ pid }) => pid === lease.holderPid);
      const awaited = lease.ticketExpireTime !== null || [...broker.handover.channels.values()].some(({ waiting }) => waiting);
      assert.ok(
        lease.phase === "RESERVED" || holder?.alive === true || (lease.mode === "RETAIN" && awaited),
        "somebody has it, or may still come",
      );
    }
    const quarantined = new Set(
      broker.inventory.list().flatMap((view) => (view.state === "QUARANTINED" ? [view.facts.iommuGroup?.id] : [])),
    );
    let timers = quarantined.size;
    for (const lease of active) {
      if (lease.ticketExpireTime !== null) timers += 1;
      if (lease.expireTime !== null && lease.expireTime > broker.clock.now()) timers += 1;
      if (lease.recall !== null) timers += 1;
    }
    assert.equal(broker.clock.pending, timers, "one retry a quarantined set; ticket, expiry and recall of a lease; none else");
  }
}

describe("[pure] random histories of leases", () => {
  it("keep every invariant", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(command, { maxLength: 60 }), async (commands) => {
        const world = new World(await fakeBroker(GROUPS, [ANYBODY], 4));
        for (const each of commands) await world.run(each);
        // Everything can always come back: let go of all, heal the machine, and every device is free again.
        for (const n of [0, 1, 2, 3]) await world.run({ do: "die", peer: n });
        for (const n of DEVICES.keys())
          for (const what of ["unheld", "resetWorks", "plug"] as const) await world.run({ do: what, device: n });
        for (let i = 0; i < 5; i += 1) await world.run({ do: "time", ms: 31_000 });
        for (const view of world.broker.inventory.list()) assert.equal(view.state, "FREE", view.facts.address);
        for (const each of world.peers) assert.equal(each.watches, 0);
      }),
      { numRuns: Number(process.env["APERTURE_MODEL_RUNS"] ?? 300) },
    );
  });
});
