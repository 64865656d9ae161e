// The host when the machine has no VFIO device: devices made of memory. Hand-over, mapping, tails, release and reset are real descriptors and real mappings, so
// everything above the host layer runs as it does on hardware, and can be made to fail at any call. There is no device behind, so even a device lease gives one
// REGION descriptor for each region.

import { setTimeout as sleep } from "node:timers/promises";
import type { Address, DeviceFacts, DeviceProbe, GroupMember } from "../broker/device.js";
import type { NumaNode, ResetSet } from "../broker/facts.js";
import { NVGRACE } from "../broker/nvgrace.js";
import type {
  Host,
  HostCapability,
  HostChange,
  KnownDevice,
  Observer,
  OpenedLease,
  OpenRequest,
  Proof,
  ProofOutcome,
} from "../broker/ports.js";
import { granted, type Outcome, type Refusal, refuse } from "../broker/refusal.js";
import type { OwnedDescriptor } from "../descriptor.js";
import { native, type SysError, type VfioRegionInfo } from "../native.js";
import { CapabilityTable } from "./capability-table.js";
import { DeviceQueues } from "./device-queues.js";
import { failedCall, text } from "./failed-call.js";
import { Holding } from "./holding.js";
import { describe, HostLease } from "./host-lease.js";
import { factsRefusal, leavingRefusal, noVfioDriver } from "./machine.js";
import { initiatorsOf } from "./numa.js";
import { assembleRegions, BAR_REGISTERS } from "./region.js";
import { requestedRegions } from "./region-lease.js";
import { configSpace, SIMULATED_DEVICES, type SimulatedDevice } from "./simulated-devices.js";
import { SimulatedDrivers } from "./simulated-drivers.js";
import { isUsable, SimulatedFiles } from "./simulated-files.js";
import { SIMULATED_NUMA_NODES } from "./simulated-numa.js";
import { candidatesOf, driverOf, isLeaving, type Simulated, startsAs } from "./simulated-state.js";

export interface SimulatedOptions {
  readonly observer: Pick<Observer, "fault">;
  readonly devices?: readonly SimulatedDevice[];
  /**
   * Asked before each simulated system call. n counts the calls of that operation on that device from 1. An error: the call fails with it; a number: it takes so
   * many milliseconds; null: it goes on. Operations: VFIO_DEVICE_GET_INFO, VFIO_DEVICE_GET_REGION_INFO, F_SETLEASE, open, memfd_create, VFIO_DEVICE_RESET, close;
   * driver_override, unbind, bind, sriov_numvfs.
   */
  readonly script?: (operation: string, address: string, n: number) => SysError | number | null;
}

/** Domain and bus of the outermost port, or of the device itself on the root bus. */
function rootOf({ address, ports }: SimulatedDevice): string {
  return `pci${(ports[0] ?? address).slice(0, "0000:00".length)}`;
}

export class SimulatedHost implements Host {
  readonly backend = "SIMULATED";
  readonly #observer: Pick<Observer, "fault">;
  readonly #script: NonNullable<SimulatedOptions["script"]>;
  readonly #queues: DeviceQueues;
  readonly #devices = new Map<Address, Simulated>();
  readonly #calls = new Map<string, number>();
  readonly #capabilities: CapabilityTable;
  readonly #listeners = new Set<(change: HostChange) => void>();
  readonly drivers: SimulatedDrivers;
  #closed = false;

  private constructor(options: SimulatedOptions) {
    this.#observer = options.observer;
    this.#script = options.script ?? (() => null);
    this.#queues = new DeviceQueues((name) => new native.BlockingQueue(name));
    const none = "simulated host: there is no VFIO here to ask";
    this.#capabilities = new CapabilityTable(
      {
        iommufd: none,
        cdev: none,
        rlimit_mode: none,
        dma_buf_export: none,
        dma_buf_mmap: none,
        bind_token: none,
        open_count: none,
        uevents: none,
      },
      "UNAVAILABLE",
    );
    for (const device of options.devices ?? SIMULATED_DEVICES) {
      const { queue } = this.#queues.use(device.address);
      const files = new SimulatedFiles(device, queue, native, (operation, address) => this.#interfere(operation, address));
      this.#devices.set(device.address, { device, files, present: true, ...startsAs(device), binding: 1 });
    }
    this.drivers = new SimulatedDrivers({
      devices: this.#devices,
      interfere: (operation, address) => this.#interfere(operation, address),
      letGo: (simulated) => this.#letGo(simulated),
      tell: (address) => this.#tell(address),
      isClosed: () => this.#closed,
    });
  }

