import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { Address, DeviceFacts } from "../../../src/broker/device.js";
import { decide, defaultPolicy, type PolicyRule, parseDeviceSelector } from "../../../src/broker/policy.js";
import { ANYBODY } from "../../fakes/broker.js";
import { FakePeer } from "../../fakes/handover.js";

const gpu = { address: "0000:01:00.0" as Address, vendorId: 0x10de, deviceId: 0x2342 } as DeviceFacts;
const nic = { address: "0000:02:00.0" as Address, vendorId: 0x8086, deviceId: 0x10c9 } as DeviceFacts;

function rule(change: Partial<PolicyRule>): PolicyRule {
  return { ...ANYBODY, ...change };
}

function reads(rules: readonly PolicyRule[], uid: number, device: DeviceFacts, kind: "DEVICE" | "REGION" = "DEVICE"): string {
  const outcome = decide(rules, new FakePeer(1, uid), device, kind);
  return outcome.refusal ? outcome.refusal.reason : outcome.value.name;
}

describe("[pure] policy", () => {
  it("by default allows the daemon's own user and nobody else, without the permissions that weaken isolation", () => {
    const rules = defaultPolicy(990);
    assert.match(reads(rules, 990, gpu), /^default/);
    for (const uid of [0, 1000, 989]) assert.equal(reads(rules, uid, gpu), "POLICY_DENIED");
    assert.deepEqual([rules[0]?.allowDeviceScope, rules[0]?.allowUnreset], [false, false]);
  });

  it("takes the first rule that matches, also when it denies", () => {
    const byId = parseDeviceSelector("10de:2342");
    const rules = [rule({ name: "no gpu for 7", uids: [7], devices: byId ? [byId] : [], kinds: [] }), rule({ name: "rest" })];
    assert.equal(reads(rules, 7, gpu), "POLICY_DENIED");
    assert.equal(reads(rules, 7, nic), "rest");
    assert.equal(reads(rules, 8, gpu), "rest");
    const denial = decide(rules, new FakePeer(1, 7), gpu, "DEVICE");
    assert.match(denial.refusal?.message ?? "", /"no gpu for 7"/);
  });

  it("denies without a match, and what a rule's kinds leave out", () => {
    assert.equal(reads([], 0, gpu), "POLICY_DENIED");
    assert.equal(reads([rule({ gids: [5] })], 0, gpu), "POLICY_DENIED");
    assert.equal(reads([rule({ kinds: ["DEVICE"] })], 0, gpu, "REGION"), "POLICY_DENIED");
  });

  it("reads selectors exactly", () => {
    assert.deepEqual(parseDeviceSelector("*"), { by: "any" });
    assert.deepEqual(parseDeviceSelector("10de:2342"), { by: "id", vendorId: 0x10de, deviceId: 0x2342 });
    assert.deepEqual(parseDeviceSelector("0000:01:00.0"), { by: "address", address: "0000:01:00.0" });
    for (const wrong of ["", "10DE:2342", "10de", "01:00.0", "0000:01:00.8", "0000:01:20.0", "**", "10de:*", " *"])
      assert.equal(parseDeviceSelector(wrong), null, wrong);
  });
});
