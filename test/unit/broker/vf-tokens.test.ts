// Who is told the VF token of a leased device: the process that holds the lease, as long as it does.

import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { inspect } from "node:util";
import { client, fakeBroker, settle, wish } from "../../fakes/broker.js";
import { fakeAddress } from "../../fakes/host.js";

const A = fakeAddress(1);
const TOKENS = new Map([[A, Uint8Array.from({ length: 16 }, (_, i) => i)]]);

describe("[pure] VF tokens", () => {
  it("are told to the process that holds the lease, and to nobody else, also of its user or the operator", async () => {
    const broker = await fakeBroker([[1], [2]]);
    broker.host.vfTokens = TOKENS;
    const holder = client(broker, 1, 1000);
    const others = [client(broker, 2, 1000), client(broker, 3, 0), client(broker, 4, 1001)];
    const made = await broker.leases.acquire(holder, wish(A));
    const id = made.value?.lease.id ?? assert.fail(made.refusal?.message ?? "");
    const told: string[] = [];
    const [, operator] = others;
    if (operator) broker.leases.watch(operator, ({ view }) => told.push(inspect(view, { depth: 9 })));
    broker.handover.channels.get(1)?.answer({ result: "ACKNOWLEDGED" });
    await settle();
    assert.equal(broker.leases.vfTokens(holder, id), TOKENS);
    assert.deepEqual(
      others.map((peer) => broker.leases.vfTokens(peer, id)),
      [null, null, null],
    );
    const views = [broker.leases.get(holder, id).value, ...others.flatMap((peer) => broker.leases.list(peer)), ...told];
    assert.ok(views.length > 2 && views.every((view) => !/token/i.test(inspect(view, { depth: 9 }))));

    const released = broker.leases.release(holder, id);
    await settle();
    await released;
    assert.equal(broker.leases.vfTokens(holder, id), null);
  });

  it("go with the lease to whoever shows its ticket, and to a successor", async () => {
    const broker = await fakeBroker([[1]]);
    broker.host.vfTokens = TOKENS;
    const [owner, first, second] = [client(broker, 1, 1000), client(broker, 2, 1000), client(broker, 3, 1000)] as const;
    const { value } = await broker.leases.acquire(owner, wish(A, { mode: "RETAIN", ticket: { uid: null, lifetimeMs: 60_000 } }));
    const { lease, ticket } = value ?? assert.fail("no lease");
    assert.equal(broker.leases.vfTokens(owner, lease.id), null);
    const told = (): readonly boolean[] => [owner, first, second].map((peer) => broker.leases.vfTokens(peer, lease.id) !== null);
    for (const [peer, shown] of [
      [first, ticket],
      [second, null],
    ] as const) {
      const named = shown ?? broker.leases.nameSuccessor(first, lease.id, { uid: null, lifetimeMs: 60_000 }).value?.ticket;
      const channel = broker.handover.channels.get(peer.processId) ?? assert.fail("no channel");
      assert.equal((await broker.leases.show(peer, channel, named ?? assert.fail("no ticket"))).refusal, null);
      channel.answer({ result: "ACKNOWLEDGED" });
      await settle();
      assert.deepEqual(told(), [false, peer === first, peer === second]);
    }
  });
});
