import assert from "node:assert/strict";
import { test } from "node:test";
import { explain } from "../../../src/cli/explanation.js";
import { renderExplanation } from "../../../src/cli/explanation-view.js";
import type { Device, Lease, PolicyAnswer } from "../../../src/client/index.js";
import { PLAIN, screen } from "./captured-terminal.js";
import { DEVICE } from "./sample-device.js";

const LEASE: Lease = {
  ...{ id: "6f9619ff-8b86-4d01-b42d-00cf4fc964ff", kind: "DEVICE", mode: "HAND_OFF", state: "HELD", backend: "IOMMUFD" },
  ...{ devices: [{ address: DEVICE.address, regions: [] }], descriptors: [], holderPid: 77, holderUid: 1000 },
  ...{
    createTime: new Date(0),
    ackDeadline: null,
    endTime: null,
    endCause: "UNSPECIFIED",
    quarantined: [],
    ownerUid: 0,
    expireTime: null,
    ticketExpireTime: null,
    recall: null,
    policyRule: "",
  },
};

const ALLOWED: PolicyAnswer = {
  ...{ allowed: true, rule: "all", reason: "", message: 'rule "all" allows it', steps: [] },
  ...{ allowDeviceScope: false, allowUnreset: false, maxLeases: null, maxDurationMs: null },
};

function text(device: Device, leases: readonly Lease[] = [], look = PLAIN): string {
  return renderExplanation(device, explain(device, leases, ALLOWED, false), look);
}

test("a free device: yes, and what to run [pure]", () => {
  assert.equal(explain(DEVICE, [], ALLOWED, false).verdict, "YES");
  assert.match(
    text(DEVICE),
    /^0000:00:14\.0 can be leased now\n\nnext: `aperturectl exec 0000:00:14\.0 -- COMMAND fd=@device`\n\npolicy: rule "all" allows it\n$/,
  );
});

