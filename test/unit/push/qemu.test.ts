// The QMP side against a fake QEMU over real sockets: every descriptor is followed by its inode, and whatever goes wrong leaves neither side with one.

import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, it } from "node:test";
import { type Plugged, type PushError, QemuMonitor, type QemuPlugOptions } from "../../../src/push/index.js";
import { descriptorsOf } from "../../harness/descriptors.js";
import { FakeQmp } from "../../harness/fake-qmp.js";
import { until } from "../../harness/until.js";
import { TestLease } from "./test-lease.js";

const GPU = "0000:01:00.0";
const NIC = "0000:02:00.0";
const OBJECT = "aperture-6f9619ff";
const FIRST = ["qmp_capabilities", "qom-list", "getfd", "object-add", "getfd", "device_add"];

describe("[real sockets] plugging into QEMU", () => {
  let before: readonly string[];
  let qemu: FakeQmp;
  let lease: TestLease;
  let monitor: QemuMonitor | null;
  beforeEach(() => {
    before = descriptorsOf(process.pid);
    qemu = new FakeQmp();
    lease = new TestLease([GPU]);
    monitor = null;
  });
  afterEach(async () => {
    monitor?.close();
    qemu.stop();
    await lease.closeDescriptors();
    await until(
      "descriptors of this process",
      () => descriptorsOf(process.pid),
      (now) => now.join() === before.join(),
    );
  });

  async function connect(answerMs = 5_000): Promise<QemuMonitor> {
    monitor = await QemuMonitor.connect({ socket: qemu.path, answerMs });
    return monitor;
  }

  const plug = async (options: QemuPlugOptions = {}): Promise<Plugged> => (await connect()).plug(lease, options);

  /** Plugs, which must fail so, and QEMU must be left with nothing. */
  async function refused(reason: string, message: RegExp, work: () => Promise<unknown> = plug): Promise<PushError> {
    let seen: unknown;
    await assert.rejects(work, (error: Error) => {
      seen = error;
      return true;
    });
    const error = seen as PushError;
    assert.equal(error.reason, reason, error.message);
    assert.match(error.message, message);
    assert.deepEqual(qemu.holds, {}, "what QEMU still has");
    return error;
  }

  it("gives the iommufd and the device, each by its own message, and closes its own copies", async () => {
    const plugged = await plug({ buses: ["rp1"], ids: ["gpu0"], properties: { rombar: 0 } });
    assert.deepEqual(plugged.devices, [{ address: GPU, id: "gpu0" }]);
    assert.deepEqual(qemu.holds, { [OBJECT]: lease.files["iommufd"], gpu0: lease.files[GPU] });
    assert.deepEqual(qemu.said, FIRST);
    assert.deepEqual(qemu.commands.at(-1)?.arguments, {
      driver: "vfio-pci",
      id: "gpu0",
      bus: "rp1",
      iommufd: OBJECT,
      fd: `${OBJECT}-device`,
      rombar: 0,
    });
    assert.equal(lease.closed, 1);
  });

  it("takes it out: waits for the guest, then removes the iommufd, and says nothing of an end", async () => {
    const plugged = await plug();
    let gone = false;
    void plugged.gone.then(() => {
      gone = true;
    });
    await plugged.unplug();
    assert.deepEqual(qemu.said, [...FIRST, "device_del", "object-del"]);
    assert.deepEqual(qemu.holds, {});
    qemu.exit();
    await until(
      "the connection's end",
      () => qemu.closedCount,
      (count) => count === 1,
    );
    assert.equal(gone, false);
  });

  it("a VM that has an iommufd gets no second one: it would pin the guest's memory again", async () => {
    qemu.otherObjects.push("iommufd0");
    const plugged = await plug();
    assert.deepEqual(qemu.holds, { "vfio-0000-01-00-0": lease.files[GPU] });
    assert.equal(qemu.commands.at(-1)?.arguments["iommufd"], "iommufd0");
    assert.equal(lease.closed, 1, "its own is closed");
    await plugged.unplug();
    assert.deepEqual(qemu.said, ["qmp_capabilities", "qom-list", "getfd", "device_add", "device_del"]);
  });

  it("an iommufd that a later lease's device is in stays", async () => {
    const first = await plug();
    const later = new TestLease([NIC]);
    const second = await (monitor ?? assert.fail()).plug(later);
    await first.unplug();
    assert.deepEqual(qemu.holds, { [OBJECT]: lease.files["iommufd"], "vfio-0000-02-00-0": later.files[NIC] });
    await second.unplug();
    assert.deepEqual(qemu.holds, { [OBJECT]: lease.files["iommufd"] });
  });

  it("two devices are one iommufd; out they go in the other order", async () => {
    await lease.closeDescriptors();
    lease = new TestLease([GPU, NIC]);
    const plugged = await plug();
    assert.deepEqual(qemu.holds, {
      [OBJECT]: lease.files["iommufd"],
      "vfio-0000-01-00-0": lease.files[GPU],
      "vfio-0000-02-00-0": lease.files[NIC],
    });
    await plugged.unplug();
    const out = qemu.commands.filter(({ execute }) => execute === "device_del").map(({ arguments: { id } }) => id);
    assert.deepEqual(out, ["vfio-0000-02-00-0", "vfio-0000-01-00-0"]);
    assert.deepEqual(qemu.holds, {});
  });

  it("events between command and answer are no answers", async () => {
    qemu.between = '{"event": "RTC_CHANGE", "data": {"offset": 1}, "timestamp": {"seconds": 1, "microseconds": 1}}\r\n';
    const plugged = await plug();
    await plugged.unplug();
    assert.deepEqual(qemu.holds, {});
  });

  it("says that the VM has ended, and that the guest has let go by itself", async () => {
    const first = await plug();
    qemu.exit();
    assert.equal(await first.gone, "VMM_GONE");
    await lease.closeDescriptors();
    lease = new TestLease([GPU]);
    const second = await plug();
    qemu.eject("another");
    qemu.eject("vfio-0000-01-00-0");
    assert.equal(await second.gone, "UNPLUGGED");
  });

  for (const command of ["getfd", "object-add", "device_add"]) {
    it(`refused at ${command}: undone, with QEMU's own words; the next lease works on the same connection`, async () => {
      qemu.refusals.set(command, "no, because");
      const error = await refused("VMM_REFUSED", new RegExp(`QEMU refused ${command}: no, because`));
      assert.equal(error.code, "FAILED_PRECONDITION");
      assert.equal(lease.closed, 0, "the caller's until it releases");
      qemu.refusals.clear();
      await lease.closeDescriptors();
      lease = new TestLease([GPU]);
      await monitor?.plug(lease);
      assert.deepEqual(qemu.holds, { [OBJECT]: lease.files["iommufd"], "vfio-0000-01-00-0": lease.files[GPU] });
    });
  }

  for (const command of ["object-add", "device_add"]) {
    it(`refused at ${command} before QEMU has looked at the descriptor: that is taken back too`, async () => {
      qemu.unknown.set(command, "'vfio-pci' is not a valid device model name");
      await refused("VMM_REFUSED", /not a valid device model name/);
    });
  }

  it("the second device refused: the first one is taken out again", async () => {
    await lease.closeDescriptors();
    lease = new TestLease([GPU, NIC]);
    await connect();
    const say = qemu.commands.push.bind(qemu.commands);
    qemu.commands.push = (...commands) => {
      if (qemu.said.filter((name) => name === "device_add").length === 1 && commands[0]?.execute === "device_add")
        qemu.refusals.set("device_add", "Bus 'rp1' does not support hotplugging");
      return say(...commands);
    };
    const error = await refused("VMM_REFUSED", /does not support hotplugging/, () => (monitor ?? assert.fail()).plug(lease));
    assert.match(error.next ?? "", /pcie-root-port/);
    assert.ok(qemu.said.includes("device_del"));
  });

  it("names the number that is missing when QEMU may not lock the guest's memory", async () => {
    qemu.refusals.set(
      "device_add",
      "vfio 0000:01:00.0: memory listener initialization failed: Region pc.ram: ... = -12 (Cannot allocate memory)",
    );
    assert.match((await refused("VMM_REFUSED", /Cannot allocate memory/)).next ?? "", /RLIMIT_MEMLOCK/);
  });

  for (const [what, greeting, reason, message] of [
    ["an older QEMU", '{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}}}}', "VMM_TOO_OLD", /QEMU 7\.2\.22/],
    ["another protocol", "SSH-2.0-OpenSSH_9.2", "VMM_PROTOCOL", /SSH-2\.0/],
    ["JSON that is no greeting", '{"return": {}, "id": null}', "VMM_PROTOCOL", /return that nobody asked for/],
    ["half a greeting", '{"QMP": {"version": ', "VMM_SILENT", /its greeting/],
    ["silence", null, "VMM_SILENT", /its greeting within 0\.2 s/],
  ] as const) {
    it(`${what} instead of a greeting`, async () => {
      qemu.greeting = greeting;
      await refused(reason, message, () => connect(200));
      await until(
        "the connection's end",
        () => qemu.closedCount,
        (count) => count === 1,
      );
    });
  }

  it("a greeting that is a flood of one line ends at 1 MiB", async () => {
    qemu.greeting = `{"QMP": "${"a".repeat(3 << 20)}`;
    await refused("VMM_PROTOCOL", /more than 1048576 bytes/, () => connect());
  });

  for (const command of ["qmp_capabilities", "getfd", "object-add", "device_add"]) {
    it(`silence at ${command}: the time limit ends the connection, and QEMU's end cleans up`, async () => {
      qemu.instead.set(command, "");
      const work = async (): Promise<Plugged> => (await connect(200)).plug(lease, { plugMs: 200 });
      await assert.rejects(work, { reason: "VMM_SILENT", message: new RegExp(`an answer to ${command} within 0\\.2 s`) });
      await until(
        "the connection's end",
        () => qemu.closedCount,
        (count) => count === 1,
      );
      await assert.rejects((monitor ?? { plug: async () => Promise.reject({ reason: "VMM_SILENT" }) }).plug(lease), {
        reason: "VMM_SILENT",
      });
    });

    it(`nonsense at ${command}`, async () => {
      for (const odd of [
        "nonsense\r\n",
        '{"return": {}, "id": 77}\r\n',
        '{"error": {"class": "GenericError", "desc": "JSON parse error"}}\r\n',
        "{}\r\n",
      ]) {
        qemu.instead.set(command, odd);
        await assert.rejects(plug(), { reason: "VMM_PROTOCOL" }, odd);
        qemu.exit();
      }
    });
  }

  it("QEMU ends in the middle of a command", async () => {
    await connect();
    qemu.instead.set("device_add", "");
    const done = assert.rejects((monitor ?? assert.fail()).plug(lease), { reason: "VMM_GONE" });
    await until(
      "device_add",
      () => qemu.said,
      (said) => said.includes("device_add"),
    );
    qemu.exit();
    await done;
  });

  it("a guest that refuses, and one that says nothing: told apart, and QEMU keeps what it has", async () => {
    const plugged = await plug();
    qemu.guest = "refuses";
    await assert.rejects(plugged.unplug(), { reason: "GUEST_REFUSED", code: "ABORTED" });
    qemu.guest = "is silent";
    await assert.rejects(plugged.unplug({ timeoutMs: 100 }), { reason: "GUEST_SILENT", code: "DEADLINE_EXCEEDED" });
    assert.equal(qemu.holds["vfio-0000-01-00-0"], lease.files[GPU]);
  });

  it("a device that QEMU is taking out already is waited for", async () => {
    const plugged = await plug();
    qemu.guest = "is silent";
    qemu.refusals.set("device_del", "Device vfio-0000-01-00-0 is already in the process of unplug");
    const done = plugged.unplug();
    await until(
      "device_del",
      () => qemu.said,
      (said) => said.includes("device_del"),
    );
    qemu.eject("vfio-0000-01-00-0");
    await done;
    assert.deepEqual(qemu.holds, {});
  });

  it("the VM ends while the guest is asked: VMM_GONE", async () => {
    const plugged = await plug();
    qemu.guest = "is silent";
    const done = assert.rejects(plugged.unplug(), { reason: "VMM_GONE" });
    await until(
      "device_del",
      () => qemu.said,
      (said) => said.includes("device_del"),
    );
    qemu.exit();
    await done;
  });

  it("no socket, no permission asked for twice: says what is missing", async () => {
    await assert.rejects(QemuMonitor.connect({ socket: "/nonexistent/qmp" }), { reason: "VMM_UNREACHABLE", message: /ENOENT/ });
    await assert.rejects(QemuMonitor.connect({ socket: "/dev/null" }), { reason: "VMM_UNREACHABLE", message: /ECONNREFUSED|ENOTSOCK/ });
  });

  it("leases that no VMM takes are refused before QEMU is told anything", async () => {
    for (const [other, message] of [
      [new TestLease([]), /it has IOMMUFD/],
      [new TestLease([GPU], { iommufd: false }), /it has DEVICE_UNBOUND/],
      [new TestLease([GPU], { succeeded: true }), /bound already/],
    ] as const) {
      await assert.rejects((await connect()).plug(other), { reason: "LEASE_NOT_FOR_VMM", message });
      await other.closeDescriptors();
      monitor?.close();
    }
    for (const options of [{ ids: ["a", "b"] }, { buses: [] }]) {
      await assert.rejects(plug(options), RangeError);
      monitor?.close();
    }
    assert.deepEqual(new Set(qemu.said), new Set(["qmp_capabilities"]));
  });
});
