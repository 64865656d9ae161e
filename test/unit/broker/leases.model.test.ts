// Random histories against the rules that must hold in every one of them. 300 histories of up to 60 commands a run; the seed is printed by fast-check when one fails.

import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import type { LeaseView } from "../../../src/broker/lease.js";
import { ANYBODY, client, type FakeBroker, fakeBroker, settle, wish } from "../../fakes/broker.js";
import type { FakePeer } from "../../fakes/handover.js";
import { fakeAddress } from "../../fakes/host.js";

const GROUPS = [[1], [2, 3], [4]];
const DEVICES = GROUPS.flat().map(fakeAddress);

type Command =
  | { readonly do: "acquire"; readonly peer: number; readonly device: number; readonly second: number | null }
  | { readonly do: "ack" | "short" | "silence" | "release" | "die"; readonly peer: number }
  | { readonly do: "held" | "unheld" | "resetFails" | "resetWorks" | "noReset" | "failOpen" | "unplug" | "plug"; readonly device: number }
  | { readonly do: "time" };

const device = fc.nat(DEVICES.length - 1);
const peer = fc.nat(3);
const command: fc.Arbitrary<Command> = fc.oneof(
  { weight: 6, arbitrary: fc.record({ do: fc.constant("acquire" as const), peer, device, second: fc.option(device) }) },
  {
    weight: 8,
    arbitrary: fc.record({
      do: fc.constantFrom("ack" as const, "ack" as const, "short" as const, "silence" as const, "release" as const, "die" as const),
      peer,
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constantFrom(...(["held", "unheld", "resetFails", "resetWorks", "noReset", "failOpen", "unplug", "plug"] as const)),
      device,
    }),
  },
  { weight: 2, arbitrary: fc.constant({ do: "time" as const }) },
);

class World {
  readonly broker: FakeBroker;
  readonly peers: FakePeer[];
  readonly leases = new Map<FakePeer, LeaseView[]>();
  #nextProcess = 10;
  /** Who had a device last without a reset afterwards, as an independent account. */
  readonly soiled = new Map<string, number>();

  constructor(broker: FakeBroker) {
    this.broker = broker;
    this.peers = [0, 1, 2, 3].map((n) => client(broker, n + 1, 1000 + (n % 2)));
  }

  peerAt(n: number): FakePeer {
    return this.peers[n] as FakePeer;
  }

  async run(c: Command): Promise<void> {
    const { broker } = this;
    if (c.do === "time") broker.clock.advance(31_000);
    else if (c.do === "acquire") await this.#acquire(c);
    else if ("device" in c) await this.#machine(c.do, c.device);
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
    const outcome = await this.broker.leases.acquire(peer, wish(first, { devices: wanted.map((address) => ({ address, regions: [] })) }));
    if (outcome.refusal !== null) return;
    assert.deepEqual(
      before,
      wanted.map(() => "FREE"),
      "only a free device is granted",
    );
    for (const address of wanted) {
      const last = this.soiled.get(address);
      assert.ok(last === undefined || last === peer.uid, `${address} went from uid ${last} to ${peer.uid} without a reset`);
    }
    this.leases.set(peer, [...(this.leases.get(peer) ?? []), outcome.value]);
  }

  async #person(what: "ack" | "short" | "silence" | "release" | "die", n: number): Promise<void> {
    const peer = this.peerAt(n);
    const channel = this.broker.handover.channels.get(peer.processId);
    if (what === "ack" && channel?.waiting) channel.answer({ result: "ACKNOWLEDGED" });
    else if (what === "short" && channel?.waiting) channel.answer({ result: "SHORT", count: 0 });
    else if (what === "silence" && channel?.waiting) channel.answer({ result: "NOT_ACKNOWLEDGED", detail: "" });
    else if (what === "release") {
      const lease = this.leases.get(peer)?.shift();
      if (lease) await this.broker.leases.release(peer, lease.id);
    } else if (what === "die") {
      peer.alive = false;
      if (channel?.waiting) channel.answer({ result: "NOT_ACKNOWLEDGED", detail: "" });
      this.broker.leases.processExited(peer.processId);
      this.leases.delete(peer);
      this.peers[n] = client(this.broker, this.#nextProcess, peer.uid);
      this.#nextProcess += 1;
    }
  }

  async #machine(
    what: "held" | "unheld" | "resetFails" | "resetWorks" | "noReset" | "failOpen" | "unplug" | "plug",
    n: number,
  ): Promise<void> {
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
    const active = broker.leases.list(client(broker, 9, 0));
    const owners = new Map<string, string>();
    for (const lease of active) {
      for (const { address } of lease.devices) {
        assert.ok(!owners.has(address), `${address} is in two leases`);
        owners.set(address, lease.id);
      }
    }
    for (const view of broker.inventory.list()) {
      const busy = view.state === "OFFERED" || view.state === "HELD";
      const group = view.facts.iommuGroup?.members.map((member) => member.address) ?? [];
      assert.equal(
        busy,
        group.some((address) => owners.has(address)),
        `${view.facts.address} is ${view.state}`,
      );
    }
    // Settled: nothing is on its way, so what is open is exactly what is leased.
    assert.equal(broker.host.openLeases, active.length, "open leases on the host");
    const quarantined = new Set(
      broker.inventory.list().flatMap((view) => (view.state === "QUARANTINED" ? [view.facts.iommuGroup?.id] : [])),
    );
    assert.equal(broker.clock.pending, quarantined.size, "one retry a quarantined set, none else");
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
        await world.run({ do: "time" });
        await world.run({ do: "time" });
        for (const view of world.broker.inventory.list()) assert.equal(view.state, "FREE", view.facts.address);
        for (const each of world.peers) assert.equal(each.watches, 0);
      }),
      { numRuns: Number(process.env["APERTURE_MODEL_RUNS"] ?? 300) },
    );
  });
});
