// One contract for the three hosts. It knows no back end: what differs is in the fixture, as an expectation that the test states, not as a branch around a check.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { type Address, type DeviceFacts, type DeviceProbe, parseAddress } from "../../src/broker/device.js";
import type { DescriptorKind, Host, KnownDevice, OpenedLease, OpenRequest, Proof } from "../../src/broker/ports.js";
import type { Outcome } from "../../src/broker/refusal.js";
import { ClientSide, openDescriptors } from "./client-side.js";

export interface ContractFixture {
  /** What it ran on: the start of every suite's name. */
  readonly rung: string;
  readonly create: () => Promise<Host>;
  /** Two devices that nobody holds, in different IOMMU groups. */
  readonly first: string;
  readonly second: string;
  /** A device that a driver of the host's has, and that nobody uses. */
  readonly hostBound: string;
  /** A mappable region of the first. */
  readonly region: number;
  /** Kinds of the descriptors of a device lease of one device, in order. */
  readonly kinds: (regions: number) => readonly DescriptorKind[];
  /** Regions of the first that are no BAR, by index. */
  readonly notBars: readonly number[];
  /** Whether this kernel interface tells of the IOMMU. */
  readonly iommu: boolean;
  /** What a reset of the first device answers. */
  readonly reset: "DONE" | "UNSUPPORTED";
  /** What a proof says while a client keeps a copy that it never used. On iommufd the kernel has no question for an unbound descriptor: it is not seen. */
  readonly unusedCopy: "STILL_HELD" | "PROVEN";
  /** What a region lease without allowDeviceScope gives: a descriptor of its own, or a refusal. */
  readonly regionScope: "REGION" | "REFUSED";
  /** What the same with allowDeviceScope gives. */
  readonly widestScope: "REGION" | "DEVICE";
}

/** Garbage collection and a busy machine under emulation stop the loop for this long. */
const SHORT_PAUSE_MS = 60;

function value<T>(outcome: Outcome<T>): T {
  if (outcome.refusal !== null) assert.fail(`refused: ${outcome.refusal.reason}: ${outcome.refusal.message}`);
  return outcome.value;
}

function reasonOf<T>(outcome: Outcome<T>): string {
  return outcome.refusal === null ? "granted" : outcome.refusal.reason;
}

function deviceLease(...devices: readonly KnownDevice[]): OpenRequest {
  return { kind: "DEVICE", addresses: devices.map((known) => known.facts.address) };
}

function regionLease(known: KnownDevice, regions: readonly number[], allowDeviceScope: boolean): OpenRequest {
  return { kind: "REGION", address: known.facts.address, regions, allowDeviceScope };
}

