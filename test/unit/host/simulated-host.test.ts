// What is special about the simulated host: its shapes, its reset, its failures on demand, and devices that leave and come back.

import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, test } from "node:test";
import { type Address, parseAddress } from "../../../src/broker/device.js";
import type { KnownDevice } from "../../../src/broker/ports.js";
import { SimulatedHost } from "../../../src/host/simulated-host.js";
import type { SysError } from "../../../src/native.js";
import { ClientSide, must, openDescriptors } from "../../contract/client-side.js";
import { sysError } from "./fake-kernel.js";
import { knownDevices } from "./fake-machine.js";

const GIB = 1n << 30n;

function address(text: string): Address {
  return parseAddress(text) ?? assert.fail(text);
}

const GH200 = address("0009:01:00.0");
const NVME = address("0000:02:00.0");

describe("[simulated host]", () => {
  let open: number;
  let script: (operation: string, address: string, n: number) => SysError | number | null;
  let host: SimulatedHost;

  beforeEach(async () => {
    open = openDescriptors();
    script = () => null;
    const created = await SimulatedHost.create({
      observer: { fault: (_where, error) => assert.fail(String(error)) },
      script: (operation, device, n) => script(operation, device, n),
    });
    host = created.value ?? assert.fail(created.refusal?.message ?? "");
  });

  afterEach(async () => {
    await host.close();
    assert.equal(openDescriptors(), open);
  });

  async function known(device: string): Promise<KnownDevice> {
    const [found] = await knownDevices(host, device);
    return found ?? assert.fail();
  }

  async function lease(device: KnownDevice): Promise<{ client: ClientSide; end: () => Promise<void> }> {
    const opened = await host.open({ kind: "DEVICE", addresses: [device.facts.address] }, [device]);
    assert.ok(opened.refusal === null, opened.refusal?.message);
    const client = ClientSide.receive(opened.value);
    await opened.value.closeHandedOff();
    return { client, end: () => client.drop() };
  }

  test("the GH200 has the driver's sizes: 95 GiB behind a BAR of 128 GiB, with their memory types and where those come from", async () => {
    const { probe } = await known(GH200);
    assert.deepEqual(
      probe.regions.map((region) => [region.index, region.size, region.backedSize, region.memoryType, region.prefetchable, region.is64bit]),
      [
        [0, 16n << 20n, 16n << 20n, "DEVICE", true, true],
        [2, 1n * GIB, 1n * GIB, "WRITE_COMBINE", true, true],
        [4, 128n * GIB, 95n * GIB, "WRITE_BACK", true, true],
        [7, 4096n, 4096n, "UNSPECIFIED", false, false],
      ],
    );
    for (const region of probe.regions) assert.match(region.memoryTypeSource, /^simulated as: /);
  });

  test("the GB200 has no resmem and a length that is no power of two", async () => {
    const { probe } = await known("0019:01:00.0");
    assert.deepEqual(
      probe.regions.map((region) => [region.index, region.size, region.backedSize]),
      [
        [0, 16n << 20n, 16n << 20n],
        [4, 256n * GIB, 0x2f00f00000n],
        [7, 4096n, 4096n],
      ],
    );
  });

  test("a newcomer sees both kinds of device that cannot be leased", async () => {
    const all = await host.scan();
    assert.equal(all.find((facts) => facts.driver === "nvme")?.vfioBound, false);
    const spoiled = all.find((facts) => facts.vfioBound && facts.iommuGroup?.viable === false) ?? assert.fail();
    const probe = await host.probe(spoiled);
    assert.equal(probe.refusal?.reason, "GROUP_NOT_VIABLE");
    assert.match(probe.refusal?.message ?? "", /snd_hda_intel/);
    const own = all.find((facts) => facts.driver === "ice") ?? assert.fail();
    assert.equal((await host.probe(own)).refusal?.reason, "NO_VFIO_DRIVER");
    assert.equal(all.filter((facts) => facts.physicalFunction === own.address).length, 2);
  });

  test("config space reads as the device's: ids, class, BAR types", async () => {
    const device = await known(GH200);
    const { client, end } = await lease(device);
    const view = new DataView(must(await client.read(device, 7, 0n, 64)).slice().buffer);
    assert.deepEqual([view.getUint16(0, true), view.getUint16(2, true), view.getUint32(8, true) >>> 8], [0x10de, 0x2342, 0x030200]);
    assert.deepEqual([view.getUint8(0x10), view.getUint8(0x18), view.getUint8(0x20)], [12, 12, 12]);
    await end();
  });

  test("what one tenant wrote is gone after the reset, and only then", async () => {
    const device = await known(GH200);
    const at = 95n * GIB - 8n;
    const secret = new TextEncoder().encode("secret!!");
    const first = await lease(device);
    must(await first.client.write(device, 4, at, secret));
    await first.end();
    for (const [reset, expected] of [
      [false, secret],
      [true, new Uint8Array(8)],
    ] as const) {
      const proof = await host.prove([device]);
      assert.ok(proof.result === "PROVEN");
      if (reset) assert.deepEqual(await proof.proof.reset(), { result: "DONE" });
      await proof.proof.close();
      const next = await lease(device);
      assert.deepEqual(Buffer.from(must(await next.client.read(device, 4, at, 8))), Buffer.from(expected));
      await next.end();
    }
  });

  test("a file ends where the backed size does: nothing can be mapped or read behind it", async () => {
    const device = await known(GH200);
    const { client, end } = await lease(device);
    assert.equal(must(await client.read(device, 4, 95n * GIB - 4n, 8)).length, 4);
    const mapping = await client.map(device, 4);
    assert.equal(mapping.size, 128n * GIB);
    assert.deepEqual(Buffer.from(must(await mapping.read(95n * GIB, 8))), Buffer.alloc(8, 0xff));
    await mapping.close();
    await end();
  });

  test("a delay on demand takes its time, and other devices do not wait for it", async () => {
    const [slow, quick] = await knownDevices(host, GH200, NVME);
    assert.ok(slow !== undefined && quick !== undefined);
    script = (operation, device) => (operation === "VFIO_DEVICE_GET_INFO" && device === GH200 ? 300 : null);
    const order: string[] = [];
    const begin = performance.now();
    await Promise.all([host.probe(slow.facts).then(() => order.push("slow")), host.probe(quick.facts).then(() => order.push("quick"))]);
    assert.deepEqual(order, ["quick", "slow"]);
    assert.ok(performance.now() - begin >= 290);
  });

  test("a reset that fails on demand has failed with operation and errno, and the next one is honest", async () => {
    const device = await known(NVME);
    let failures = 1;
    script = (operation, at) => (operation === "VFIO_DEVICE_RESET" && failures-- > 0 ? sysError(operation, "EIO", at) : null);
    const proof = await host.prove([device]);
    assert.ok(proof.result === "PROVEN");
    assert.deepEqual(await proof.proof.reset(), { result: "FAILED", detail: "VFIO_DEVICE_RESET on 0000:02:00.0: EIO (5)" });
    assert.deepEqual(await proof.proof.reset(), { result: "DONE" });
    await proof.proof.close();
  });

  test("a device that is unplugged is gone for everything, while a client's mapping stays good; plugged again it is bound anew", async () => {
    const device = await known(NVME);
    const { client, end } = await lease(device);
    const mapping = await client.map(device, 0);
    host.unplug(NVME);
    assert.ok(!(await host.scan()).some((facts) => facts.address === NVME));
    assert.equal((await host.probe(device.facts)).refusal?.reason, "DEVICE_REMOVED");
    assert.equal((await host.prove([device])).result, "GONE");
    must(await mapping.write(0n, Uint8Array.of(1)));
    await mapping.close();
    await end();
    host.plug(NVME);
    const again = await known(NVME);
    assert.notEqual(again.facts.bindKey, device.facts.bindKey);
    assert.match((await host.probe(device.facts)).refusal?.message ?? "", /bound anew/);
  });

  test("a device that is unbound, or asked out of the machine, leaves when its last holder has let go, and is not free before", async () => {
    for (const how of ["unbind", "eject"] as const) {
      const device = await known(NVME);
      const { client, end } = await lease(device);
      const mapping = await client.map(device, 0);
      await end();
      await host[how](NVME);
      const [leaving] = await knownDevices(host, NVME).then(
        (all) => all,
        () => [],
      );
      assert.equal(leaving, undefined);
      const facts = (await host.scan()).find(({ address }) => address === NVME);
      assert.deepEqual([facts?.leaving, facts?.vfioBound, facts?.driver], [true, false, "vfio-pci"]);
      assert.ok(facts !== undefined);
      assert.equal((await host.probe(facts)).refusal?.reason, "DEVICE_LEAVING");
      const held = await host.prove([device]);
      assert.ok(held.result === "STILL_HELD");
      assert.match(held.detail, /is being unbound from vfio-pci, which waits/);
      await mapping.close();
      assert.equal((await host.prove([device])).result, "GONE");
      const after = (await host.scan()).find(({ address }) => address === NVME);
      assert.deepEqual([after?.leaving, after?.driver], how === "unbind" ? [false, ""] : [undefined, undefined]);
      host.bind(NVME);
      assert.notEqual((await known(NVME)).facts.bindKey, device.facts.bindKey);
    }
  });

  test("a kernel that cannot tell who else has a memfd open is refused at the start, not found out in quarantine", async () => {
    const created = await SimulatedHost.create({
      observer: { fault: () => undefined },
      script: (operation, at) =>
        operation === "F_SETLEASE" ? { operation: "fcntl(F_SETLEASE)", errno: 22, code: "NO_ORACLE", subject: at } : null,
    });
    assert.equal(created.value, null);
    assert.match(created.refusal?.message ?? "", /F_SETLEASE.*NO_ORACLE/);
  });
});
