// What an operator asks of a device's driver: to VFIO, back, virtual functions.

import type { DriverResult__Output } from "../generated/aperture/v1/DriverResult.js";
import type { DriverStep__Output } from "../generated/aperture/v1/DriverStep.js";
import { type Bare, bare } from "./bare.js";
import { type GrpcCalls, isServiceError, type Method, required } from "./grpc-calls.js";

/** One step, told when it begins. */
export interface DriverStep {
  readonly address: string;
  readonly action: Bare<DriverStep__Output["action"], "DRIVER_ACTION_">;
  /** The driver it is about; empty: none. */
  readonly driver: string;
}

export interface DriverOutcome {
  readonly address: string;
  /** Empty: none. */
  readonly driverBefore: string;
  readonly driver: string;
  /** False: it had that already. */
  readonly changed: boolean;
}

export interface DriverOptions {
  readonly onStep?: (step: DriverStep) => void;
}

export interface BindDriverOptions extends DriverOptions {
  /** A VFIO driver. Default: the best that the kernel has for the device. */
  readonly driver?: string;
  /** Other members of its IOMMU group may be taken from their drivers too. Default false. */
  readonly wholeGroup?: boolean;
}

interface Progress {
  readonly step?: DriverStep__Output | null;
  readonly result?: DriverResult__Output | null;
}

/** Reads the steps of a change until its result. There is no deadline: the daemon has limits of its own. */
export async function changeDriver<Request>(
  calls: GrpcCalls,
  method: Method<Request, Progress>,
  request: Request,
  { onStep }: DriverOptions,
): Promise<readonly DriverOutcome[]> {
  const stream = calls.stream(method, request);
  let devices: readonly DriverOutcome[] | null = null;
  try {
    for await (const progress of stream) {
      const { step, result } = progress as Progress;
      if (step) onStep?.({ address: step.address, action: bare(step.action, "DRIVER_ACTION_"), driver: step.driver });
      if (result)
        devices = result.devices.map(({ address, driverBefore, driver, changed }) => ({ address, driverBefore, driver, changed }));
    }
  } catch (error) {
    throw isServiceError(error) ? await calls.failure(method, error, 0) : error;
  }
  return required(devices, "result");
}
