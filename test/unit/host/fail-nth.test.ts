// Every call of every operation fails once, with every errno that is plausible. Whatever the answer is, no descriptor is left over and the next honest attempt succeeds.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { Host, KnownDevice, OpenedLease } from "../../../src/broker/ports.js";
import type { Outcome } from "../../../src/broker/refusal.js";
import { IommufdHost } from "../../../src/host/iommufd-host.js";
import { LegacyHost } from "../../../src/host/legacy-host.js";
import { SimulatedHost } from "../../../src/host/simulated-host.js";
import { openDescriptors } from "../../contract/client-side.js";
import { sysError } from "./fake-kernel.js";
import { EDU, FakeMachine, GRACE, knownDevices, TWIN_A, TWIN_B } from "./fake-machine.js";

const ERRNOS = ["EMFILE", "ENOMEM", "EBUSY", "EIO", "ENODEV", "EACCES", "EPERM", "EINVAL", "ETIME"] as const;

/** Fails the n-th call from now on; 0 fails none. */
interface Rig {
  readonly host: Host;
  arm(n: number, code: string): void;
  /** Calls since arm(). */
  count(): number;
  /** Descriptors that must be there when nothing is going on. */
  close(): Promise<void>;
}

type Operation = (host: Host, devices: readonly KnownDevice[]) => Promise<boolean>;

async function openAndClose(outcome: Outcome<OpenedLease>): Promise<boolean> {
  if (outcome.refusal !== null) {
    assert.ok(outcome.refusal.message.length > 0);
    return false;
  }
  await outcome.value.closeHandedOff();
  await outcome.value.close();
  return true;
}

const OPERATIONS: Readonly<Record<string, Operation>> = {
  probe: async (host, devices) => {
    let good = true;
    for (const { facts } of devices) good = (await host.probe(facts)).refusal === null && good;
    return good;
  },
  "device lease": async (host, devices) =>
    openAndClose(await host.open({ kind: "DEVICE", addresses: devices.map(({ facts }) => facts.address) }, devices)),
  "region lease": async (host, devices) => {
    const [first] = devices;
    assert.ok(first !== undefined);
    const { address } = first.facts;
    return openAndClose(await host.open({ kind: "REGION", address, regions: [0], allowDeviceScope: true }, [first]));
  },
  "proof and reset": async (host, devices) => {
    const outcome = await host.prove(devices);
    if (outcome.result !== "PROVEN") {
      assert.ok(outcome.result === "GONE" || outcome.detail.length > 0);
      return false;
    }
    const reset = await outcome.proof.reset();
    await outcome.proof.close();
    return reset.result !== "FAILED";
  },
};

function rigOf(machine: FakeMachine, host: Host): Rig {
  let calls = 0;
  return {
    host,
    arm(n, code) {
      calls = 0;
      machine.kernel.interfere = () => (++calls === n ? code : null);
    },
    count: () => calls,
    async close() {
      await host.close();
      machine.remove();
    },
  };
}

const RIGS: readonly {
  readonly name: string;
  readonly devices: readonly string[];
  readonly make: () => Promise<Rig>;
}[] = [
  {
    name: "[made-up kernel] iommufd",
    devices: [EDU, GRACE],
    make: async () => {
      const machine = new FakeMachine();
      const host = await IommufdHost.create(machine.options());
      assert.ok(host.refusal === null);
      return rigOf(machine, host.value);
    },
  },
  {
    name: "[made-up kernel] legacy, two groups",
    devices: [EDU, GRACE],
    make: async () => {
      const machine = new FakeMachine();
      const host = await LegacyHost.create(machine.options());
      assert.ok(host.refusal === null);
      return rigOf(machine, host.value);
    },
  },
  {
    name: "[made-up kernel] legacy, one group",
    devices: [TWIN_A, TWIN_B],
    make: async () => {
      const machine = new FakeMachine();
      const host = await LegacyHost.create(machine.options());
      assert.ok(host.refusal === null);
      return rigOf(machine, host.value);
    },
  },
  {
    name: "[simulated host]",
    devices: ["0009:01:00.0", "0000:02:00.0"],
    make: async () => {
      let calls = 0;
      let failAt = 0;
      let code = "";
      const host = await SimulatedHost.create({
        observer: { fault: () => undefined },
        script: (operation, address) => (++calls === failAt ? sysError(operation, code, address) : null),
      });
      assert.ok(host.refusal === null);
      const made = host.value;
      return {
        host: made,
        arm(n, with_) {
          calls = 0;
          failAt = n;
          code = with_;
        },
        count: () => calls,
        close: () => made.close(),
      };
    },
  },
];

for (const { name, devices, make } of RIGS) {
  describe(`${name}: the n-th call fails`, () => {
    for (const [operation, run] of Object.entries(OPERATIONS)) {
      test(operation, async () => {
        const begin = openDescriptors();
        const rig = await make();
        const known = await knownDevices(rig.host, ...devices);
        const open = openDescriptors();
        rig.arm(0, "");
        assert.equal(await run(rig.host, known), true, "honest run");
        const calls = rig.count();
        // A region lease is of one device.
        assert.ok(calls >= (operation === "region lease" ? 1 : known.length));
        for (const code of ERRNOS) {
          for (let n = 1; n <= calls; n++) {
            rig.arm(n, code);
            await run(rig.host, known);
            assert.ok(rig.count() >= n, "the failing call was reached");
            assert.equal(openDescriptors(), open, `descriptors after call ${n} failed with ${code}`);
            rig.arm(0, "");
            assert.equal(await run(rig.host, known), true, `honest run after call ${n} failed with ${code}`);
          }
        }
        await rig.close();
        assert.equal(openDescriptors(), begin);
      });
    }
  });
}

describe("[made-up kernel] the n-th call of start-up fails", () => {
  for (const [name, create] of [
    ["iommufd", IommufdHost.create],
    ["legacy", LegacyHost.create],
  ] as const) {
    test(name, async () => {
      const open = openDescriptors();
      const machine = new FakeMachine();
      for (let n = 1; n <= 3; n++) {
        let calls = 0;
        machine.kernel.interfere = () => (++calls === n ? "EIO" : null);
        const host = await create(machine.options());
        // Only closing may fail without consequence.
        if (host.refusal === null) await host.value.close();
        else assert.match(host.refusal.message, /EIO/);
        assert.equal(openDescriptors(), open);
      }
      machine.remove();
    });
  }
});
