// VF tokens on a made-up kernel: who sets one, who opens with it, who is told of it, and what becomes of a token that is somebody else's.

import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, test } from "node:test";
import type { Host, KnownDevice, OpenedLease } from "../../../src/broker/ports.js";
import { IommufdHost } from "../../../src/host/iommufd-host.js";
import { LegacyHost } from "../../../src/host/legacy-host.js";
import { openDescriptors } from "../../contract/client-side.js";
import { EDU, FakeMachine, knownDevices, PF, VF } from "./fake-machine.js";

const FOREIGN = "5e7f0000-0000-4000-8000-000000000001";
const UUID = /[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}/;

for (const [name, create] of [
  ["iommufd", IommufdHost.create],
  ["legacy", LegacyHost.create],
] as const) {
  describe(`[made-up kernel] VF tokens, ${name}`, () => {
    let machine: FakeMachine;
    let open: number;
    beforeEach(() => {
      open = openDescriptors();
      machine = new FakeMachine();
    });
    afterEach(() => {
      machine.remove();
      assert.equal(openDescriptors(), open);
      assert.deepEqual(machine.faults, []);
    });

    const start = async (): Promise<Host> => (await create(machine.options())).value ?? assert.fail("no host");

    async function reasonOf(host: Host, address: string): Promise<string> {
      const facts = (await host.scan()).find((each) => each.address === address) ?? assert.fail(address);
      const { refusal } = await host.probe(facts);
      assert.doesNotMatch(JSON.stringify(refusal), UUID, "a token is a secret");
      return refusal?.reason ?? "read";
    }

    /** Somebody has the virtual function open, with a token of his own. Value: he closes it. */
    function foreignHolder(): () => void {
      const { kernel } = machine;
      kernel.tokens.set(PF, FOREIGN);
      const device = kernel.devices.find(({ address }) => address === VF) ?? assert.fail(VF);
      const file = kernel.add({ kind: "device", device, bound: true, group: null });
      return () => void kernel.close(file);
    }

    async function lease(host: Host, known: readonly KnownDevice[]): Promise<OpenedLease> {
      const opened = await host.open({ kind: "DEVICE", addresses: known.map(({ facts }) => facts.address) }, known);
      return opened.value ?? assert.fail(opened.refusal?.message ?? "");
    }

    const opened = (): readonly string[] => machine.kernel.shownTo;

    test("a physical function is opened with a random one, its virtual function with the same, and nothing else with any", async () => {
      const host = await start();
      const known = await knownDevices(host, PF, VF, EDU);
      assert.match(machine.kernel.tokens.get(PF) ?? "", UUID);
      assert.deepEqual(opened(), [PF, VF]);
      const proof = await host.prove(known.slice(1, 2));
      assert.equal(proof.result, "PROVEN");
      if (proof.result === "PROVEN") await proof.proof.close();
      assert.deepEqual(opened(), [PF, VF, VF]);
      const before = machine.kernel.tokens.get(PF);
      const [, virtual] = known;
      assert.ok(virtual !== undefined);
      const region = { kind: "REGION", address: virtual.facts.address, regions: [0], allowDeviceScope: true } as const;
      const shared = await host.open(region, [virtual]);
      assert.deepEqual([shared.refusal, shared.value?.vfTokens ?? null], [null, null]);
      await shared.value?.close();
      assert.equal(machine.kernel.tokens.get(PF), before);
      await host.close();
    });

    test("a virtual function that is read first has it set by an open of the physical one, once, beside its probe too", async () => {
      const host = await start();
      await knownDevices(host, VF);
      assert.deepEqual(opened(), [PF, VF]);
      await host.close();
      machine.kernel.shownTo.length = 0;
      const second = await start();
      const all = await second.scan();
      const both = all.filter(({ address }) => address === PF || address === VF);
      for (const order of [both, [...both].reverse()]) {
        const probes = await Promise.all(order.map((facts) => second.probe(facts)));
        assert.deepEqual(
          probes.map(({ refusal }) => refusal),
          [null, null],
        );
      }
      assert.deepEqual(opened(), [PF, VF, PF, VF]);
      await second.close();
    });

    test("one that somebody else has set keeps all of them closed until nobody has them open", async () => {
      const release = foreignHolder();
      const host = await start();
      assert.deepEqual([await reasonOf(host, VF), await reasonOf(host, PF)], ["VF_TOKEN_REQUIRED", "VF_TOKEN_REQUIRED"]);
      assert.equal(machine.kernel.tokens.get(PF), FOREIGN);
      release();
      assert.deepEqual([await reasonOf(host, VF), await reasonOf(host, PF)], ["read", "read"]);
      assert.notEqual(machine.kernel.tokens.get(PF), FOREIGN);
      await host.close();
    });

    test("what the holder of the physical function has set is set back when it is proven free", async () => {
      const host = await start();
      const [physical] = await knownDevices(host, PF, VF);
      const own = machine.kernel.tokens.get(PF);
      machine.kernel.tokens.set(PF, FOREIGN);
      assert.equal(await reasonOf(host, VF), "VF_TOKEN_REQUIRED");
      assert.ok(physical !== undefined);
      const proof = await host.prove([physical]);
      assert.ok(proof.result === "PROVEN");
      await proof.proof.close();
      assert.equal(machine.kernel.tokens.get(PF), own);
      assert.equal(await reasonOf(host, VF), "read");
      await host.close();
    });

    test("a physical function that was bound anew gets a new one", async () => {
      const host = await start();
      await knownDevices(host, PF, VF);
      const first = machine.kernel.tokens.get(PF);
      machine.tree.rebind(PF);
      machine.kernel.tokens.set(PF, FOREIGN);
      await knownDevices(host, VF, PF);
      const second = machine.kernel.tokens.get(PF);
      assert.match(second ?? "", UUID);
      assert.ok(second !== first && second !== FOREIGN);
      await host.close();
    });

    test("a kernel or driver that knows none is asked without", async () => {
      machine.kernel.bindTokens = false;
      machine.kernel.nameTokens = false;
      const host = await start();
      const known = await knownDevices(host, VF, PF);
      const held = await lease(host, known.slice(0, 1));
      assert.equal(held.vfTokens ?? null, null);
      await held.close();
      const capability = host.capabilities().find((each) => each.name === "bind_token");
      assert.equal(capability?.availability, "UNAVAILABLE");
      await host.close();
    });

    test("whoever binds a virtual function himself is told it, and of nothing else", async () => {
      const host = await start();
      const known = await knownDevices(host, EDU, VF, PF);
      const token = Buffer.from((machine.kernel.tokens.get(PF) ?? "").replaceAll("-", ""), "hex");
      const held = await lease(host, known);
      const told = [...(held.vfTokens ?? [])].map(([address, bytes]) => [address, Buffer.from(bytes)]);
      // A descriptor of the legacy interface comes ready.
      assert.deepEqual(told, name === "legacy" ? [] : [VF, PF].map((address) => [address, token]));
      await held.close();
      const { availability, detail } = host.capabilities().find((each) => each.name === "bind_token") ?? assert.fail("no capability");
      assert.equal(availability, name === "legacy" ? "UNAVAILABLE" : "AVAILABLE");
      assert.doesNotMatch(detail, UUID);

      machine.tree.unplug(VF);
      const alone = (await host.scan()).find(({ address }) => address === PF) ?? assert.fail(PF);
      const physical = known.filter(({ facts }) => facts.address === PF).map(({ probe }) => ({ probe, facts: alone }));
      const without = await lease(host, physical);
      assert.equal(without.vfTokens ?? null, null);
      await without.close();
      await host.close();
    });
  });
}
