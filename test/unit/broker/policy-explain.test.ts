import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { identify, needsProgram } from "../../../src/broker/caller.js";
import type { Address } from "../../../src/broker/device.js";
import { parseDeviceSelector, type SelectableDevice } from "../../../src/broker/device-selector.js";
import { type Asked, type Caller, decide, mismatch, type PolicyRule, shortfall } from "../../../src/broker/policy.js";
import { coveredBy, matchesNobody } from "../../../src/broker/policy-cover.js";
import { explain } from "../../../src/broker/policy-explain.js";
import { ANYBODY, client, fakeBroker, hold, wish } from "../../fakes/broker.js";
import { FakePeer } from "../../fakes/handover.js";
import { fakeAddress } from "../../fakes/host.js";

const ids = fc.integer({ min: 0, max: 3 });
const paths = fc.constantFrom("/a", "/a/b", "/b");
const patterns = fc.constantFrom("/a", "/a/*", "/*", "/a/**", "**", "/b");
const selectors = fc.constantFrom("*", "10de:*", "10de:2342", "class:03", "class:0302", "0000:01:00.0", "driver:vfio-pci", "group:1");
const orAny = <T>(values: fc.Arbitrary<T>): fc.Arbitrary<T[] | null> =>
  fc.option(fc.array(values, { minLength: 0, maxLength: 3 }), { nil: null });

const rules: fc.Arbitrary<PolicyRule[]> = fc
  .array(
    fc.record({
      ...{ uids: orAny(ids), gids: orAny(ids), executables: orAny(patterns), cgroups: orAny(patterns) },
      devices: fc.array(selectors, { minLength: 1, maxLength: 2 }).map((list) => list.flatMap((text) => parseDeviceSelector(text) ?? [])),
      kinds: fc.subarray<"DEVICE" | "REGION">(["DEVICE", "REGION"]),
      modes: fc.subarray<"HAND_OFF" | "RETAIN">(["HAND_OFF", "RETAIN"], { minLength: 1 }),
      delegate: fc.boolean(),
    }),
    { maxLength: 5 },
  )
  .map((list) => list.map((rule, index) => ({ ...ANYBODY, ...rule, name: `rule ${index}` })));

const callers: fc.Arbitrary<Caller> = fc.record({
  ...{ uid: ids, gid: ids, groups: fc.option(fc.array(ids, { maxLength: 3 }), { nil: null }) },
  ...{ executable: fc.option(paths, { nil: null }), cgroup: fc.option(paths, { nil: null }) },
});

const devices: fc.Arbitrary<SelectableDevice> = fc.record({
  address: fc.constantFrom("0000:01:00.0" as Address, "0000:02:00.0" as Address),
  vendorId: fc.constantFrom(0x10de, 0x8086),
  deviceId: fc.constantFrom(0x2342, 1),
  classCode: fc.constantFrom(0x030200, 0x020000, 0x030000),
  driver: fc.constantFrom("vfio-pci", "other"),
  iommuGroup: fc.constantFrom(null, { id: 1, members: [], viable: true, otherSpoilers: [] }),
});

const wishes: fc.Arbitrary<Asked> = fc.record({
  kind: fc.constantFrom("DEVICE" as const, "REGION" as const),
  mode: fc.constantFrom("HAND_OFF" as const, "RETAIN" as const),
  delegate: fc.boolean(),
});

describe("[pure] policy, for all rules", () => {
  it("is decided by the first rule that matches, and denied without one", () => {
    fc.assert(
      fc.property(rules, callers, devices, wishes, (list, caller, device, asked) => {
        const outcome = decide(list, caller, device, asked);
        const first = list.find((rule) => mismatch(rule, caller, device) === null);
        if (!first) return assert.equal(outcome.refusal?.metadata["rule"], undefined);
        if (shortfall(first, asked) === null) return assert.equal(outcome.value, first);
        return assert.equal(outcome.refusal?.metadata["rule"], first.name);
      }),
      { numRuns: 2_000 },
    );
  });

  it("is explained as it is decided, up to the rule that decides", () => {
    fc.assert(
      fc.property(rules, callers, devices, wishes, (list, caller, device, asked) => {
        const decision = decide(list, caller, device, asked);
        const { rule, refusal, steps } = explain(list, caller, device, asked);
        assert.deepEqual(refusal, decision.refusal);
        if (decision.value) assert.equal(rule, decision.value);
        assert.deepEqual(
          steps.map((step) => step.rule),
          list.slice(0, steps.length).map(({ name }) => name),
        );
        assert.equal(steps.filter((step) => step.matched).length, rule === null ? 0 : 1);
        assert.equal(steps.at(-1)?.matched ?? false, rule !== null);
        if (rule === null) assert.equal(steps.length, list.length);
      }),
      { numRuns: 2_000 },
    );
  });

  it("never comes to a rule that is told to be covered, or to match nobody", () => {
    fc.assert(
      fc.property(rules, callers, devices, (list, caller, device) => {
        const deciding = list.findIndex((rule) => mismatch(rule, caller, device) === null);
        const decider = list[deciding];
        if (!decider) return;
        assert.equal(coveredBy(list, deciding), null);
        assert.equal(matchesNobody(decider), false);
      }),
      { numRuns: 5_000 },
    );
  });
});

