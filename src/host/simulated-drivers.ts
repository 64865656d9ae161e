// Changes of drivers on the simulated host: the made-up devices change theirs as the kernel's do, and an unbind waits for whoever still has a descriptor or mapping.

import { setTimeout as sleep } from "node:timers/promises";
import type { Address } from "../broker/device.js";
import type { Binding, DriverControl, MoveOptions } from "../broker/driver-control.js";
import { granted, type Outcome, type Refusal, refuse } from "../broker/refusal.js";
import type { SysError } from "../native.js";
import { text } from "./failed-call.js";
import { isVfioName } from "./leaving.js";
import { driverOf, isLeaving, type Simulated } from "./simulated-state.js";

/** Between two looks at whether the last holder has let go. */
const LOOK_MS = 20;

export interface SimulatedMachine {
  readonly devices: ReadonlyMap<Address, Simulated>;
  /** Operations: driver_override, modprobe, unbind, bind, sriov_numvfs. */
  interfere(operation: string, address: string): Promise<SysError | null>;
  /** Lets a device go that nobody holds any more. */
  letGo(simulated: Simulated): Promise<void>;
  tell(address: Address): void;
  isClosed(): boolean;
}

export class SimulatedDrivers implements DriverControl {
  readonly #machine: SimulatedMachine;

  constructor(machine: SimulatedMachine) {
    this.#machine = machine;
  }

  async binding(address: Address): Promise<(Binding & { readonly vfio: boolean }) | null> {
    const simulated = this.#present(address);
    if (simulated === null) return null;
    return { driver: driverOf(simulated), override: simulated.override, vfio: simulated.driver === "BOUND" };
  }

  /** This kernel has what its devices know of. */
  async load(driver: string, module: string): Promise<Outcome<null>> {
    const known = [...this.#machine.devices.values()].some(
      ({ device }) => device.driver === driver || device.facts.driverCandidates.some((candidate) => candidate.driver === driver),
    );
    if (known) return granted(null);
    return refuse("DRIVER_UNAVAILABLE", `the simulated kernel has no PCI driver ${driver} (module ${module})`, { driver });
  }

  async users(address: Address): Promise<readonly string[]> {
    const simulated = this.#present(address);
    if (simulated === null) return [];
    const shared = await simulated.files.shared();
    return shared.error === null && shared.value ? ["somebody who has a descriptor or mapping of one of its regions"] : [];
  }

  async move(address: Address, to: Binding, vfio: boolean, { onStep, wanted }: MoveOptions): Promise<Outcome<null>> {
    const simulated = this.#present(address);
    if (simulated === null) return gone(address);
    const named = await this.#machine.interfere("driver_override", address);
    if (named !== null) return failed(address, "driver_override could not be set", named);
    simulated.override = to.driver === "" ? to.override : to.driver;
    const before = driverOf(simulated);
    if (before !== "" && before !== to.driver) {
      onStep("UNBINDING");
      const refusal = await this.#unbind(simulated);
      if (refusal !== null) return { value: null, refusal };
    }
    if (!wanted()) return refuse("DRIVER_CHANGE_FAILED", `${address}: nobody waits for it any more`, { address });
    if (to.driver !== "" && before !== to.driver) {
      onStep("BINDING");
      const refused = await this.#machine.interfere("bind", address);
      if (refused !== null) return failed(address, `${to.driver} did not take it`, refused);
      simulated.binding += 1;
      if (isVfioName(to.driver)) Object.assign(simulated, { driver: "BOUND", vfioDriver: to.driver, hostDriver: "" });
      else Object.assign(simulated, { driver: "UNBOUND", vfioDriver: "", hostDriver: to.driver });
      this.#machine.tell(address);
    }
    if (vfio && simulated.driver !== "BOUND")
      return refuse("DRIVER_CHANGE_FAILED", `${address}: ${to.driver} made no VFIO device of it`, { address });
    simulated.override = to.override;
    return granted(null);
  }

  async setVirtualFunctions(address: Address, count: number): Promise<Outcome<readonly Address[]>> {
    const all = [...this.#machine.devices.values()].filter(({ device }) => device.physicalFunction === address);
    if (count > all.length) {
      return refuse("DRIVER_CHANGE_FAILED", `${address}: only ${all.length} of its virtual functions are made up`, { address });
    }
    const refused = await this.#machine.interfere("sriov_numvfs", address);
    if (refused !== null) return failed(address, `${count} virtual functions could not be made`, refused);
    for (const [index, simulated] of all.entries()) {
      const there = index < count;
      if (there === simulated.present) continue;
      if (there) Object.assign(simulated, { present: true, driver: "UNBOUND", vfioDriver: "", hostDriver: "", override: "" });
      else await this.#leave(simulated, "LEAVING_MACHINE");
      simulated.binding += 1;
      this.#machine.tell(simulated.device.address);
    }
    return granted(all.slice(0, count).map(({ device }) => device.address));
  }

  async #unbind(simulated: Simulated): Promise<Refusal | null> {
    const { address } = simulated.device;
    const refused = await this.#machine.interfere("unbind", address);
    if (refused !== null) return failed(address, `it could not be taken from ${driverOf(simulated)}`, refused).refusal;
    if (simulated.driver === "UNBOUND") simulated.hostDriver = "";
    else await this.#leave(simulated, "LEAVING_DRIVER");
    this.#machine.tell(address);
    return simulated.present ? null : gone(address).refusal;
  }

  /** As the kernel: until the last holder has let go. */
  async #leave(simulated: Simulated, how: "LEAVING_DRIVER" | "LEAVING_MACHINE"): Promise<void> {
    simulated.driver = how;
    await this.#machine.letGo(simulated);
    if (isLeaving(simulated)) this.#machine.tell(simulated.device.address);
    while (isLeaving(simulated) && !this.#machine.isClosed()) {
      await sleep(LOOK_MS, undefined, { ref: false });
      if (!this.#machine.isClosed()) await this.#machine.letGo(simulated);
    }
  }

  #present(address: Address): Simulated | null {
    const simulated = this.#machine.devices.get(address);
    return simulated?.present === true ? simulated : null;
  }
}

function gone(address: Address): ReturnType<typeof refuse> {
  return refuse("DEVICE_REMOVED", `${address}: it has left the machine`, { address });
}

function failed(address: Address, what: string, error: SysError): ReturnType<typeof refuse> {
  return refuse("DRIVER_CHANGE_FAILED", `${address}: ${what} (${text(error)})`, { address });
}
