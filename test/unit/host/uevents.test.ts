import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { HostChange } from "../../../src/broker/ports.js";
import { CapabilityTable } from "../../../src/host/capability-table.js";
import { parseUevent, touchedBy } from "../../../src/host/uevent.js";
import { Uevents } from "../../../src/host/uevents.js";
import { native, type SysResult, type UeventBatch } from "../../../src/native.js";

function message(...parts: readonly string[]): Uint8Array {
  return Buffer.from(parts.map((part) => `${part}\0`).join(""), "latin1");
}

function touched(...parts: readonly string[]): readonly string[] | string | null {
  const event = parseUevent(message(...parts));
  return event === null ? null : touchedBy(event);
}

const DEVICE = "/devices/pci0000:00/0000:00:15.0/0000:01:00.0";

describe("[pure] uevents", () => {
  it("name the PCI function that they are about", () => {
    for (const action of ["add", "remove", "bind", "unbind", "change"])
      assert.deepEqual(touched(`${action}@${DEVICE}`, `ACTION=${action}`, "SUBSYSTEM=pci"), ["0000:01:00.0"], action);
    assert.deepEqual(touched(`remove@${DEVICE}/vfio-dev/vfio0`, "SUBSYSTEM=vfio-dev", "DEVNAME=vfio/devices/vfio0"), ["0000:01:00.0"]);
    assert.equal(touched("add@/bus/pci/drivers/vfio-pci", "SUBSYSTEM=drivers"), "ALL");
  });

  it("about anything else name nobody", () => {
    assert.deepEqual(touched(`add@${DEVICE}/net/eth0`, "SUBSYSTEM=net"), []);
    assert.deepEqual(touched("add@/bus/usb/drivers/hub", "SUBSYSTEM=drivers"), []);
    assert.deepEqual(touched("add@/devices/virtual/vfio/3", "SUBSYSTEM=vfio"), []);
    assert.deepEqual(touched("add@/devices/pci0000:00/pci_bus/0000:01", "SUBSYSTEM=pci"), []);
    assert.deepEqual(touched("add@/devices/platform/thing.0/vfio-dev/vfio1", "SUBSYSTEM=vfio-dev"), []);
    assert.deepEqual(touched("add@/vfio-dev/vfio1", "SUBSYSTEM=vfio-dev"), []);
  });

  it("that are none are dropped: garbage, udevd's, an unknown action, nothing", () => {
    for (const parts of [["libudev", "SUBSYSTEM=pci"], ["explode@/devices/x"], ["add"], ["add@relative", "SUBSYSTEM=pci"], [""], ["@/x"]])
      assert.equal(touched(...parts), null, parts.join());
    assert.equal(parseUevent(new Uint8Array(0)), null);
    assert.equal(parseUevent(new Uint8Array(4096).fill(0xff)), null);
    assert.deepEqual(touched(`add@${"/".repeat(2000)}`, "SUBSYSTEM=pci"), []);
  });
});

/** A socket that has what the test put there; only its number is real. */
function listening(batches: SysResult<UeventBatch>[]): {
  readonly told: HostChange[];
  readonly capabilities: CapabilityTable;
  readonly faults: unknown[];
  wake(): void;
  close(): void;
} {
  const told: HostChange[] = [];
  const faults: unknown[] = [];
  let wake = (): void => {};
  const capabilities = new CapabilityTable({ uevents: "not asked" } as never);
  const uevents = new Uevents({
    calls: {
      ueventsOpen: () => native.eventfdCreate(),
      ueventsReceive: () => batches.shift() ?? { value: { messages: [], lost: false, drained: true, foreign: 0 }, error: null },
    },
    poll: {
      watchReadable: (_fd, to) => {
        wake = to;
        return { value: 1, error: null };
      },
      remove: () => {
        wake = () => assert.fail("told after the end of its watch");
      },
    },
    capabilities,
    observer: { fault: (_where, error) => faults.push(error) },
    tell: (change) => told.push(change),
  });
  uevents.open();
  return { told, capabilities, faults, wake: () => wake(), close: () => uevents.close() };
}

function batch(change: Partial<UeventBatch>): SysResult<UeventBatch> {
  return { value: { messages: [], lost: false, drained: true, foreign: 0, ...change }, error: null };
}

describe("[pure] listening to uevents", () => {
  it("tells once for a batch, and nothing of what concerns nobody", () => {
    const pci = message(`bind@${DEVICE}`, "SUBSYSTEM=pci");
    const net = message(`add@${DEVICE}/net/eth0`, "SUBSYSTEM=net");
    const { told, wake, close, capabilities } = listening([
      batch({ messages: [pci, net, pci] }),
      batch({ messages: [net] }),
      batch({ messages: [pci], lost: true }),
      batch({ foreign: 64 }),
    ]);
    for (let i = 0; i < 4; i += 1) wake();
    assert.deepEqual(told, [{ kind: "DEVICES", addresses: ["0000:01:00.0"] }, { kind: "ALL" }]);
    assert.equal(capabilities.get("uevents"), "AVAILABLE");
    close();
  });

  it("after a loss has everything read again once the socket is empty: until then the kernel drops what comes and does not say so", () => {
    const pci = message(`bind@${DEVICE}`, "SUBSYSTEM=pci");
    const { told, wake } = listening([
      batch({ lost: true, messages: [pci], drained: false }),
      batch({ messages: [pci], drained: false }),
      batch({ messages: [], drained: true }),
      batch({ messages: [pci] }),
    ]);
    const named = { kind: "DEVICES", addresses: ["0000:01:00.0"] };
    for (let i = 0; i < 4; i += 1) wake();
    assert.deepEqual(told, [{ kind: "ALL" }, named, { kind: "ALL" }, named]);
  });

  it("that breaks is given up, said as a capability, and has everything read once", () => {
    const { told, wake, capabilities, faults } = listening([
      { value: null, error: { operation: "recvmsg", errno: 5, code: "EIO", subject: "uevents" } },
    ]);
    wake();
    assert.deepEqual(told, [{ kind: "ALL" }]);
    assert.equal(capabilities.get("uevents"), "UNAVAILABLE");
    assert.match(capabilities.detail("uevents"), /recvmsg on uevents: EIO \(5\): changes are found by the periodic scan alone/);
    assert.equal(faults.length, 1);
  });
});