export function hostContract(fixture: ContractFixture): void {
  describe(`${fixture.rung} host contract, ${fixture.first}`, () => {
    let host: Host;
    let first: KnownDevice;
    let second: KnownDevice;

    async function factsOf(address: string): Promise<DeviceFacts> {
      const facts = (await host.scan()).find((device) => device.address === address);
      assert.ok(facts !== undefined, `${address} is not in the scan`);
      return facts;
    }

    async function proofOf(...devices: readonly KnownDevice[]): Promise<Proof> {
      const outcome = await host.prove(devices);
      assert.equal(outcome.result, "PROVEN", "detail" in outcome ? outcome.detail : "");
      assert.ok(outcome.result === "PROVEN");
      return outcome.proof;
    }

    async function assertFree(...devices: readonly KnownDevice[]): Promise<void> {
      await (await proofOf(...devices)).close();
    }

    async function resultOfProof(...devices: readonly KnownDevice[]): Promise<string> {
      const outcome = await host.prove(devices);
      if (outcome.result === "PROVEN") await outcome.proof.close();
      return outcome.result;
    }

    /** Everything opened by a test is closed when it ends: exactly. */
    function balanced(name: string, work: () => Promise<void>): void {
      test(name, async () => {
        const open = openDescriptors();
        await work();
        assert.equal(openDescriptors(), open, "descriptors are left open");
      });
    }

    before(async () => {
      host = await fixture.create();
      // Node keeps a descriptor of its own from its first child process on, which modprobe is here.
      await host.drivers.load("no_such_vfio_pci", "no_such_vfio_pci", 5_000);
      const facts = [await factsOf(fixture.first), await factsOf(fixture.second)] as const;
      first = { facts: facts[0], probe: value(await host.probe(facts[0])) };
      second = { facts: facts[1], probe: value(await host.probe(facts[1])) };
    });

    after(async () => {
      await host.close();
    });

    balanced("a scan tells the NUMA nodes, ordered, each with its whole row; what is said to be a device's is among them", async () => {
      const devices = await host.scan();
      const nodes = host.numaNodes();
      const ids = nodes.map(({ id }) => id);
      assert.deepEqual(
        ids,
        [...new Set(ids)].sort((a, b) => a - b),
      );
      for (const { id, distances } of nodes) {
        assert.deepEqual(
          distances.map(({ node }) => node),
          ids,
        );
        assert.equal(distances.find(({ node }) => node === id)?.distance, 10);
      }
      for (const { genericInitiators } of devices)
        for (const node of genericInitiators?.nodes ?? []) assert.equal(nodes.find(({ id }) => id === node)?.hasCpus, false);
    });

    balanced("a scan lists both devices, ordered, VFIO-bound, in viable groups, and says the same twice", async () => {
      const devices = await host.scan();
      const addresses = devices.map((device) => device.address);
      assert.deepEqual(addresses, [...addresses].sort());
      assert.equal(new Set(addresses).size, addresses.length);
      for (const { facts } of [first, second]) {
        assert.equal(facts.vfioBound, true);
        assert.equal(facts.iommuGroup?.viable, true);
        assert.ok(facts.iommuGroup.members.some((member) => member.address === facts.address));
      }
      assert.deepEqual(await host.scan(), devices);
    });

    balanced("capabilities are ordered by name, each with a detail", async () => {
      const capabilities = host.capabilities();
      const names = capabilities.map((capability) => capability.name);
      assert.deepEqual(names, ["bind_token", "cdev", "dma_buf_export", "dma_buf_mmap", "iommufd", "open_count", "rlimit_mode", "uevents"]);
      for (const { name, detail } of capabilities) assert.ok(detail.length > 0, name);
    });

    balanced("a probe tells regions in order, each consistent in itself, and leaves the device free", async () => {
      const probe: DeviceProbe = value(await host.probe(first.facts));
      assert.deepEqual(probe, first.probe);
      const indexes = probe.regions.map((region) => region.index);
      assert.deepEqual(
        indexes,
        [...indexes].sort((a, b) => a - b),
      );
      for (const region of probe.regions) {
        assert.ok(region.size > 0n && region.backedSize > 0n && region.backedSize <= region.size, `region ${region.index}`);
        let end = 0n;
        for (const area of region.areas) {
          assert.ok(area.offset >= end && area.size > 0n, `areas of region ${region.index}`);
          end = area.offset + area.size;
        }
        assert.ok(end <= region.backedSize);
        assert.equal(region.mappable, region.areas.length > 0);
        assert.notEqual(region.memoryTypeSource, "");
      }
      assert.equal(probe.regions.find((region) => region.index === fixture.region)?.mappable, true);
      assert.equal(probe.regions.find((region) => region.index === 7)?.kind, "CONFIG");
      assert.equal(probe.notReady, null);
      assert.equal(probe.resetSupported, fixture.reset === "DONE");
      await assertFree(first);
    });

    balanced("a region that is no BAR has no BAR number, no BAR type, and a type of its own only when it is device-specific", async () => {
      const { regions } = first.probe;
      assert.deepEqual(
        regions.filter((region) => region.kind !== "BAR").map((region) => region.index),
        fixture.notBars,
      );
      for (const { index, bar, kind, prefetchable, is64bit, type } of regions) {
        assert.equal(kind, index < 6 ? "BAR" : (["ROM", "CONFIG", "VGA"][index - 6] ?? "DEVICE_SPECIFIC"));
        assert.equal(bar, kind === "BAR" ? index : null);
        if (kind !== "BAR") assert.deepEqual([prefetchable, is64bit], [false, false]);
        assert.equal(type !== null, kind === "DEVICE_SPECIFIC");
      }
    });

    balanced("facts of a scan agree with each other over all devices", async () => {
      const devices = await host.scan();
      const byAddress = new Map(devices.map((device) => [device.address, device]));
      for (const { address, place, physicalFunction, vfIndex, virtualFunctions, resetSet, driver, driverCandidates } of devices) {
        assert.ok(place === null || /^pci[0-9a-f]{4,8}:[0-9a-f]{2}$/.test(place.root), address);
        assert.ok(place?.ports.includes(address) !== true);
        assert.equal(vfIndex !== null, physicalFunction !== null, address);
        if (physicalFunction !== null) {
          const owner = byAddress.get(physicalFunction)?.virtualFunctions;
          assert.ok(owner?.addresses.includes(address) === true, address);
          assert.ok((vfIndex ?? 0) < owner.total, address);
        }
        assert.ok(virtualFunctions === null || virtualFunctions.addresses.length <= virtualFunctions.total);
        assert.equal(resetSet === null, place === null || place.ports.length === 0, address);
        assert.ok(resetSet === null || resetSet.addresses.includes(address));
        assert.ok(driver === "" || driverCandidates.some((candidate) => candidate.driver === driver), address);
        const order = driverCandidates.map(({ kind }) => ["VFIO_VARIANT", "VFIO_GENERIC", "HOST"].indexOf(kind));
        assert.deepEqual(order, [...order].sort());
      }
    });

    balanced("facts of a probe agree with its regions and with each other", async () => {
      const { interrupts, msix, resetSet, dmaBufExport, readiness, iommuHardware, regions, resetSupported } = first.probe;
      const indexes = interrupts.map(({ index }) => index);
      assert.deepEqual(
        indexes,
        [...indexes].sort((a, b) => a - b),
      );
      assert.ok(interrupts.every(({ count }) => count > 0));
      assert.equal(interrupts.find(({ kind }) => kind === "MSIX")?.count ?? 0, msix?.vectors ?? 0);
      for (const part of msix === null ? [] : [msix.table, msix.pending]) {
        const region = regions.find(({ bar }) => bar === part.bar);
        assert.ok(region !== undefined && part.offset + part.size <= region.size, `MSI-X in BAR ${part.bar}`);
      }
      assert.ok(resetSet === null || resetSet.addresses.includes(first.facts.address));
      assert.ok(resetSet === null || resetSet.source === "KERNEL");
      // Without either, nothing clears the device.
      if (!resetSupported && resetSet === null) assert.equal(fixture.reset, "UNSUPPORTED");
      for (const index of dmaBufExport.regions) assert.equal(regions.find((region) => region.index === index)?.mappable, true);
      assert.notEqual(readiness, "");
      assert.equal(iommuHardware !== null, fixture.iommu);
    });

    balanced("a device lease has its descriptors in order; close() closes them all, twice is harmless", async () => {
      const lease = value(await host.open(deviceLease(first), [first]));
      const kinds = lease.descriptors.map((descriptor) => descriptor.info.kind);
      assert.deepEqual(kinds, fixture.kinds(first.probe.regions.filter((region) => region.readable || region.mappable).length));
      for (const { info, borrow } of lease.descriptors) {
        assert.ok(borrow() > 2);
        if (info.kind === "REGION") assert.equal(info.size, first.probe.regions.find((region) => region.index === info.region)?.size);
        else assert.equal(info.size, 0n);
        assert.equal(info.offset, 0n);
      }
      await lease.close();
      await lease.close();
      for (const descriptor of lease.descriptors) assert.throws(() => descriptor.borrow(), /after it was closed/);
      await assertFree(first);
    });

    balanced("closeHandedOff of a device lease keeps nothing", async () => {
      const open = openDescriptors();
      const lease = value(await host.open(deviceLease(first), [first]));
      await lease.closeHandedOff();
      assert.equal(openDescriptors(), open);
      await lease.close();
      await assertFree(first);
    });

    balanced("two devices in one lease", async () => {
      const lease = value(await host.open(deviceLease(first, second), [first, second]));
      const addresses = lease.descriptors.map((descriptor) => descriptor.info.address).filter((address) => address !== null);
      assert.deepEqual([...new Set(addresses)], [first.facts.address, second.facts.address]);
      const client = ClientSide.receive(lease);
      await client.bind();
      await lease.closeHandedOff();
      assert.equal(await resultOfProof(first), "STILL_HELD");
      assert.equal(await resultOfProof(second), "STILL_HELD");
      await client.drop();
      await assertFree(first);
      await assertFree(second);
    });

    balanced("all or nothing: one device that is gone, and the other is not taken", async () => {
      const address: Address | null = parseAddress("0000:7f:1f.7");
      assert.ok(address !== null);
      const gone: KnownDevice = { ...second, facts: { ...second.facts, address, bindKey: "gone" } };
      assert.equal(reasonOf(await host.open(deviceLease(first, gone), [first, gone])), "DEVICE_REMOVED");
      await assertFree(first);
      assert.equal(reasonOf(await host.probe(gone.facts)), "DEVICE_REMOVED");
      assert.equal(await resultOfProof(gone), "GONE");
    });

    balanced("a device that was bound anew since it was probed is refused, not taken for the old one", async () => {
      const stale: KnownDevice = { ...first, facts: { ...first.facts, bindKey: `${first.facts.bindKey}-before` } };
      const outcome = await host.open(deviceLease(stale), [stale]);
      assert.equal(reasonOf(outcome), "HOST_OPERATION_FAILED");
      assert.match(outcome.refusal?.message ?? "", /bound anew/);
    });

    balanced("a group that is not viable is refused by name", async () => {
      const group = first.facts.iommuGroup;
      assert.ok(group !== null);
      const members = [...group.members, { address: second.facts.address, driver: "snd_hda_intel", spoils: true }];
      const facts = { ...first.facts, iommuGroup: { ...group, members, viable: false } };
      const outcomes: Outcome<unknown>[] = [await host.probe(facts), await host.open(deviceLease(first), [{ ...first, facts }])];
      for (const outcome of outcomes) {
        assert.equal(reasonOf(outcome), "GROUP_NOT_VIABLE");
        assert.match(outcome.refusal?.message ?? "", new RegExp(`${second.facts.address} \\(snd_hda_intel\\)`));
      }
    });

    balanced("proven free, reset with its result, and free again", async () => {
      const proof = await proofOf(first);
      assert.deepEqual(await proof.reset(), { result: fixture.reset });
      await proof.close();
      await proof.close();
      await assertFree(first);
    });

    balanced("while a client has a copy it is still held, a probe says so, and it comes free with the copy", async () => {
      const lease = value(await host.open(deviceLease(first), [first]));
      const client = ClientSide.receive(lease);
      await client.bind();
      await lease.closeHandedOff();
      const outcome = await host.prove([first]);
      assert.equal(outcome.result, "STILL_HELD");
      assert.ok("detail" in outcome && outcome.detail.length > 0);
      assert.equal(reasonOf(await host.probe(first.facts)), "DEVICE_IN_USE");
      await client.drop();
      await lease.close();
      await assertFree(first);
    });

    balanced(`a copy that was never used: ${fixture.unusedCopy}`, async () => {
      const lease = value(await host.open(deviceLease(first), [first]));
      const client = ClientSide.receive(lease);
      await lease.closeHandedOff();
      assert.equal(await resultOfProof(first), fixture.unusedCopy);
      await client.drop();
      await assertFree(first);
    });

    balanced("a mapping alone keeps it held", async () => {
      const lease = value(await host.open(deviceLease(first), [first]));
      const client = ClientSide.receive(lease);
      await client.bind();
      const mapping = await client.map(first, fixture.region);
      await lease.closeHandedOff();
      await client.drop();
      assert.equal(await resultOfProof(first), "STILL_HELD");
      await mapping.close();
      await assertFree(first);
    });

    balanced("a region that does not exist is refused, with those that do", async () => {
      const outcome = await host.open(regionLease(first, [fixture.region, 5000], true), [first]);
      assert.equal(reasonOf(outcome), "REGION_NOT_FOUND");
      await assertFree(first);
    });

    balanced("a region lease without device scope is limited to the region, or refused", async () => {
      const outcome = await host.open(regionLease(first, [fixture.region], false), [first]);
      if (fixture.regionScope === "REFUSED") {
        assert.equal(reasonOf(outcome), "REGION_SCOPE_UNAVAILABLE");
        assert.match(outcome.refusal?.message ?? "", /dma_buf_mmap: ./);
      } else {
        await assertRegionLease(value(outcome), "REGION");
      }
      await assertFree(first);
    });

    balanced("a region lease with device scope says its true scope, and works while the broker stays the owner", async () => {
      await assertRegionLease(value(await host.open(regionLease(first, [fixture.region], true), [first])), fixture.widestScope);
      await assertFree(first);
    });

    async function assertRegionLease(lease: OpenedLease, scope: "REGION" | "DEVICE"): Promise<void> {
      assert.deepEqual(
        lease.descriptors.map(({ info }) => [info.kind, info.scope, info.address, info.region]),
        [[scope, scope, first.facts.address, scope === "REGION" ? fixture.region : null]],
      );
      const before = openDescriptors();
      await lease.closeHandedOff();
      assert.equal(openDescriptors(), before, "the broker stays the owner: it keeps its copies");
      const client = ClientSide.receive(lease);
      const mapping = await client.map(first, fixture.region);
      await mapping.close();
      await client.drop();
      assert.equal(await resultOfProof(first), "STILL_HELD", "the broker's own lease counts as a holder");
      await lease.close();
    }

    balanced("a device goes to VFIO and back: each time the kernel's word is what a scan says", async () => {
      const address = parseAddress(fixture.hostBound) ?? assert.fail(fixture.hostBound);
      const { drivers } = host;
      const before = (await drivers.binding(address)) ?? assert.fail(`there is no ${address}`);
      assert.deepEqual([before.vfio, before.driver === "", before.override], [false, false, ""]);
      assert.deepEqual(await drivers.users(address), []);
      const steps: string[] = [];
      const options = { onStep: (action: string) => void steps.push(action), wanted: () => true };
      value(await drivers.load("vfio-pci", "vfio-pci", 5_000));
      value(await drivers.move(address, { driver: "vfio-pci", override: "vfio-pci" }, true, options));
      assert.deepEqual(await drivers.binding(address), { driver: "vfio-pci", override: "vfio-pci", vfio: true });
      const facts = await factsOf(address);
      assert.deepEqual([facts.driver, facts.vfioBound, facts.iommuGroup?.viable], ["vfio-pci", true, true]);
      const probe = value(await host.probe(facts));
      await assertFree({ facts, probe });
      value(await drivers.move(address, before, false, options));
      assert.deepEqual(await drivers.binding(address), before);
      const after = await factsOf(address);
      assert.deepEqual([after.driver, after.vfioBound], [before.driver, false]);
      assert.deepEqual(steps, ["UNBINDING", "BINDING", "UNBINDING", "BINDING"]);
      assert.equal(reasonOf(await drivers.load("no_such_vfio_pci", "no_such_vfio_pci", 5_000)), "DRIVER_UNAVAILABLE");
      const nobody = parseAddress("0000:7f:1f.7") ?? assert.fail();
      assert.equal(await drivers.binding(nobody), null);
      assert.notEqual(reasonOf(await drivers.move(nobody, { driver: "vfio-pci", override: "" }, true, options)), "granted");
    });

    balanced("no call that reaches the device keeps the event loop from turning", async () => {
      // A call that waits on this thread does so every time; a starved machine makes pauses here and there. So only what paused in each of three rounds counts.
      let pauses: string[] = [];
      async function watched<T>(name: string, work: () => Promise<T>): Promise<T> {
        const begin = performance.now();
        let last = begin;
        let longest = 0;
        let running = true;
        const turn = (): void => {
          const now = performance.now();
          longest = Math.max(longest, now - last);
          last = now;
          if (running) setImmediate(turn);
        };
        setImmediate(turn);
        try {
          return await work();
        } finally {
          running = false;
          const end = performance.now();
          longest = Math.max(longest, end - last);
          // A call that waits in the kernel on this thread is one pause as long as itself; a busy machine makes many small ones.
          if (longest > Math.max(SHORT_PAUSE_MS, (end - begin) * 0.6)) {
            pauses.push(name);
          }
        }
      }
      const devices = [first, second];
      let everyTime: readonly string[] | null = null;
      for (let round = 0; round < 3 && everyTime?.length !== 0; round += 1) {
        pauses = [];
        value(await watched("probe", () => host.probe(first.facts)));
        const lease = value(await watched("open", () => host.open(deviceLease(...devices), devices)));
        await watched("close of the lease", () => lease.close());
        const proof = await watched("prove", () => proofOf(first));
        await watched("reset", () => proof.reset());
        await watched("close of the proof", () => proof.close());
        everyTime = pauses.filter((name) => everyTime?.includes(name) ?? true);
      }
      assert.deepEqual(everyTime, []);
    });
  });
}
