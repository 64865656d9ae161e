// What a change of drivers needs of the world, as interfaces: the host implements the first, the daemon the second.

import type { Address } from "./address.js";
import type { Outcome } from "./refusal.js";

/** Which driver has a device, and which alone may: driver, and the text of driver_override. Empty: none. */
export interface Binding {
  readonly driver: string;
  readonly override: string;
}

/** What is being waited for. */
export type DriverAction = "WAITING" | "LOADING" | "UNBINDING" | "BINDING" | "UNDOING" | "READING";

/** One step, before it begins. */
export interface DriverStep {
  readonly address: Address;
  readonly action: DriverAction;
  /** The driver it is about; empty: none. */
  readonly driver: string;
}

/** A device that was asked for, or was changed with it. */
export interface DriverOutcome {
  readonly address: Address;
  /** Empty: none. */
  readonly before: string;
  readonly driver: string;
  readonly changed: boolean;
}

export interface MoveOptions {
  readonly onStep: (action: "UNBINDING" | "BINDING") => void;
  /** False: whoever asked has given up. Asked between the steps: a device that has lost its driver then stays without one. */
  readonly wanted: () => boolean;
}

/**
 * The kernel's side of a change of drivers. Calls on one device are made one after the other. They settle when the kernel has finished, which may be never (an unbind
 * waits for the last holder); none blocks the event loop, and nothing can take one back: the broker gives up waiting. Refusals: DEVICE_REMOVED, DRIVER_CHANGE_FAILED.
 */
export interface DriverControl {
  /** As the kernel says now. vfio: a VFIO driver has it. null: it has left. */
  binding(address: Address): Promise<(Binding & { readonly vfio: boolean }) | null>;
  /** Makes sure that the kernel has the driver, loading its module within limitMs. Refusal: DRIVER_UNAVAILABLE. */
  load(driver: string, module: string, limitMs: number): Promise<Outcome<null>>;
  /** Who would lose the device: processes that have it open, file systems and swap on it, an interface with a route; in words. As far as can be found out. */
  users(address: Address): Promise<readonly string[]>;
  /**
   * Takes the device from its driver and gives it to another (or none). Succeeds only when that one has it. vfio: it must also have become a VFIO device. On failure
   * it may be left without a driver.
   */
  move(address: Address, to: Binding, vfio: boolean, options: MoveOptions): Promise<Outcome<null>>;
  /** Makes so many virtual functions, which get no driver by themselves; 0 destroys them. Value: those that there are now. */
  setVirtualFunctions(address: Address, count: number): Promise<Outcome<readonly Address[]>>;
}

/** What a device had before the daemon gave it to a VFIO driver. */
export interface FormerBinding extends Binding {
  readonly address: Address;
  /** The VFIO driver that it was given to. */
  readonly boundTo: string;
}

/** Where that is kept over a restart of the daemon. It does not outlive a boot, as no binding does. */
export interface FormerBindings {
  /** Nothing where nothing is kept, or what is kept cannot be trusted. */
  load(): Promise<readonly FormerBinding[]>;
  save(all: readonly FormerBinding[]): Promise<void>;
}