test("a device that is held: by whom when the caller may see it, and what ends it [pure]", () => {
  const held: Device = { ...DEVICE, state: "HELD" };
  assert.equal(explain(held, [], ALLOWED, false).verdict, "NOT_NOW");
  assert.match(text(held), /can be leased, but not now\n\nHELD\n {2}somebody else holds it; only that user, root/);
  const seen = text(held, [LEASE]);
  assert.match(seen, /lease 6f9619ff-8b86-4d01-b42d-00cf4fc964ff of process 77, uid 1000, holds it since\n? *1970-01-01T00:00:00\.000Z/);
  assert.match(seen, /next: end that process, or `aperturectl release 6f9619ff/);
  assert.equal(explain(held, [{ ...LEASE, devices: [] }], ALLOWED, false).lease, null);
});

test("every state says what passes by itself [pure]", () => {
  for (const state of ["OPENING", "OFFERED", "RELEASING", "RESETTING", "RESERVED", "REMOVED", "UNSPECIFIED"] as const) {
    const explanation = explain({ ...DEVICE, state }, [], ALLOWED, false);
    assert.equal(explanation.verdict, "NOT_NOW", state);
    assert.equal(explanation.obstacles.length, 1);
    assert.ok(explanation.obstacles[0]?.next.includes("aperturectl"));
  }
});

const UNBOUND: Device = {
  ...DEVICE,
  address: "0000:01:00.0",
  driver: "nvme",
  ineligibleReasons: [{ reason: "NO_VFIO_DRIVER", message: "bound to nvme", next: "bind it" }],
};

test("a device with the wrong driver: the lines to type, with the driver that fits best [pure]", () => {
  const candidates: Device["driverCandidates"] = [
    { driver: "nvme", module: "nvme", kind: "HOST", source: "MODULES_ALIAS", alias: "" },
    { driver: "nvgrace_gpu_vfio_pci", module: "nvgrace_gpu_vfio_pci", kind: "VFIO_VARIANT", source: "MODULES_ALIAS", alias: "" },
    { driver: "vfio-pci", module: "vfio_pci", kind: "VFIO_GENERIC", source: "MODULES_ALIAS", alias: "" },
  ];
  assert.deepEqual(explain({ ...UNBOUND, driverCandidates: candidates }, [], ALLOWED, false).obstacles, [
    {
      reason: "NO_VFIO_DRIVER",
      message: "bound to nvme",
      next: "bind it",
      commands: [
        "modprobe nvgrace_gpu_vfio_pci",
        "echo nvgrace_gpu_vfio_pci > /sys/bus/pci/devices/0000:01:00.0/driver_override",
        "echo 0000:01:00.0 > /sys/bus/pci/devices/0000:01:00.0/driver/unbind",
        "echo 0000:01:00.0 > /sys/bus/pci/drivers_probe",
      ],
    },
  ]);
  assert.match(text(UNBOUND), /as root; nvme loses the device, so stop what uses it first:\n {4}modprobe vfio_pci\n/);
  assert.match(renderExplanation(UNBOUND, explain(UNBOUND, [], ALLOWED, true), PLAIN), /on a real host, as root; nvme/);
});

test("a spoiled group: the lines for each member that spoils it, none for the others [pure]", () => {
  const members = [
    { address: "0000:01:00.0", driver: "vfio-pci", spoils: false },
    { address: "0000:01:00.1", driver: "snd_hda_intel", spoils: true },
  ];
  const device: Device = {
    ...UNBOUND,
    driver: "vfio-pci",
    iommuGroup: { id: 1, viable: false, otherSpoilers: [], members },
    ineligibleReasons: [{ reason: "GROUP_NOT_VIABLE", message: "", next: "" }],
  };
  const [obstacle] = explain(device, [], ALLOWED, false).obstacles;
  assert.equal(obstacle?.commands.length, 4);
  assert.ok(obstacle.commands.every((line) => !line.includes("0000:01:00.0")));
});

test("nothing hostile becomes a line to type, or reaches the screen as it is [pure]", () => {
  const evil = "x; rm -rf /\u001b[2J";
  const device: Device = {
    ...UNBOUND,
    address: evil,
    driver: evil,
    driverCandidates: [{ driver: evil, module: evil, kind: "VFIO_VARIANT", source: "MODULES_ALIAS", alias: evil }],
    iommuGroup: { id: 1, viable: false, otherSpoilers: [evil], members: [{ address: evil, driver: evil, spoils: true }] },
    ineligibleReasons: ["NO_VFIO_DRIVER", "DRIVER_NOT_READY", "GROUP_NOT_VIABLE", evil].map((reason) => ({
      reason,
      message: evil,
      next: evil,
    })),
  };
  assert.deepEqual(
    explain(device, [], ALLOWED, false).obstacles.flatMap(({ commands }) => commands),
    [],
  );
  assert.deepEqual(
    explain({ ...device, address: "0000:01:00.0" }, [], ALLOWED, false)
      .obstacles.flatMap(({ commands }) => commands)
      .join("\n"),
    "echo 0000:01:00.0 > /sys/bus/pci/drivers_probe",
  );
  assert.ok(!text(device).includes("\u001b"));
});

test("what a lease of it also means is told: who is locked with it, and that it cannot be reset [pure]", () => {
  const device: Device = {
    ...DEVICE,
    resetSupported: false,
    resetSet: { addresses: [DEVICE.address, "0000:00:15.0"], source: "KERNEL", leasedTogether: true },
  };
  assert.match(text(device), /note: a lease of it keeps 0000:00:15\.0 from everybody else too/);
  assert.match(text(device), /note: it cannot be reset/);
});

test("no line is wider than the terminal, except those to type [pure]", () => {
  for (const line of text(UNBOUND, [], screen(60)).split("\n")) assert.ok(line.length <= 60 || line.startsWith("    "), line);
});

test("what policy denies is told first, with the rule, whatever else is in the way [pure]", () => {
  const denied: PolicyAnswer = { ...ALLOWED, allowed: false, reason: "POLICY_DENIED", message: 'denied by policy rule "none"' };
  for (const device of [DEVICE, UNBOUND]) {
    const explanation = explain(device, [], denied, false);
    assert.equal(explanation.verdict, "DENIED");
    assert.equal(explanation.obstacles[0]?.reason, "POLICY_DENIED");
    assert.match(
      renderExplanation(device, explanation, PLAIN),
      /policy denies it to you[\s\S]*denied by policy rule "none"\n {2}next: ask the operator/,
    );
  }
});
