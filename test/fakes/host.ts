// A host made of booleans, for the rules of the broker alone: it can hold, fail and delay at will, and it notices when the broker breaks the contract (two
// leases open on one device, a lease closed twice, a proof never closed).

import type { Address, DeviceFacts, DeviceProbe } from "../../src/broker/device.js";
import type { DriverControl } from "../../src/broker/driver-control.js";
import type { DescriptorInfo, Host, HostChange, KnownDevice, OpenedLease, OpenRequest, ProofOutcome } from "../../src/broker/ports.js";
import { granted, type Outcome, refuse } from "../../src/broker/refusal.js";
import { BARE_PROBE, UNKNOWN_FACTS } from "./facts.js";

export function fakeAddress(n: number): Address {
  return `0000:00:${n.toString(16).padStart(2, "0")}.0` as Address;
}

export interface FakeDevice {
  readonly address: Address;
  readonly group: number;
  present: boolean;
  vfioBound: boolean;
  /** Its driver waits for whoever holds it. */
  leaving: boolean;
  /** Someone else has a copy. */
  held: boolean;
  reset: "DONE" | "UNSUPPORTED" | "FAILED";
  /** The next open is refused. */
  failOpen: boolean;
  notReady: string | null;
  /** What a hot reset takes down with it. */
  resetSet: readonly Address[] | null;
  /** A driver of the host's that has it while vfioBound is false; empty: none. */
  hostDriver: string;
  override: string;
  /** Taking it from its driver: goes on when this does. */
  unbinding: (() => Promise<void>) | null;
  /** No driver takes it from now on, but this one. */
  takenOnlyBy: string | null;
  /** Who uses it; null: nobody can tell. */
  users: readonly string[] | null;
}

export class FakeHost implements Host {
  readonly backend = "SIMULATED";
  readonly devices = new Map<Address, FakeDevice>();
  readonly violations: string[] = [];
  readonly open_ = new Map<Address, number>();
  openProofs = 0;
  openLeases = 0;
  resets = 0;
  /** What the next lease's holder is told. */
  vfTokens: ReadonlyMap<Address, Uint8Array> | null = null;
  /** Told of each reset that was not refused: which devices, and whether they were cleared. */
  onReset: (addresses: readonly Address[], cleared: boolean) => void = () => {};
  /** Runs inside every asynchronous step: where a test makes things happen in between. */
  between: (step: string) => void | Promise<void> = () => {};

  constructor(groups: readonly (readonly number[])[]) {
    groups.forEach((members, group) => {
      for (const n of members) {
        const address = fakeAddress(n);
        const flags = {
          present: true,
          vfioBound: true,
          leaving: false,
          held: false,
          reset: "DONE" as const,
          failOpen: false,
          notReady: null,
          resetSet: null,
          ...{ hostDriver: "", override: "", unbinding: null, takenOnlyBy: null, users: [] },
        };
        this.devices.set(address, { address, group, ...flags });
      }
    });
  }

  device(address: Address): FakeDevice {
    const device = this.devices.get(address);
    if (!device) throw new Error(`no fake device ${address}`);
    return device;
  }

  capabilities(): readonly [] {
    return [];
  }

  numaNodes(): readonly [] {
    return [];
  }

  readonly listeners = new Set<(change: HostChange) => void>();
  scans: (readonly Address[] | "ALL")[] = [];

