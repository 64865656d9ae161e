// Devices through /dev/vfio/vfio and /dev/vfio/GROUP: all that a stock Debian kernel has. Here the kernel's unit is the IOMMU group: a lease gets a container of its
// own with the groups of its devices, and a device is free when its group opens.

import type { Address, DeviceFacts, DeviceProbe } from "../broker/device.js";
import type { DriverControl } from "../broker/driver-control.js";
import type { NumaNode } from "../broker/facts.js";
import type {
  DescriptorInfo,
  Host,
  HostCapability,
  HostChange,
  KnownDevice,
  OpenedLease,
  OpenRequest,
  ProofOutcome,
} from "../broker/ports.js";
import { granted, type Outcome } from "../broker/refusal.js";
import type { OwnedDescriptor } from "../descriptor.js";
import { CapabilityTable } from "./capability-table.js";
import { type ProvenDevice, resetAll } from "./device-reset.js";
import type { Holding } from "./holding.js";
import { describe, describeDevice, HostLease } from "./host-lease.js";
import { containerNode, GroupLocks, openContainer, openGroup, openGroupDevice } from "./legacy-group.js";
import { factsRefusal, type HostOptions, Machine } from "./machine.js";
import { requestedRegions, shareRegions, unavailableScope } from "./region-lease.js";
import { VfTokens } from "./vf-tokens.js";

interface OpenedDevices {
  readonly container: OwnedDescriptor;
  readonly groups: readonly { readonly id: number; readonly descriptor: OwnedDescriptor }[];
  readonly devices: readonly { readonly facts: DeviceFacts; readonly descriptor: OwnedDescriptor }[];
}

export class LegacyHost implements Host {
  readonly backend = "LEGACY";
  readonly #machine: Machine;
  readonly #groups = new GroupLocks();
  readonly #capabilities: CapabilityTable;
  readonly #tokens: VfTokens;

