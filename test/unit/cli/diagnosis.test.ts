import assert from "node:assert/strict";
import { test } from "node:test";
import { type Check, diagnose, readLimits } from "../../../src/cli/diagnosis.js";
import { run } from "../../../src/cli/run.js";
import type { Device, HostInfo } from "../../../src/client/index.js";
import { CapturedTerminal } from "./captured-terminal.js";
import { DEVICE } from "./sample-device.js";

const HOST: HostInfo = {
  ...{ version: "1.2.3", kernelRelease: "6.12.0", backend: "IOMMUFD", simulated: false, backendReason: "the kernel has it" },
  ...{ capabilities: [{ name: "cdev", availability: "AVAILABLE", detail: "" }], limits: [] },
  ...{ instanceId: "", startTime: null, channelPath: "", numaNodes: [] },
};
const LIMITS = { lockedMemory: null, openFiles: 1024n };

function found(host: HostInfo, devices: readonly Device[], limits = LIMITS as Parameters<typeof diagnose>[2]): Record<string, Check> {
  return Object.fromEntries(diagnose(host, devices, limits, "1.2.3").map((check) => [check.name, check]));
}

test("a host where everything is right has nothing but ok, and nothing to do [pure]", () => {
  for (const check of Object.values(found(HOST, [DEVICE]))) assert.deepEqual([check.result, check.next], ["OK", ""], check.name);
});

test("each thing that is not right is told, with what to do [pure]", () => {
  const quarantined: Device = { ...DEVICE, state: "QUARANTINED", stateDetail: "a mapping is left" };
  const cases: readonly (readonly [string, Check["result"], RegExp, Record<string, Check>])[] = [
    ["version", "NOTE", /aperturectl is 1\.2\.3, the daemon 9/, found({ ...HOST, version: "9" }, [DEVICE])],
    ["back end", "NOTE", /simulated, nothing here is real/, found({ ...HOST, simulated: true }, [DEVICE])],
    [
      "kernel",
      "NOTE",
      /0 of 1 .* not cdev$/,
      found({ ...HOST, capabilities: [{ name: "cdev", availability: "UNAVAILABLE", detail: "" }] }, [DEVICE]),
    ],
    [
      "kernel",
      "NOTE",
      /not cdev \(not known\)/,
      found({ ...HOST, capabilities: [{ name: "cdev", availability: "UNKNOWN", detail: "" }] }, [DEVICE]),
    ],
    ["devices", "PROBLEM", /0 of 0/, found(HOST, [])],
    ["devices", "PROBLEM", /0 of 1/, found(HOST, [{ ...DEVICE, state: "HELD" }])],
    ["quarantine", "PROBLEM", /0000:00:14\.0: a mapping is left/, found(HOST, [DEVICE, quarantined])],
    ["locked memory", "NOTE", /8192 KiB/, found(HOST, [DEVICE], { ...LIMITS, lockedMemory: 8n << 20n })],
    ["open files", "NOTE", /is 64/, found(HOST, [DEVICE], { ...LIMITS, openFiles: 64n })],
  ];
  for (const [name, result, detail, checks] of cases) {
    const check = checks[name];
    assert.equal(check?.result, result, name);
    assert.match(check.detail, detail);
    assert.notEqual(check.next, "", name);
  }
});

test("the limits are those that the kernel tells [pure]", () => {
  const text = `Limit                     Soft Limit           Hard Limit           Units
Max cpu time              unlimited            unlimited            seconds
Max locked memory         8388608              unlimited            bytes
Max open files            1024                 1048576              files
`;
  assert.deepEqual(readLimits(text), { lockedMemory: 8388608n, openFiles: 1024n });
  assert.deepEqual(readLimits(text.replace("8388608", "unlimited")).lockedMemory, null);
});

test("without a daemon: the problem as data, in every format, and the status of it [real sockets]", async () => {
  for (const [format, pattern] of [
    ["table", /^PROBLEM {2}daemon: cannot reach .*\n(.*\n)* {9}next: start the daemon/],
    ["json", /"result": "PROBLEM"/],
    ["yaml", /^- name: daemon\n {2}result: PROBLEM\n/],
    ["name", /^PROBLEM daemon\n$/],
  ] as const) {
    const io = new CapturedTerminal();
    assert.equal(await run(["--socket", "/nonexistent/a.sock", "doctor", "-o", format], io.terminal), 5);
    assert.match(io.out, pattern);
    assert.equal(io.errors, "");
  }
});