  changes(listener: (change: HostChange) => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  tell(change: HostChange): void {
    for (const listener of this.listeners) listener(change);
  }

  async scan(only?: ReadonlySet<Address>): Promise<readonly DeviceFacts[]> {
    this.scans.push(only === undefined ? "ALL" : [...only].sort());
    await this.between("scan");
    const present = [...this.devices.values()].filter((device) => device.present);
    const wanted = present.filter((device) => only?.has(device.address) ?? true);
    return wanted.map((device): DeviceFacts => {
      const members = present
        .filter((other) => other.group === device.group)
        .map((other) => ({
          address: other.address,
          driver: other.hostDriver || "vfio-pci",
          spoils: !other.vfioBound && other.hostDriver !== "",
        }));
      return {
        ...{
          address: device.address,
          vendorId: 1,
          deviceId: 2,
          classCode: 3,
          driver: driverOf(device),
          driverOverride: "",
        },
        ...{
          iommuGroup: { id: device.group, members, viable: !members.some(({ spoils }) => spoils), otherSpoilers: [] },
          resetMethods: [],
          numaNode: null,
          physicalFunction: null,
        },
        ...{ vfioBound: device.vfioBound, leaving: device.leaving, bindKey: String(device.vfioBound) },
        ...UNKNOWN_FACTS,
      };
    });
  }

  async probe(facts: DeviceFacts): Promise<Outcome<DeviceProbe>> {
    await this.between("probe");
    const device = this.device(facts.address);
    if (!device.present) return refuse("DEVICE_REMOVED", "gone");
    if (device.held) return refuse("DEVICE_IN_USE", `${facts.address} is held by somebody else`);
    const resetSet = device.resetSet === null ? null : { addresses: device.resetSet, source: "KERNEL" as const };
    return granted({ ...BARE_PROBE, resetSupported: device.reset !== "UNSUPPORTED", notReady: device.notReady, resetSet });
  }

  async open(request: OpenRequest, devices: readonly KnownDevice[]): Promise<Outcome<OpenedLease>> {
    const addresses = request.kind === "DEVICE" ? request.addresses : [request.address];
    for (const address of addresses) {
      if ((this.open_.get(address) ?? 0) > 0) this.violations.push(`${address} opened for a second lease`);
      this.open_.set(address, (this.open_.get(address) ?? 0) + 1);
    }
    const undo = (): void => {
      for (const address of addresses) this.open_.set(address, (this.open_.get(address) ?? 1) - 1);
    };
    await this.between("open");
    const failing = devices.find(({ facts }) => this.device(facts.address).failOpen);
    if (failing) {
      this.device(failing.facts.address).failOpen = false;
      undo();
      return refuse("HOST_OPERATION_FAILED", "open was told to fail");
    }
    this.openLeases += 1;
    let closed = false;
    const info: DescriptorInfo = {
      kind: "REGION",
      scope: "REGION",
      address: addresses[0] ?? null,
      region: 0,
      group: null,
      offset: 0n,
      size: 4096n,
    };
    return granted({
      descriptors: [{ info, borrow: () => 0 }],
      vfTokens: this.vfTokens,
      closeHandedOff: async () => {
        if (closed) this.violations.push("copies dropped after close");
      },
      close: async () => {
        if (closed) this.violations.push("lease closed twice");
        closed = true;
        await this.between("close");
        this.openLeases -= 1;
        undo();
      },
    });
  }

  async prove(devices: readonly KnownDevice[]): Promise<ProofOutcome> {
    await this.between("prove");
    const own = devices.map(({ facts }) => this.device(facts.address));
    if (own.some((device) => (this.open_.get(device.address) ?? 0) > 0)) this.violations.push("proof while the broker's own lease is open");
    if (own.some((device) => !device.present)) return { result: "GONE" };
    if (own.some((device) => device.held || device.leaving)) return { result: "STILL_HELD", detail: "EINVAL from BIND" };
    this.openProofs += 1;
    return {
      result: "PROVEN",
      proof: {
        reset: async () => {
          await this.between("reset");
          this.resets += 1;
          if (own.some((device) => device.reset === "FAILED")) return { result: "FAILED", detail: "EIO" };
          const cleared = !own.some((device) => device.reset === "UNSUPPORTED");
          this.onReset(
            own.map((device) => device.address),
            cleared,
          );
          return { result: cleared ? "DONE" : "UNSUPPORTED" };
        },
        close: async () => {
          this.openProofs -= 1;
        },
      },
    };
  }

  async close(): Promise<void> {}

  /** Modules that a load brings. */
  readonly loadable = new Set(["vfio-pci", "nvme"]);
  /** Every move that was begun, as `ADDRESS DRIVER`. */
  readonly moves: string[] = [];
  /** Every device that a driver took. */
  readonly taken: string[] = [];

  readonly drivers: DriverControl = {
    binding: async (address) => {
      await this.between("binding");
      const device = this.device(address);
      return device.present ? { driver: driverOf(device), override: device.override, vfio: device.vfioBound } : null;
    },
    load: async (driver) => (this.loadable.has(driver) ? granted(null) : refuse("DRIVER_UNAVAILABLE", `there is no ${driver}`)),
    users: async (address) => this.device(address).users ?? (await new Promise<never>(() => {})),
    move: async (address, to, vfio, { onStep, wanted }) => {
      const device = this.device(address);
      this.moves.push(`${address} ${to.driver || "none"}`);
      if (driverOf(device) !== "" && driverOf(device) !== to.driver) {
        onStep("UNBINDING");
        await device.unbinding?.();
        Object.assign(device, { vfioBound: false, hostDriver: "" });
      }
      if (!wanted()) return refuse("DRIVER_CHANGE_FAILED", "nobody waits for it any more");
      await this.between("bind");
      if (to.driver !== "") {
        onStep("BINDING");
        if (device.takenOnlyBy !== null && device.takenOnlyBy !== to.driver)
          return refuse("DRIVER_CHANGE_FAILED", `${to.driver} did not take ${address}`);
        this.taken.push(`${address} ${to.driver}`);
        Object.assign(device, vfio ? { vfioBound: true } : { hostDriver: to.driver });
      }
      device.override = to.override;
      return granted(null);
    },
    setVirtualFunctions: async () => refuse("DRIVER_CHANGE_FAILED", "no fake device has virtual functions"),
  };
}

function driverOf({ vfioBound, leaving, hostDriver }: FakeDevice): string {
  return vfioBound || leaving ? "vfio-pci" : hostDriver;
}
