// Devices through /dev/vfio/devices/vfioN and /dev/iommu. Two rules of the kernel shape all of it: nothing can be read before BIND, and a descriptor that was
// bound once is bound for good. So probes and proofs open a descriptor of their own and bind it to one scratch iommufd that is never given to anybody, and a lease gets
// descriptors that were never bound. One scratch for all: devices of one IOMMU group can be bound to one iommufd only.

import { join } from "node:path";
import type { Address, DeviceFacts, DeviceProbe } from "../broker/device.js";
import type { DriverControl } from "../broker/driver-control.js";
import type { NumaNode } from "../broker/facts.js";
import type { Host, HostCapability, HostChange, KnownDevice, OpenedLease, OpenRequest, ProofOutcome } from "../broker/ports.js";
import { granted, type Outcome } from "../broker/refusal.js";
import type { OwnedDescriptor } from "../descriptor.js";
import type { SysResult } from "../native.js";
import { CapabilityTable } from "./capability-table.js";
import { openCdev } from "./cdev.js";
import { type ProvenDevice, resetAll } from "./device-reset.js";
import { failedCall, failedOpen, heldBecause, isGone, text } from "./failed-call.js";
import type { Holding } from "./holding.js";
import { describe, describeDevice, HostLease } from "./host-lease.js";
import { factsRefusal, type HostOptions, Machine } from "./machine.js";
import { requestedRegions, shareRegions, unavailableScope } from "./region-lease.js";
import { VfTokens } from "./vf-tokens.js";

/** Queue of what belongs to no device. */
const HOST_KEY = "iommufd";

type Devices = readonly KnownDevice[];

type Taken = Exclude<ProofOutcome, { result: "PROVEN" }> | { readonly result: "PROVEN"; readonly device: ProvenDevice };

export class IommufdHost implements Host {
  readonly backend = "IOMMUFD";
  readonly #machine: Machine;
  readonly #node: string;
  readonly #own: Holding;
  readonly #scratch: OwnedDescriptor;
  readonly #capabilities: CapabilityTable;
  readonly #tokens: VfTokens;