  /** Makes the devices' memory: nothing of it is allocated before somebody writes. */
  static async create(options: SimulatedOptions): Promise<Outcome<SimulatedHost>> {
    const host = new SimulatedHost(options);
    for (const { device, files } of host.#devices.values()) {
      // The question is asked here too: on a kernel that cannot answer it (built without CONFIG_FILE_LOCKING) no lease would ever come back.
      const error = (await files.renew()) ?? (await files.obstacle());
      if (error === null) continue;
      await host.close();
      return { value: null, refusal: failedCall(error, device.address) };
    }
    return granted(host);
  }

  capabilities(): readonly HostCapability[] {
    return this.#capabilities.all();
  }

  numaNodes(): readonly NumaNode[] {
    return SIMULATED_NUMA_NODES;
  }

  async scan(only?: ReadonlySet<Address>): Promise<readonly DeviceFacts[]> {
    for (const simulated of this.#devices.values()) await this.#letGo(simulated);
    const all = [...this.#devices.values()].filter((simulated) => simulated.present);
    const wanted = only === undefined ? all : all.filter(({ device }) => only.has(device.address));
    return wanted.map((simulated) => this.#facts(simulated, all)).sort((a, b) => (a.address < b.address ? -1 : 1));
  }

  /** Tells of plug, unplug, eject, bind and unbind, as uevents do. That a client has let go of a device that is leaving is found by a scan. */
  changes(listener: (change: HostChange) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  async probe(facts: DeviceFacts): Promise<Outcome<DeviceProbe>> {
    const found = await this.#free(facts);
    if (found.refusal !== null) return found;
    const { device } = found.value;
    const asked = await this.#interfere("VFIO_DEVICE_GET_INFO", device.address);
    if (asked !== null) return { value: null, refusal: failedCall(asked, device.address) };
    const infos: VfioRegionInfo[] = [];
    for (const region of device.regions) {
      const error = await this.#interfere("VFIO_DEVICE_GET_REGION_INFO", device.address);
      if (error !== null) return { value: null, refusal: failedCall(error, device.address) };
      const { index, flags, size, sparse, type } = region;
      // Every region has a descriptor of its own here, and begins at its start.
      infos.push({ index, flags, size, offset: 0n, sparse, type, msixMappable: false });
    }
    const registers = configSpace(device).subarray(BAR_REGISTERS.offset, BAR_REGISTERS.offset + BAR_REGISTERS.width * BAR_REGISTERS.count);
    const assembled = assembleRegions(infos, registers, found.value.vfioDriver);
    if (assembled.fault !== null) throw new Error(`simulated ${device.address}: ${assembled.fault}`);
    const regions = assembled.regions.map((region) => {
      const memory = device.regions.find(({ index }) => index === region.index)?.memory;
      const { memoryType, source } = memory ?? { memoryType: region.memoryType, source: region.memoryTypeSource };
      return { ...region, memoryType, memoryTypeSource: `simulated as: ${source}` };
    });
    const { interrupts, msix, migration, lowPower, addressTranslation, iommuHardware } = device.facts;
    return granted({
      ...{ resetSupported: device.resetMethods.length > 0, regions, notReady: null, readiness: "simulated: always ready" },
      ...{ resetSet: this.#resetSet(device, "KERNEL"), interrupts, msix, migration, lowPower, addressTranslation, iommuHardware },
      dmaBufExport: { supported: false, regions: [] },
    });
  }

  /** What is below the same port. A device on the root bus is reached by no hot reset. */
  #resetSet({ ports }: SimulatedDevice, source: ResetSet["source"]): ResetSet | null {
    const above = ports.at(-1);
    if (above === undefined) return null;
    const below = [...this.#devices.values()].filter((other) => other.present && other.device.ports.includes(above));
    return { addresses: below.map((other) => other.device.address).sort(), source };
  }

  async open(request: OpenRequest, devices: readonly KnownDevice[]): Promise<Outcome<OpenedLease>> {
    const holding = new Holding(this.#queues, this.#observer);
    const lease = await this.#open(holding, request, devices);
    if (lease.refusal !== null) await holding.close();
    return lease;
  }

  async prove(devices: readonly KnownDevice[]): Promise<ProofOutcome> {
    const present: Simulated[] = [];
    for (const { facts } of devices) {
      const simulated = this.#devices.get(facts.address);
      if (simulated?.present !== true) continue;
      await this.#letGo(simulated);
      if (isLeaving(simulated)) return { result: "STILL_HELD", detail: leavingRefusal(facts.address, simulated.vfioDriver).message };
      if (!simulated.present || simulated.driver === "UNBOUND") continue;
      const shared = await simulated.files.shared();
      if (shared.error !== null) return { result: "FAILED", detail: text(shared.error) };
      if (shared.value) return { result: "STILL_HELD", detail: `${facts.address}: a descriptor or mapping of one of its regions is left` };
      present.push(simulated);
    }
    if (present.length === 0) return { result: "GONE" };
    return { result: "PROVEN", proof: { reset: () => this.#reset(present), close: () => this.#interfered("close", present) } };
  }

  async close(): Promise<void> {
    this.#closed = true;
    await Promise.all([...this.#devices.values()].map(({ files }) => files.close()));
    this.#queues.keepOnly(new Set());
  }

  /** Takes a device out of the machine at once, whoever holds it: descriptors that clients have stay good, everything else says that it is gone. */
  unplug(address: Address): void {
    this.#simulated(address).present = false;
    this.#tell(address);
  }

  /** Puts it back, bound anew. */
  plug(address: Address): void {
    this.#bind(this.#simulated(address));
  }

  /** Asks the device out of the machine as the kernel does: it leaves when its last holder has let go. */
  async eject(address: Address): Promise<void> {
    await this.#leave(address, "LEAVING_MACHINE");
  }

  /** Takes its VFIO driver from a device, which waits for the last holder. */
  async unbind(address: Address): Promise<void> {
    await this.#leave(address, "LEAVING_DRIVER");
  }

  /** Gives the device to its VFIO driver again. */
  bind(address: Address): void {
    this.#bind(this.#simulated(address));
  }

  #bind(simulated: Simulated): void {
    simulated.present = true;
    Object.assign(simulated, startsAs(simulated.device));
    simulated.binding += 1;
    this.#tell(simulated.device.address);
  }

  async #leave(address: Address, how: "LEAVING_DRIVER" | "LEAVING_MACHINE"): Promise<void> {
    const simulated = this.#simulated(address);
    simulated.driver = how;
    await this.#letGo(simulated);
    this.#tell(address);
  }

  #tell(address: Address): void {
    for (const listener of this.#listeners) listener({ kind: "DEVICES", addresses: [address] });
  }

  /** What the kernel does by itself when the last holder of a device that is leaving has gone. */
  async #letGo(simulated: Simulated): Promise<void> {
    if (!isLeaving(simulated)) return;
    const shared = await simulated.files.shared();
    if (shared.error !== null || shared.value || !isLeaving(simulated)) return;
    if (simulated.driver === "LEAVING_MACHINE") simulated.present = false;
    simulated.driver = "UNBOUND";
  }

  #simulated(address: Address): Simulated {
    const simulated = this.#devices.get(address);
    if (simulated === undefined) throw new Error(`there is no simulated device ${address}`);
    return simulated;
  }

  #facts(simulated: Simulated, all: readonly Simulated[]): DeviceFacts {
    const { device, binding } = simulated;
    const members: GroupMember[] = all
      .filter((other) => other.device.group === device.group)
      .map((other) => ({
        address: other.device.address,
        driver: driverOf(other),
        spoils: other.driver === "UNBOUND" && driverOf(other) !== "",
      }))
      .sort((a, b) => (a.address < b.address ? -1 : 1));
    const gpus = all.filter((other) => other.device.driver === NVGRACE).map((other) => other.device.address);
    const virtual = all.filter((other) => other.device.physicalFunction === device.address).map((other) => other.device.address);
    return {
      address: device.address,
      vendorId: device.vendorId,
      deviceId: device.deviceId,
      classCode: device.classCode,
      driver: driverOf(simulated),
      // As a scan of sysfs: asked only where it tells why no VFIO driver has the device.
      driverOverride: simulated.driver === "UNBOUND" ? simulated.override : "",
      iommuGroup: { id: device.group, members, viable: !members.some((member) => member.spoils), otherSpoilers: [] },
      resetMethods: device.resetMethods,
      numaNode: device.numaNode,
      physicalFunction: device.physicalFunction,
      vfioBound: simulated.driver === "BOUND",
      leaving: isLeaving(simulated),
      bindKey: `${device.address} ${simulated.driver === "BOUND" ? simulated.vfioDriver : ""} ${binding}`,
      revisionId: device.facts.revisionId,
      subsystem: device.facts.subsystem,
      names: device.facts.names,
      driverCandidates: candidatesOf(simulated),
      place: { root: rootOf(device), ports: device.ports, link: device.facts.link },
      virtualFunctions: device.facts.totalVfs === null ? null : { total: device.facts.totalVfs, addresses: virtual },
      vfIndex: device.facts.vfIndex,
      genericInitiators: initiatorsOf(SIMULATED_NUMA_NODES, gpus).get(device.address) ?? null,
      extendedMemory: null,
      resetSet: this.#resetSet(device, "TOPOLOGY"),
    };
  }

  /** The device, when it is there, bound as the facts say, and held by nobody: what opening a group tells on a real kernel. */
  async #free(facts: DeviceFacts): Promise<Outcome<Simulated>> {
    const { address } = facts;
    const refusal = factsRefusal(facts);
    if (refusal !== null) return { value: null, refusal };
    const simulated = this.#devices.get(address);
    if (simulated?.present !== true) return refuse("DEVICE_REMOVED", `${address}: it has left the machine`, { address });
    if (isLeaving(simulated)) return { value: null, refusal: leavingRefusal(address, simulated.vfioDriver) };
    if (simulated.driver !== "BOUND") return { value: null, refusal: noVfioDriver(address, "") };
    if (!facts.bindKey.endsWith(` ${simulated.binding}`)) {
      const message = `${address}: it was bound anew since it was probed; the next scan reads it again`;
      return refuse("HOST_OPERATION_FAILED", message, { address });
    }
    const shared = await simulated.files.shared();
    if (shared.error !== null) return { value: null, refusal: failedCall(shared.error, address) };
    if (shared.value) return refuse("DEVICE_IN_USE", `${address}: a descriptor or mapping of one of its regions is left`, { address });
    return granted(simulated);
  }

  async #open(holding: Holding, request: OpenRequest, devices: readonly KnownDevice[]): Promise<Outcome<OpenedLease>> {
    const descriptors: { info: ReturnType<typeof describe>; descriptor: OwnedDescriptor }[] = [];
    for (const { facts, probe } of devices) {
      const { address } = facts;
      const found = await this.#free(facts);
      if (found.refusal !== null) return found;
      const usable = found.value.device.regions.filter(isUsable).map((region) => region.index);
      const regions = requestedRegions(address, probe, request.kind === "DEVICE" ? usable : request.regions);
      if (regions.refusal !== null) return regions;
      for (const region of regions.value) {
        const opened = await found.value.files.reopen(region.index, region.writable);
        if (opened.error !== null) return { value: null, refusal: this.#refusedOpen(opened.error, address) };
        const descriptor = holding.own(opened.value, `${address} region ${region.index}`, address);
        descriptors.push({ info: describe("REGION", { address, region: region.index, size: region.size }), descriptor });
      }
    }
    return granted(new HostLease(holding, descriptors, request.kind === "DEVICE"));
  }

  #refusedOpen(error: SysError, address: Address): Refusal {
    return failedCall(error, address, "open");
  }

  async #reset(devices: readonly Simulated[]): ReturnType<Proof["reset"]> {
    let result: "DONE" | "UNSUPPORTED" = "DONE";
    for (const { device, files } of devices) {
      if (device.resetMethods.length === 0) {
        result = "UNSUPPORTED";
        continue;
      }
      const error = (await this.#interfere("VFIO_DEVICE_RESET", device.address)) ?? (await files.renew());
      if (error !== null) return { result: "FAILED", detail: text(error) };
    }
    return { result };
  }

  /** For a call whose failure changes nothing: close(2) frees the number whatever it answers. */
  async #interfered(operation: string, devices: readonly Simulated[]): Promise<void> {
    for (const { device } of devices) {
      const error = await this.#interfere(operation, device.address);
      if (error !== null) this.#observer.fault("host.close", new Error(text(error)));
    }
  }

  async #interfere(operation: string, address: string): Promise<SysError | null> {
    const key = `${operation} ${address}`;
    const n = (this.#calls.get(key) ?? 0) + 1;
    this.#calls.set(key, n);
    const answer = this.#script(operation, address, n);
    if (typeof answer !== "number") return answer;
    await sleep(answer);
    return null;
  }
}
