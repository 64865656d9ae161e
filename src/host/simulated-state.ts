// Where a simulated device stands: in the machine or not, and who has it.

import type { DriverCandidate } from "../broker/facts.js";
import { withBound } from "./driver-candidates.js";
import type { SimulatedDevice } from "./simulated-devices.js";
import type { SimulatedFiles } from "./simulated-files.js";

export interface Simulated {
  readonly device: SimulatedDevice;
  readonly files: SimulatedFiles;
  present: boolean;
  /** Whether a VFIO driver has it. LEAVING: it waits for a client that still holds a descriptor or mapping; the value says what follows. */
  driver: "BOUND" | "UNBOUND" | "LEAVING_DRIVER" | "LEAVING_MACHINE";
  /** The VFIO driver, while it is not UNBOUND. */
  vfioDriver: string;
  /** Another driver that has it; empty: none. */
  hostDriver: string;
  override: string;
  /** Grows with every bind, as the inode of the driver link does. */
  binding: number;
}

/** As the table of devices has it. */
export function startsAs({ driver, vfioBound }: SimulatedDevice): Pick<Simulated, "driver" | "vfioDriver" | "hostDriver" | "override"> {
  return {
    driver: vfioBound ? "BOUND" : "UNBOUND",
    vfioDriver: vfioBound ? driver : "",
    hostDriver: vfioBound ? "" : driver,
    override: "",
  };
}

export function isLeaving({ driver }: Simulated): boolean {
  return driver === "LEAVING_DRIVER" || driver === "LEAVING_MACHINE";
}

/** A VFIO driver is named until it has let go. */
export function driverOf({ driver, vfioDriver, hostDriver }: Simulated): string {
  return driver === "UNBOUND" ? hostDriver : vfioDriver;
}

export function candidatesOf(simulated: Simulated): readonly DriverCandidate[] {
  return withBound(simulated.device.facts.driverCandidates, driverOf(simulated), simulated.driver === "BOUND");
}
