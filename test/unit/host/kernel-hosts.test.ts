// What the lab's kernels cannot show: capabilities of kernels to come, privileges that a root test has, and errnos by name.

import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, test } from "node:test";
import { IommufdHost } from "../../../src/host/iommufd-host.js";
import { LegacyHost } from "../../../src/host/legacy-host.js";
import { openDescriptors } from "../../contract/client-side.js";
import { EDU, FakeMachine, GRACE, knownDevices, TWIN_A, TWIN_B } from "./fake-machine.js";

function capability(host: IommufdHost | LegacyHost, name: string): { availability: string; detail: string } {
  const found = host.capabilities().find((candidate) => candidate.name === name);
  return { availability: found?.availability ?? "", detail: found?.detail ?? "" };
}

describe("[made-up kernel] iommufd host", () => {
  let machine: FakeMachine;
  let open: number;
  beforeEach(() => {
    open = openDescriptors();
    machine = new FakeMachine();
  });
  afterEach(() => {
    machine.remove();
    assert.equal(openDescriptors(), open);
  });

  async function start(): Promise<IommufdHost> {
    const host = await IommufdHost.create(machine.options());
    assert.equal(host.refusal, null, host.refusal?.message);
    assert.ok(host.value !== null);
    return host.value;
  }

  async function refusalOfProbe(address: string, operation: string, code: string): Promise<{ reason: string; message: string }> {
    const host = await start();
    const [facts] = (await host.scan()).filter((device) => device.address === address);
    assert.ok(facts !== undefined);
    machine.kernel.interfere = (called) => (called === operation ? code : null);
    const probe = await host.probe(facts);
    machine.kernel.interfere = () => null;
    await host.close();
    assert.ok(probe.refusal !== null);
    return probe.refusal;
  }

  for (const [operation, code, reason, words] of [
    ["open", "EACCES", "NO_PERMISSION", /may not open .*vfio\/devices\/vfio0.*uid/],
    ["open", "EPERM", "NO_PERMISSION", /may not open/],
    ["open", "ENOENT", "DEVICE_REMOVED", /left the machine/],
    ["open", "EMFILE", "DESCRIPTOR_LIMIT", /no descriptor/],
    [
      "VFIO_DEVICE_BIND_IOMMUFD",
      "EINVAL",
      "DEVICE_IN_USE",
      /another descriptor of it is bound .*BIND_IOMMUFD on 0000:00:10\.0: EINVAL \(22\)/,
    ],
    ["VFIO_DEVICE_BIND_IOMMUFD", "EBUSY", "DEVICE_IN_USE", /legacy/],
    ["VFIO_DEVICE_BIND_IOMMUFD", "EPERM", "DEVICE_IN_USE", /another iommufd/],
    ["VFIO_DEVICE_BIND_IOMMUFD", "ENODEV", "DEVICE_REMOVED", /left the machine/],
    ["VFIO_DEVICE_BIND_IOMMUFD", "EACCES", "VF_TOKEN_REQUIRED", /VF token/],
    ["VFIO_DEVICE_GET_INFO", "EINVAL", "HOST_OPERATION_FAILED", /VFIO_DEVICE_GET_INFO on 0000:00:10\.0: EINVAL \(22\)/],
    ["VFIO_DEVICE_GET_REGION_INFO", "EIO", "HOST_OPERATION_FAILED", /region 0/],
    ["pread", "EIO", "HOST_OPERATION_FAILED", /config/],
  ] as const) {
    test(`${operation} ${code} is ${reason}`, async () => {
      const refusal = await refusalOfProbe(EDU, operation, code);
      assert.equal(refusal.reason, reason);
      assert.match(refusal.message, words);
    });
  }

  test("RLIMIT_MODE without CAP_SYS_RESOURCE is a fact, and leases work", async () => {
    machine.kernel.interfere = (operation) => (operation === "IOMMU_OPTION" ? "EPERM" : null);
    const host = await start();
    assert.equal(capability(host, "rlimit_mode").availability, "UNAVAILABLE");
    assert.match(capability(host, "rlimit_mode").detail, /CAP_SYS_RESOURCE/);
    const known = await knownDevices(host, EDU);
    const lease = await host.open({ kind: "DEVICE", addresses: known.map(({ facts }) => facts.address) }, known);
    assert.equal(lease.refusal, null);
    await lease.value?.close();
    await host.close();
  });

  test("every lease has an iommufd of its own, limited before anything else, and one cdev that was never bound", async () => {
    const host = await start();
    const known = await knownDevices(host, EDU, GRACE);
    machine.kernel.calls.length = 0;
    const lease = await host.open({ kind: "DEVICE", addresses: known.map(({ facts }) => facts.address) }, known);
    assert.ok(lease.refusal === null);
    assert.deepEqual(
      lease.value.descriptors.map(({ info }) => [info.kind, info.scope, info.address]),
      [
        ["IOMMUFD", "IOMMU", null],
        ["DEVICE_UNBOUND", "DEVICE", EDU],
        ["DEVICE_UNBOUND", "DEVICE", GRACE],
      ],
    );
    assert.match(machine.kernel.calls[0] ?? "", /^open .*\/iommu$/);
    assert.match(machine.kernel.calls[1] ?? "", /^IOMMU_OPTION/);
    assert.ok(!machine.kernel.calls.some((call) => call.includes("BIND")));
    await lease.value.close();
    await host.close();
  });

  test("a node below /dev that is another device is refused", async () => {
    machine.tree.write(EDU, "vfio-dev/vfio0/dev", "510:0\n");
    const host = await start();
    const [facts] = (await host.scan()).filter((device) => device.address === EDU);
    assert.ok(facts !== undefined);
    const probe = await host.probe(facts);
    assert.equal(probe.refusal?.reason, "HOST_OPERATION_FAILED");
    assert.match(probe.refusal?.message ?? "", /is device 0:0, but the kernel's vfio0 is 510:0/);
    await host.close();
  });

  test("a reset that is refused with EAGAIN is asked three more times; then it has failed", async () => {
    const host = await start();
    const known = await knownDevices(host, GRACE);
    for (const [refusals, result] of [
      [3, "DONE"],
      [4, "FAILED"],
    ] as const) {
      const outcome = await host.prove(known);
      assert.ok(outcome.result === "PROVEN");
      let asked = 0;
      machine.kernel.interfere = (operation) => (operation === "VFIO_DEVICE_RESET" && ++asked <= refusals ? "EAGAIN" : null);
      assert.equal((await outcome.proof.reset()).result, result);
      assert.equal(asked, 4);
      machine.kernel.interfere = () => null;
      await outcome.proof.close();
    }
    await host.close();
  });

  test("a set of two: one without a reset makes it UNSUPPORTED, and the other is reset all the same", async () => {
    const host = await start();
    const known = await knownDevices(host, EDU, GRACE);
    machine.kernel.calls.length = 0;
    const outcome = await host.prove(known);
    assert.ok(outcome.result === "PROVEN");
    assert.deepEqual(await outcome.proof.reset(), { result: "UNSUPPORTED" });
    assert.ok(machine.kernel.calls.includes(`VFIO_DEVICE_RESET ${GRACE}`));
    await outcome.proof.close();
    await host.close();
  });

  test("a set of which one device has gone is proven by those that are left; held wins over gone", async () => {
    const host = await start();
    const known = await knownDevices(host, TWIN_A, TWIN_B);
    machine.tree.unplug(TWIN_A);
    const outcome = await host.prove(known);
    assert.ok(outcome.result === "PROVEN");
    await outcome.proof.close();
    machine.kernel.interfere = (operation) => (operation === "VFIO_DEVICE_BIND_IOMMUFD" ? "EINVAL" : null);
    assert.equal((await host.prove(known)).result, "STILL_HELD");
    machine.kernel.interfere = () => null;
    machine.tree.unplug(TWIN_B);
    assert.equal((await host.prove(known)).result, "GONE");
    await host.close();
  });

  for (const [code, words] of [
    ["ETIME", /not ready.*link and memory training.*ETIME \(62\)/],
    ["ENODEV", /cannot be reached.*ENODEV/],
  ] as const) {
    test(`memory that answers ${code} makes the device not ready, in words`, async () => {
      const host = await start();
      machine.kernel.interfere = (operation, subject) => (operation === "pread" && subject.endsWith("region 2") ? code : null);
      const [grace] = await knownDevices(host, GRACE);
      assert.match(grace?.probe.notReady ?? "", words);
      assert.equal(grace?.probe.regions.length, 4);
      await host.close();
    });
  }

  test("memory that answers EIO after a reset is asked again with memory decoding on", async () => {
    const host = await start();
    let enabled = false;
    machine.kernel.interfere = (operation, subject) => {
      if (operation === "pwrite" && subject.endsWith("config")) enabled = true;
      return operation === "pread" && subject.endsWith("region 2") && !enabled ? "EIO" : null;
    };
    const [grace] = await knownDevices(host, GRACE);
    assert.equal(enabled, true);
    assert.equal(grace?.probe.notReady, null);
    await host.close();
  });

  test("only a driver that trains memory is asked for readiness", async () => {
    const host = await start();
    await knownDevices(host, EDU);
    const reads = machine.kernel.calls.filter((call) => call.startsWith("pread"));
    assert.deepEqual([...new Set(reads)], [`pread ${EDU} config`]);
    await host.close();
  });

  test("a kernel whose dma-bufs map gives region-scoped descriptors, without device scope", async () => {
    machine.kernel.dmaBufMmap = true;
    const host = await start();
    const known = await knownDevices(host, GRACE);
    assert.equal(capability(host, "dma_buf_mmap").availability, "AVAILABLE");
    const [grace] = known;
    assert.ok(grace !== undefined);
    const { address } = grace.facts;
    const lease = await host.open({ kind: "REGION", address, regions: [4, 2], allowDeviceScope: false }, known);
    assert.ok(lease.refusal === null);
    assert.deepEqual(
      lease.value.descriptors.map(({ info }) => [info.kind, info.scope, info.region, info.offset, info.size]),
      [
        ["REGION", "REGION", 4, 0n, 0x40000000n],
        ["REGION", "REGION", 2, 0n, 0x80000000n],
      ],
    );
    await lease.value.close();

    // As 7.3 does for a region without a real BAR behind it: then only the whole device is left, and that must be allowed.
    machine.kernel.interfere = (operation, subject) =>
      operation === "VFIO_DEVICE_FEATURE_DMA_BUF" && subject.endsWith("region 4") ? "ENODEV" : null;
    const refused = await host.open({ kind: "REGION", address, regions: [2, 4], allowDeviceScope: false }, known);
    assert.equal(refused.refusal?.reason, "REGION_SCOPE_UNAVAILABLE");
    assert.match(refused.refusal?.message ?? "", /region 4.*ENODEV/);
    const wide = await host.open({ kind: "REGION", address, regions: [2, 4], allowDeviceScope: true }, known);
    assert.ok(wide.refusal === null);
    assert.deepEqual(
      wide.value.descriptors.map(({ info }) => [info.kind, info.scope]),
      [["DEVICE", "DEVICE"]],
    );
    await wide.value.close();
    await host.close();
  });

  test("a kernel whose dma-bufs do not map: exported, not mappable, and the refusal says so", async () => {
    const host = await start();
    const known = await knownDevices(host, GRACE);
    assert.equal(capability(host, "dma_buf_export").availability, "AVAILABLE");
    assert.equal(capability(host, "dma_buf_mmap").availability, "UNAVAILABLE");
    const [grace] = known;
    assert.ok(grace !== undefined);
    machine.kernel.calls.length = 0;
    const lease = await host.open({ kind: "REGION", address: grace.facts.address, regions: [2], allowDeviceScope: false }, known);
    assert.equal(lease.refusal?.reason, "REGION_SCOPE_UNAVAILABLE");
    assert.deepEqual(machine.kernel.calls, [], "a device is not opened, and so not reset, for what is known to be refused");
    assert.match(lease.refusal?.message ?? "", /dma_buf_mmap: mmap on .*EINVAL/);
    await host.close();
  });

  test("a driver that reports areas outside of its region costs that device, with the reason", async () => {
    const [edu] = machine.kernel.devices;
    assert.ok(edu !== undefined);
    const bad = {
      ...edu,
      regions: [
        { index: 0, size: 0x1000n, flags: 15, offset: 0n, sparse: [{ offset: 0n, size: 0x2000n }], type: null, msixMappable: false },
      ],
    };
    const options = machine.options();
    const kernel = new (machine.kernel.constructor as typeof import("./fake-kernel.js").FakeKernel)(machine.tree.devRoot, [bad]);
    const host = await IommufdHost.create({ ...options, kernel });
    assert.ok(host.refusal === null);
    const [facts] = (await host.value.scan()).filter((device) => device.address === EDU);
    assert.ok(facts !== undefined);
    const probe = await host.value.probe(facts);
    assert.equal(probe.refusal?.reason, "HOST_OPERATION_FAILED");
    assert.match(probe.refusal?.message ?? "", /driver vfio-pci reports a region that cannot be: region 0: area 0x0\+0x2000 ends beyond/);
    await host.value.close();
  });
});

describe("[made-up kernel] legacy host", () => {
  let machine: FakeMachine;
  let open: number;
  beforeEach(() => {
    open = openDescriptors();
    machine = new FakeMachine();
  });
  afterEach(() => {
    machine.remove();
    assert.equal(openDescriptors(), open);
  });

  async function start(): Promise<LegacyHost> {
    const host = await LegacyHost.create(machine.options());
    assert.ok(host.refusal === null, host.refusal?.message);
    return host.value;
  }

  test("one container, each group once, each device: in this order", async () => {
    const host = await start();
    const known = await knownDevices(host, TWIN_A, EDU, TWIN_B);
    const lease = await host.open({ kind: "DEVICE", addresses: known.map(({ facts }) => facts.address) }, known);
    assert.ok(lease.refusal === null, lease.refusal?.message);
    assert.deepEqual(
      lease.value.descriptors.map(({ info }) => [info.kind, info.scope, info.group, info.address]),
      [
        ["CONTAINER", "IOMMU", null, null],
        ["GROUP", "DEVICE", 13, null],
        ["GROUP", "DEVICE", 3, null],
        ["DEVICE", "DEVICE", null, TWIN_A],
        ["DEVICE", "DEVICE", null, EDU],
        ["DEVICE", "DEVICE", null, TWIN_B],
      ],
    );
    await lease.value.close();
    await host.close();
  });

  test("probes of two devices of one group at once do not take each other for a holder", async () => {
    const host = await start();
    const known = await knownDevices(host, TWIN_A, TWIN_B);
    const [a, b] = known;
    assert.ok(a !== undefined && b !== undefined);
    const request = { kind: "DEVICE", addresses: [b.facts.address] } as const;
    const [first, second, lease] = await Promise.all([host.probe(a.facts), host.probe(b.facts), host.open(request, [b])]);
    assert.deepEqual([first.refusal, second.refusal, lease.refusal], [null, null, null]);
    await lease.value?.close();
    await host.close();
  });

  test("a group that the kernel calls not viable is read again and its spoiler named", async () => {
    const host = await start();
    const known = await knownDevices(host, TWIN_A);
    // As when a driver takes the neighbour after the scan.
    machine.tree.unbind(TWIN_B);
    machine.tree.bind(TWIN_B, "e1000e");
    const queue = machine.kernel.BlockingQueue.prototype as { groupStatus: unknown };
    const real = queue.groupStatus;
    queue.groupStatus = async () => ({ value: 0, error: null });
    const lease = await host.open({ kind: "DEVICE", addresses: known.map(({ facts }) => facts.address) }, known);
    queue.groupStatus = real;
    assert.equal(lease.refusal?.reason, "GROUP_NOT_VIABLE");
    assert.match(lease.refusal?.message ?? "", /0000:02:00\.1 \(e1000e\)/);
    await host.close();
  });

  for (const [operation, code, reason] of [
    ["open", "EBUSY", "DEVICE_IN_USE"],
    ["open", "EACCES", "NO_PERMISSION"],
    ["open", "ENOENT", "DEVICE_REMOVED"],
    ["VFIO_GROUP_GET_DEVICE_FD", "ENODEV", "DEVICE_REMOVED"],
    ["VFIO_GROUP_GET_DEVICE_FD", "EACCES", "VF_TOKEN_REQUIRED"],
    ["VFIO_SET_IOMMU", "EPERM", "HOST_OPERATION_FAILED"],
  ] as const) {
    test(`${operation} of the group or device: ${code} is ${reason}`, async () => {
      const host = await start();
      const known = await knownDevices(host, EDU);
      machine.kernel.interfere = (called, subject) => (called === operation && !subject.endsWith("vfio/vfio") ? code : null);
      const lease = await host.open({ kind: "DEVICE", addresses: known.map(({ facts }) => facts.address) }, known);
      assert.equal(lease.refusal?.reason, reason, lease.refusal?.message);
      machine.kernel.interfere = () => null;
      await host.close();
    });
  }

  test("a kernel without type1v2 is refused at the start, with what to load", async () => {
    const queue = machine.kernel.BlockingQueue.prototype as { containerCheckExtension: unknown };
    const real = queue.containerCheckExtension;
    queue.containerCheckExtension = async () => ({ value: false, error: null });
    const host = await LegacyHost.create(machine.options());
    queue.containerCheckExtension = real;
    assert.match(host.refusal?.message ?? "", /vfio_iommu_type1/);
  });
});

describe("[made-up kernel] a device that changes between scan and open", () => {
  for (const [name, create] of [
    ["iommufd", IommufdHost.create],
    ["legacy", LegacyHost.create],
  ] as const) {
    test(`${name}: bound anew is refused for a probe and a lease, also when it happens while the node is opened; a proof does not mind`, async () => {
      const open = openDescriptors();
      const machine = new FakeMachine();
      const created = await create(machine.options());
      const host = created.value ?? assert.fail(created.refusal?.message ?? "");
      const known = await knownDevices(host, EDU);
      const [edu] = known;
      assert.ok(edu !== undefined);
      const request = { kind: "DEVICE", addresses: [edu.facts.address] } as const;
      let rebound = false;
      machine.kernel.interfere = (operation, subject) => {
        if (rebound || operation !== "open" || /vfio\/vfio$|iommu$/.test(subject)) return null;
        rebound = true;
        machine.tree.rebind(EDU);
        return null;
      };
      const during = await host.open(request, known);
      assert.equal(rebound, true);
      assert.match(during.refusal?.message ?? "", /bound anew/);
      for (const outcome of [await host.open(request, known), await host.probe(edu.facts)]) {
        assert.equal(outcome.refusal?.reason, "HOST_OPERATION_FAILED");
        assert.match(outcome.refusal?.message ?? "", /bound anew/);
      }
      const proof = await host.prove(known);
      assert.ok(proof.result === "PROVEN");
      await proof.proof.close();
      machine.tree.unbind(EDU);
      assert.equal((await host.probe(edu.facts)).refusal?.reason, "NO_VFIO_DRIVER");
      assert.equal((await host.prove(known)).result, "GONE");
      machine.tree.unplug(EDU);
      assert.equal((await host.probe(edu.facts)).refusal?.reason, "DEVICE_REMOVED");
      await host.close();
      machine.remove();
      assert.equal(openDescriptors(), open);
    });
  }
});