describe("[pure] words of an explanation", () => {
  const gpu: SelectableDevice = {
    ...{
      address: "0000:01:00.0" as Address,
      vendorId: 0x10de,
      deviceId: 0x2342,
      classCode: 0x030200,
      driver: "vfio-pci",
      iommuGroup: null,
    },
  };
  const caller: Caller = { uid: 7, gid: 7, groups: [8], executable: null, cgroup: "/x" };
  const says = (rule: Partial<PolicyRule>, asked: Partial<Asked> = {}): string =>
    explain([{ ...ANYBODY, ...rule }], caller, gpu, { kind: "DEVICE", mode: "HAND_OFF", delegate: false, ...asked }).steps[0]
      ?.explanation ?? "";

  it("name the first thing that does not fit", () => {
    assert.equal(says({ uids: [1, 2] }), "uid 7 is not one of 1, 2");
    assert.equal(says({ gids: [1] }), "none of its groups 7, 8 is 1");
    assert.equal(says({ executables: ["/bin/a"] }), "its executable is not known, and does not match /bin/a");
    assert.equal(says({ cgroups: ["/y", "/z"] }), 'cgroup "/x" matches none of /y, /z');
    const selector = parseDeviceSelector("8086:*");
    assert.equal(says({ devices: selector ? [selector] : [] }), "0000:01:00.0 is not 8086:*");
    assert.equal(says({ uids: Array.from({ length: 18 }, (_, i) => i + 100) }).endsWith("114, 115 and 2 more"), true);
  });

  it("say what the rule that matches does not allow", () => {
    assert.equal(says({}), "matches, and allows it");
    assert.equal(says({ kinds: [] }), "matches, and denies: its kind is empty");
    assert.equal(says({ kinds: ["REGION"] }), "matches, and allows region leases only, not device");
    assert.equal(says({ modes: ["HAND_OFF"] }, { mode: "RETAIN" }), "matches, and allows mode hand_off only, not retain");
    assert.match(says({ delegate: false }, { delegate: true }), /does not allow a lease for another process/);
  });
});

describe("[pure] the caller behind a peer", () => {
  it("is read only when a rule looks at the program, and its liveness is asked after that", async () => {
    assert.equal(needsProgram([ANYBODY]), false);
    const broker = await fakeBroker([[1]]);
    const peer = client(broker, 1, 1000);
    assert.equal((await broker.leases.acquire(peer, wish(fakeAddress(1)))).refusal, null);
    assert.equal(peer.programReads, 0);

    const dead = new FakePeer(2, 1000);
    dead.alive = false;
    const rules = [{ ...ANYBODY, executables: ["/a"] }];
    const gone = await identify(dead, () => rules);
    assert.equal(gone.refusal?.reason, "PEER_GONE");
    assert.equal(dead.programReads, 1, "read first, asked after");
  });

  it("is matched against the rules that hold when it is known", async () => {
    const peer = new FakePeer(1, 1000);
    peer.runs = { executable: "/a", cgroup: null };
    let held: readonly PolicyRule[] = [{ ...ANYBODY, executables: ["/b"] }];
    const asked = identify(peer, () => held);
    held = [{ ...ANYBODY, executables: ["/a"] }];
    assert.equal((await asked).value?.executable, "/a");
    assert.equal(peer.programReads, 2, "a policy that came meanwhile may name other executables");
  });

  it("decides on executable and cgroup", async () => {
    const broker = await fakeBroker(
      [[1]],
      [{ ...ANYBODY, name: "by program", executables: ["/usr/bin/qemu-*"], cgroups: ["/machine.slice/**"] }],
    );
    const peer = client(broker, 1, 1000);
    const refused = await broker.leases.acquire(peer, wish(fakeAddress(1)));
    assert.equal(refused.refusal?.reason, "POLICY_DENIED");
    peer.runs = { executable: "/usr/bin/qemu-kvm", cgroup: "/machine.slice/vm.scope" };
    assert.equal((await broker.leases.acquire(peer, wish(fakeAddress(1)))).refusal, null);
  });

  it("may hold as many leases as the rule allows, and those under other rules do not count", async () => {
    const one = parseDeviceSelector(fakeAddress(1));
    const rules = [
      { ...ANYBODY, name: "one", devices: one ? [one] : [], maxLeases: 0 },
      { ...ANYBODY, name: "rest", maxLeases: 2 },
    ];
    const broker = await fakeBroker([[1], [2], [3], [4]], rules);
    const reasons: (string | undefined)[] = [];
    for (const n of [1, 2, 3, 4]) reasons.push((await hold(broker, client(broker, n, 1000), fakeAddress(n))).refusal?.message);
    const most = (held: number, rule: string, limit: number): string =>
      `uid 1000 has ${held} leases under policy rule "${rule}", and ${limit} is the most it may hold at once`;
    assert.deepEqual(reasons, [most(0, "one", 0), undefined, undefined, most(2, "rest", 2)]);
    assert.equal((await hold(broker, client(broker, 5, 1001), fakeAddress(4))).refusal, null, "another user");
    broker.leases.setPolicy([{ ...ANYBODY, name: "new", maxLeases: 1 }]);
    assert.equal((await hold(broker, client(broker, 6, 1000), fakeAddress(1))).refusal, null, "leases under rules that are gone");
  });
});