  private constructor(machine: Machine, capabilities: CapabilityTable) {
    this.#machine = machine;
    this.#capabilities = capabilities;
    this.#tokens = new VfTokens({
      vfioBinding: (address) => machine.vfioBinding(address),
      // The capability is BIND's; a name with a token is as old as tokens are (5.7).
      learnt: () => {},
      openOnce: (physical) => this.#setToken(physical),
    });
    machine.tokens = this.#tokens;
  }

  /** Opens a container once to see that the kernel speaks the API and has the IOMMU type. */
  static async create(options: HostOptions): Promise<Outcome<LegacyHost>> {
    const machine = new Machine(options);
    const holding = machine.holding();
    const container = await openContainer(machine, holding, "container");
    await holding.close();
    machine.queues.keepOnly(new Set());
    if (container.refusal !== null) return container;
    const capabilities = new CapabilityTable({
      iommufd: "not asked",
      cdev: "not asked",
      rlimit_mode: "not asked",
      dma_buf_export: "not asked: needs a device",
      dma_buf_mmap: "not asked: needs a device",
      bind_token: "not asked",
      open_count: "not asked",
      uevents: "not asked",
    });
    const legacy = `not used: devices are opened through ${containerNode(options.devRoot)}`;
    for (const name of ["iommufd", "cdev", "rlimit_mode", "bind_token"] as const) capabilities.set(name, "UNAVAILABLE", legacy);
    capabilities.set("open_count", "UNAVAILABLE", "not needed: a group opens only when no copy of its devices' descriptors is left");
    machine.listen(options, capabilities, false);
    return granted(new LegacyHost(machine, capabilities));
  }

  get drivers(): DriverControl {
    return this.#machine.drivers;
  }

  capabilities(): readonly HostCapability[] {
    return this.#capabilities.all();
  }

  numaNodes(): readonly NumaNode[] {
    return this.#machine.scanner.numaNodes;
  }

  scan(only?: ReadonlySet<Address>): Promise<readonly DeviceFacts[]> {
    return this.#machine.scan(only);
  }

  changes(listener: (change: HostChange) => void): () => void {
    return this.#machine.changes(listener);
  }

  probe(facts: DeviceFacts): Promise<Outcome<DeviceProbe>> {
    return this.#tokens.probing(facts, () => this.#probe(facts));
  }

  async #probe(facts: DeviceFacts): Promise<Outcome<DeviceProbe>> {
    const opened = await this.#locked([facts], async (holding) => {
      const all = await this.#openAll(holding, [facts], true);
      if (all.refusal !== null) return all;
      const [device] = all.value.devices;
      if (device === undefined) throw new Error(`${facts.address} was opened and is not there`);
      const queue = holding.queue(facts.address);
      return this.#machine.read({ queue, device: device.descriptor.borrow(), facts, binding: null }, this.#capabilities);
    });
    if (opened.refusal !== null) return opened;
    await opened.value.close();
    return granted(opened.value.value);
  }

  async open(request: OpenRequest, devices: readonly KnownDevice[]): Promise<Outcome<OpenedLease>> {
    const facts = devices.map((known) => known.facts);
    const opened = await this.#locked(facts, (holding) =>
      request.kind === "DEVICE" ? this.#openWhole(holding, facts) : this.#openRegions(holding, request, devices),
    );
    if (opened.refusal !== null) return opened;
    // The lease owns the holding now; from here on the kernel itself keeps the group.
    opened.value.unlock();
    return granted(opened.value.value);
  }

  async prove(devices: readonly KnownDevice[]): Promise<ProofOutcome> {
    const present: KnownDevice[] = [];
    for (const known of devices) {
      const standing = await this.#machine.standing(known.facts);
      if (standing.state === "LEAVING") return { result: "STILL_HELD", detail: standing.refusal.message };
      // Unbound counts as gone: a driver has let go of a device only when its last descriptor and mapping are closed.
      if (standing.state === "SAME" || standing.state === "REBOUND") present.push(known);
    }
    if (present.length === 0) return { result: "GONE" };
    const facts = present.map((known) => known.facts);
    const taken = await this.#locked(facts, async (holding): Promise<Outcome<readonly ProvenDevice[]>> => {
      const all = await this.#openAll(holding, facts, false);
      if (all.refusal !== null) return all;
      return granted(
        all.value.devices.flatMap(({ descriptor }, index) => {
          const known = present[index];
          return known === undefined ? [] : [{ known, queue: holding.queue(known.facts.address), device: descriptor }];
        }),
      );
    });
    if (taken.refusal === null) {
      const { value, close } = taken.value;
      return { result: "PROVEN", proof: { reset: () => resetAll(value), close } };
    }
    const { reason, message } = taken.refusal;
    if (reason === "DEVICE_IN_USE" || reason === "DEVICE_LEAVING") return { result: "STILL_HELD", detail: message };
    return reason === "DEVICE_REMOVED" || reason === "NO_VFIO_DRIVER" ? { result: "GONE" } : { result: "FAILED", detail: message };
  }

  async close(): Promise<void> {
    this.#machine.close();
  }

  /** What is refused here is refused again, and told, when the physical function itself is probed. */
  async #setToken(physical: DeviceFacts): Promise<void> {
    const opened = await this.#locked([physical], (holding) => this.#openAll(holding, [physical], true));
    if (opened.refusal === null) await opened.value.close();
  }

  /**
   * Runs work with the groups of the devices locked. When it refuses, everything it opened is closed and the lock given back; else the caller does both, in one
   * (close) or leaves the descriptors to whom they now belong (unlock).
   */
  async #locked<T>(
    devices: readonly DeviceFacts[],
    work: (holding: Holding) => Promise<Outcome<T>>,
  ): Promise<Outcome<{ readonly value: T; readonly unlock: () => void; readonly close: () => Promise<void> }>> {
    for (const facts of devices) {
      const refusal = factsRefusal(facts);
      if (refusal !== null) return { value: null, refusal };
    }
    const unlock = await this.#groups.take(devices.map((facts) => facts.iommuGroup?.id ?? -1));
    const holding = this.#machine.holding();
    const close = async (): Promise<void> => {
      await holding.close();
      unlock();
    };
    let done = false;
    try {
      const outcome = await work(holding);
      done = outcome.refusal === null;
      return outcome.refusal === null ? granted({ value: outcome.value, unlock, close }) : outcome;
    } finally {
      if (!done) await close();
    }
  }

  async #openWhole(holding: Holding, devices: readonly DeviceFacts[]): Promise<Outcome<OpenedLease>> {
    const opened = await this.#openAll(holding, devices, true);
    if (opened.refusal !== null) return opened;
    const descriptors: { info: DescriptorInfo; descriptor: OwnedDescriptor }[] = [
      { info: describe("CONTAINER"), descriptor: opened.value.container },
      ...opened.value.groups.map(({ id, descriptor }) => ({ info: describe("GROUP", { group: id }), descriptor })),
      ...opened.value.devices.map(({ facts, descriptor }) => ({ info: describeDevice("DEVICE", facts.address), descriptor })),
    ];
    return granted(new HostLease(holding, descriptors, true));
  }

  async #openRegions(
    holding: Holding,
    request: Extract<OpenRequest, { kind: "REGION" }>,
    devices: readonly KnownDevice[],
  ): Promise<Outcome<OpenedLease>> {
    const [first] = devices;
    if (first === undefined) throw new Error("a region lease names one device");
    const { facts, probe } = first;
    const regions = requestedRegions(facts.address, probe, request.regions);
    if (regions.refusal !== null) return regions;
    const unavailable = unavailableScope(request, this.#capabilities);
    if (unavailable !== null) return { value: null, refusal: unavailable };
    const opened = await this.#openAll(holding, [facts], true);
    if (opened.refusal !== null) return opened;
    const [device] = opened.value.devices;
    if (device === undefined) throw new Error(`${facts.address} was opened and is not there`);
    const queue = holding.queue(facts.address);
    return shareRegions(queue, holding, device.descriptor, facts.address, regions.value, request.allowDeviceScope, this.#capabilities);
  }

  /** One container, each group of the devices once, each device. sameBinding: refuse a device that was bound anew since the facts were read. */
  async #openAll(holding: Holding, devices: readonly DeviceFacts[], sameBinding: boolean): Promise<Outcome<OpenedDevices>> {
    const [first] = devices;
    if (first === undefined) throw new Error("nothing to open");
    for (const facts of devices) {
      const refusal = await this.#machine.refusalNow(facts, sameBinding);
      if (refusal !== null) return { value: null, refusal };
    }
    const container = await openContainer(this.#machine, holding, first.address);
    if (container.refusal !== null) return container;
    const groups = new Map<number, OwnedDescriptor>();
    const opened: { facts: DeviceFacts; descriptor: OwnedDescriptor }[] = [];
    for (const facts of devices) {
      const id = facts.iommuGroup?.id ?? -1;
      let group = groups.get(id);
      if (group === undefined) {
        const joined = await openGroup(this.#machine, holding, facts, container.value, groups.size === 0);
        if (joined.refusal !== null) return joined;
        group = joined.value;
        groups.set(id, group);
      }
      const device = await openGroupDevice(holding, facts, group, this.#tokens);
      if (device.refusal !== null) return device;
      // Asked once the device is open: from then on its driver stays.
      const refusal = await this.#machine.refusalNow(facts, sameBinding);
      if (refusal !== null) return { value: null, refusal };
      opened.push({ facts, descriptor: device.value });
    }
    return granted({ container: container.value, groups: [...groups].map(([id, descriptor]) => ({ id, descriptor })), devices: opened });
  }
}