  private constructor(machine: Machine, node: string, own: Holding, scratch: OwnedDescriptor, capabilities: CapabilityTable) {
    this.#machine = machine;
    this.#node = node;
    this.#own = own;
    this.#scratch = scratch;
    this.#capabilities = capabilities;
    this.#tokens = new VfTokens({
      vfioBinding: (address) => machine.vfioBinding(address),
      learnt: (checks, detail) => {
        const known = capabilities.get("bind_token");
        // A driver without tokens says nothing against the kernel.
        if (known === "UNKNOWN" || (checks && known === "UNAVAILABLE")) {
          capabilities.set("bind_token", checks ? "AVAILABLE" : "UNAVAILABLE", detail);
        }
      },
      openOnce: (physical) => this.#setToken(physical),
    });
    machine.tokens = this.#tokens;
  }

  /** Opens the scratch iommufd, which also tells what an iommufd can do here. */
  static async create(options: HostOptions): Promise<Outcome<IommufdHost>> {
    const machine = new Machine(options);
    const node = join(options.devRoot, "iommu");
    const own = machine.holding();
    const opened = await own.queue(HOST_KEY).open(node, "readwrite");
    if (opened.error !== null) {
      await own.close();
      return { value: null, refusal: await failedOpen(opened.error, null, node, "node") };
    }
    const scratch = own.own(opened.value, "scratch iommufd", HOST_KEY);
    const capabilities = new CapabilityTable({
      iommufd: "not asked",
      cdev: "not asked: no device was opened yet",
      rlimit_mode: "not asked",
      dma_buf_export: "not asked: needs a device",
      dma_buf_mmap: "not asked: needs a device",
      bind_token: "not asked: only a VFIO device with virtual functions can tell",
      open_count: "not asked",
      uevents: "not asked",
    });
    capabilities.set("iommufd", "AVAILABLE", `opened ${node}`);
    machine.listen(options, capabilities, true);
    const host = new IommufdHost(machine, node, own, scratch, capabilities);
    // Fails only with EPERM, which is a fact to report and not an error.
    const limited = await host.#limit(own, scratch);
    if (limited !== null) {
      await host.close();
      return { value: null, refusal: limited };
    }
    return granted(host);
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

  async probe(facts: DeviceFacts): Promise<Outcome<DeviceProbe>> {
    const refusal = factsRefusal(facts);
    if (refusal !== null) return { value: null, refusal };
    return await this.#tokens.probing(facts, () => this.#probe(facts));
  }

  async #probe(facts: DeviceFacts): Promise<Outcome<DeviceProbe>> {
    const holding = this.#machine.holding();
    try {
      const device = await this.#openCdev(holding, facts);
      if (device.refusal !== null) return device;
      const queue = holding.queue(facts.address);
      const bound = await this.#bind(holding, facts, device.value, this.#scratch);
      if (bound.error !== null) return { value: null, refusal: failedCall(bound.error, facts.address, "bind") };
      const binding = { iommufd: this.#scratch.borrow(), device: bound.value };
      return await this.#machine.read({ queue, device: device.value.borrow(), facts, binding }, this.#capabilities);
    } finally {
      await holding.close();
    }
  }

  async open(request: OpenRequest, devices: Devices): Promise<Outcome<OpenedLease>> {
    for (const { facts } of devices) {
      const refusal = factsRefusal(facts);
      if (refusal !== null) return { value: null, refusal };
    }
    const holding = this.#machine.holding();
    const lease =
      request.kind === "DEVICE" ? await this.#openDevices(holding, devices) : await this.#openRegions(holding, request, devices);
    if (lease.refusal !== null) await holding.close();
    return lease;
  }

  async prove(devices: readonly KnownDevice[]): Promise<ProofOutcome> {
    const holding = this.#machine.holding();
    const answers = await Promise.all(devices.map((known) => this.#take(holding, known)));
    const held = answers.find((answer) => answer.result === "STILL_HELD") ?? answers.find((answer) => answer.result === "FAILED");
    const proven = answers.filter((answer) => answer.result === "PROVEN").map((answer) => answer.device);
    if (held === undefined && proven.length > 0) {
      return { result: "PROVEN", proof: { reset: () => resetAll(proven), close: () => holding.close() } };
    }
    await holding.close();
    return held ?? { result: "GONE" };
  }

  /** Takes one device of a proof: it is free when it can be bound, and when its open file is the only one. */
  async #take(holding: Holding, known: KnownDevice): Promise<Taken> {
    const { facts } = known;
    const opened = await openCdev(this.#machine, holding, facts, false, "read");
    if (opened.refusal !== null) {
      const { reason, message } = opened.refusal;
      if (reason === "DEVICE_LEAVING") return { result: "STILL_HELD", detail: message };
      // Unbound counts as gone: a driver has let go of a device only when its last descriptor and mapping are closed.
      return reason === "DEVICE_REMOVED" || reason === "NO_VFIO_DRIVER" ? { result: "GONE" } : { result: "FAILED", detail: message };
    }
    const queue = holding.queue(facts.address);
    const bound = await this.#bind(holding, facts, opened.value, this.#scratch);
    if (bound.error === null) {
      const others = (this.#machine.openFiles?.count(facts.address) ?? 1) - 1;
      if (others <= 0) return { result: "PROVEN", device: { known, queue, device: opened.value } };
      const what = others === 1 ? "one open file of its character device is" : `${others} open files of its character device are`;
      return { result: "STILL_HELD", detail: `${facts.address}: ${what} left, never bound, which somebody has a copy of` };
    }
    const held = heldBecause(bound.error, "bind");
    if (held !== null) return { result: "STILL_HELD", detail: `${facts.address}: ${held}` };
    return isGone(bound.error, "bind") ? { result: "GONE" } : { result: "FAILED", detail: text(bound.error) };
  }

  async close(): Promise<void> {
    await this.#own.close();
    this.#machine.close();
  }

  /** A refused BIND leaves the descriptor unbound: it can be asked again. Value: the device's id in the iommufd. */
  #bind(holding: Holding, facts: DeviceFacts, device: OwnedDescriptor, iommufd: OwnedDescriptor): Promise<SysResult<number>> {
    const queue = holding.queue(facts.address);
    return this.#tokens.opening(facts, (token) => queue.bindIommufd(device.borrow(), iommufd.borrow(), token, facts.address));
  }

  /** What is refused here is refused again, and told, when the physical function itself is probed. */
  async #setToken(physical: DeviceFacts): Promise<void> {
    const holding = this.#machine.holding();
    try {
      const device = await openCdev(this.#machine, holding, physical, true, "readwrite");
      if (device.refusal === null) await this.#bind(holding, physical, device.value, this.#scratch);
    } finally {
      await holding.close();
    }
  }

  async #openCdev(holding: Holding, facts: DeviceFacts): Promise<Outcome<OwnedDescriptor>> {
    const device = await openCdev(this.#machine, holding, facts, true, "readwrite");
    if (device.refusal === null) this.#capabilities.set("cdev", "AVAILABLE", `opened the character device of ${facts.address}`);
    return device;
  }

  /** A fresh iommufd, limited before anything is in it (EBUSY afterwards: drivers/iommu/iommufd/ioas.c iommufd_option_rlimit_mode). */
  async #openIommufd(holding: Holding, key: string): Promise<Outcome<OwnedDescriptor>> {
    const opened = await holding.queue(key).open(this.#node, "readwrite");
    if (opened.error !== null) return { value: null, refusal: await failedOpen(opened.error, null, this.#node, "node") };
    const iommufd = holding.own(opened.value, "iommufd", key);
    const limited = await this.#limit(holding, iommufd, key);
    return limited === null ? granted(iommufd) : { value: null, refusal: limited };
  }

  async #limit(holding: Holding, iommufd: OwnedDescriptor, key = HOST_KEY): Promise<Outcome<never>["refusal"]> {
    const limited = await holding.queue(key).iommufdSetRlimitMode(iommufd.borrow());
    if (limited.error === null) {
      this.#capabilities.set("rlimit_mode", "AVAILABLE", "IOMMU_OPTION_RLIMIT_MODE is set on every iommufd");
      return null;
    }
    if (limited.error.code !== "EPERM") return failedCall(limited.error, null);
    const detail = `${text(limited.error)}: without CAP_SYS_RESOURCE pinned memory is counted for each process and not for each user`;
    this.#capabilities.set("rlimit_mode", "UNAVAILABLE", detail);
    return null;
  }

  async #openDevices(holding: Holding, devices: Devices): Promise<Outcome<OpenedLease>> {
    const [first] = devices;
    if (first === undefined) throw new Error("a device lease names at least one device");
    const iommufd = await this.#openIommufd(holding, first.facts.address);
    if (iommufd.refusal !== null) return iommufd;
    const descriptors = [{ info: describe("IOMMUFD"), descriptor: iommufd.value }];
    const opened = await Promise.all(devices.map(({ facts }) => this.#openCdev(holding, facts)));
    const tokens = new Map<Address, Uint8Array>();
    for (const [index, device] of opened.entries()) {
      if (device.refusal !== null) return device;
      const facts = devices[index]?.facts;
      if (facts === undefined) continue;
      descriptors.push({ info: describeDevice("DEVICE_UNBOUND", facts.address), descriptor: device.value });
      const token = await this.#tokens.forHolder(facts);
      if (token !== null) tokens.set(facts.address, token);
    }
    return granted(new HostLease(holding, descriptors, true, tokens.size > 0 ? tokens : null));
  }

  /** The broker stays the owner: it binds the device in an iommufd of this lease alone, and keeps both open until the lease ends. */
  async #openRegions(holding: Holding, request: Extract<OpenRequest, { kind: "REGION" }>, devices: Devices): Promise<Outcome<OpenedLease>> {
    const [first] = devices;
    if (first === undefined) throw new Error("a region lease names one device");
    const { facts, probe } = first;
    const regions = requestedRegions(facts.address, probe, request.regions);
    if (regions.refusal !== null) return regions;
    const unavailable = unavailableScope(request, this.#capabilities);
    if (unavailable !== null) return { value: null, refusal: unavailable };
    const iommufd = await this.#openIommufd(holding, facts.address);
    if (iommufd.refusal !== null) return iommufd;
    const device = await this.#openCdev(holding, facts);
    if (device.refusal !== null) return device;
    const queue = holding.queue(facts.address);
    const bound = await this.#bind(holding, facts, device.value, iommufd.value);
    if (bound.error !== null) return { value: null, refusal: failedCall(bound.error, facts.address, "bind") };
    return shareRegions(queue, holding, device.value, facts.address, regions.value, request.allowDeviceScope, this.#capabilities);
  }
}
