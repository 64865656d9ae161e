import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { Address } from "../../../src/broker/device.js";
import { parseDeviceSelector, type SelectableDevice, selectorWords } from "../../../src/broker/device-selector.js";
import { type Asked, type Caller, decide, defaultPolicy, type PolicyRule } from "../../../src/broker/policy.js";
import { ANYBODY } from "../../fakes/broker.js";

const group = { id: 12, members: [], viable: true, otherSpoilers: [] };
const gpu: SelectableDevice = {
  ...{ address: "0000:01:00.0" as Address, vendorId: 0x10de, deviceId: 0x2342, classCode: 0x030200 },
  ...{ driver: "nvgrace_gpu_vfio_pci", iommuGroup: group },
};
const nic: SelectableDevice = {
  ...{ address: "0000:02:00.0" as Address, vendorId: 0x8086, deviceId: 0x10c9, classCode: 0x020000, driver: "vfio-pci", iommuGroup: null },
};
const WHOLE: Asked = { kind: "DEVICE", mode: "HAND_OFF", delegate: false };

function who(uid: number, change: Partial<Caller> = {}): Caller {
  return { uid, gid: 0, groups: [], executable: null, cgroup: null, ...change };
}

function rule(change: Partial<PolicyRule>): PolicyRule {
  return { ...ANYBODY, ...change };
}

function reads(rules: readonly PolicyRule[], caller: Caller, device: SelectableDevice, asked: Partial<Asked> = {}): string {
  const outcome = decide(rules, caller, device, { ...WHOLE, ...asked });
  return outcome.refusal ? outcome.refusal.reason : outcome.value.name;
}

describe("[pure] policy", () => {
  it("by default allows the daemon's own user and nobody else, without the permissions that weaken isolation", () => {
    const rules = defaultPolicy(990);
    assert.match(reads(rules, who(990), gpu), /^default/);
    assert.match(reads(rules, who(990), gpu, { mode: "RETAIN", delegate: true }), /^default/);
    for (const uid of [0, 1000, 989]) assert.equal(reads(rules, who(uid), gpu), "POLICY_DENIED");
    assert.deepEqual([rules[0]?.allowDeviceScope, rules[0]?.allowUnreset], [false, false]);
  });

  it("takes the first rule that matches, also when it denies", () => {
    const byId = parseDeviceSelector("10de:2342");
    const rules = [rule({ name: "no gpu for 7", uids: [7], devices: byId ? [byId] : [], kinds: [] }), rule({ name: "rest" })];
    assert.equal(reads(rules, who(7), gpu), "POLICY_DENIED");
    assert.equal(reads(rules, who(7), nic), "rest");
    assert.equal(reads(rules, who(8), gpu), "rest");
    const denial = decide(rules, who(7), gpu, WHOLE);
    assert.match(denial.refusal?.message ?? "", /denied by policy rule "no gpu for 7"/);
  });

  it("denies without a match, and what the rule that matches leaves out, whatever stands further down", () => {
    assert.equal(reads([], who(0), gpu), "POLICY_DENIED");
    assert.equal(reads([rule({ gids: [5] })], who(0), gpu), "POLICY_DENIED");
    const cases: readonly (readonly [Partial<PolicyRule>, Partial<Asked>, RegExp])[] = [
      [{ kinds: ["DEVICE"] }, { kind: "REGION" }, /a region lease is not allowed by policy rule "narrow"/],
      [{ modes: ["HAND_OFF"] }, { mode: "RETAIN" }, /mode retain is not allowed by policy rule "narrow"/],
      [{ delegate: false }, { delegate: true }, /a lease for another process is not allowed by policy rule "narrow"/],
    ];
    for (const [narrow, asked, expected] of cases) {
      const rules = [rule({ name: "narrow", ...narrow }), rule({ name: "wide" })];
      const outcome = decide(rules, who(1), gpu, { ...WHOLE, ...asked });
      assert.match(outcome.refusal?.message ?? "", expected);
      assert.equal(outcome.refusal?.metadata["rule"], "narrow");
      assert.equal(reads(rules, who(1), gpu), "narrow");
    }
  });

  it("asks for the mode of device leases only", () => {
    assert.equal(reads([rule({ modes: ["RETAIN"] })], who(1), gpu, { kind: "REGION" }), "anybody");
  });

  it("matches a group that is primary or supplementary, and none of those that are too many", () => {
    const rules = [rule({ gids: [5] })];
    assert.equal(reads(rules, who(1, { gid: 5 }), gpu), "anybody");
    assert.equal(reads(rules, who(1, { gid: 4, groups: [3, 5] }), gpu), "anybody");
    assert.equal(reads(rules, who(1, { gid: 4, groups: [3] }), gpu), "POLICY_DENIED");
    assert.equal(reads(rules, who(1, { gid: 4, groups: null }), gpu), "POLICY_DENIED");
    assert.equal(reads(rules, who(1, { gid: 5, groups: null }), gpu), "anybody");
  });

  it("matches executable and cgroup by pattern, and never what cannot be known", () => {
    const qemu = [rule({ executables: ["/usr/bin/qemu-system-*"] })];
    assert.equal(reads(qemu, who(1, { executable: "/usr/bin/qemu-system-x86_64" }), gpu), "anybody");
    assert.equal(reads(qemu, who(1, { executable: "/usr/bin/qemu-system-x/../../tmp/evil" }), gpu), "POLICY_DENIED");
    assert.equal(reads(qemu, who(1), gpu), "POLICY_DENIED");
    const slice = [rule({ cgroups: ["/machine.slice/**"] })];
    assert.equal(reads(slice, who(1, { cgroup: "/machine.slice/vm-1.scope/vcpu" }), gpu), "anybody");
    assert.equal(reads(slice, who(1, { cgroup: "/user.slice/machine.slice/x" }), gpu), "POLICY_DENIED");
    for (const all of [rule({ executables: ["**"] }), rule({ cgroups: ["**"] })]) assert.equal(reads([all], who(1), gpu), "POLICY_DENIED");
  });

  it("reads selectors exactly, and writes them as they were", () => {
    const good: readonly (readonly [string, boolean, boolean])[] = [
      ["*", true, true],
      ["10de:2342", true, false],
      ["10de:*", true, false],
      ["8086:10c9", false, true],
      ["0000:01:00.0", true, false],
      ["class:03", true, false],
      ["class:0302", true, false],
      ["class:030200", true, false],
      ["class:0200", false, true],
      ["driver:vfio-pci", false, true],
      ["driver:nvgrace_gpu_vfio_pci", true, false],
      ["group:12", true, false],
      ["group:1", false, false],
    ];
    for (const [text, isGpu, isNic] of good) {
      const selector = parseDeviceSelector(text);
      assert.ok(selector, text);
      assert.equal(selectorWords(selector), text);
      const rules = [rule({ devices: [selector] })];
      const found = [gpu, nic].map((device) => reads(rules, who(1), device) === "anybody");
      assert.deepEqual(found, [isGpu, isNic], text);
    }
    const wrong = [
      "",
      "10DE:2342",
      "10de",
      "01:00.0",
      "0000:01:00.8",
      "0000:01:20.0",
      "**",
      "*:2342",
      " *",
      "class:",
      "class:3",
      "class:0x03",
    ];
    for (const text of [...wrong, "class:03020000", "driver:", "driver:a/b", "driver:a\n", "group:", "group:-1", "group:012", "Group:1"])
      assert.equal(parseDeviceSelector(text), null, text);
  });
});
