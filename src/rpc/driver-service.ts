// DriverService: changes of drivers, for the operator.

import type { ServerWritableStream } from "@grpc/grpc-js";
import type { DriverOutcome, DriverStep } from "../broker/driver-control.js";
import type { Leases } from "../broker/leases.js";
import type { Peer } from "../broker/ports.js";
import { granted, type Outcome, refuse } from "../broker/refusal.js";
import type { BindDriverResponse } from "../generated/aperture/v1/BindDriverResponse.js";
import type { DriverServiceHandlers } from "../generated/aperture/v1/DriverService.js";
import type { RestoreDriverResponse } from "../generated/aperture/v1/RestoreDriverResponse.js";
import { internalError, toGrpcError } from "./status.js";
import { requirePeer, type Unary, type UnaryDeps } from "./unary.js";
import { quoted, readAddress, wrong } from "./validate.js";

export interface DriverServiceDeps extends UnaryDeps {
  readonly leases: Leases;
  readonly unary: Unary;
}

type Progress = BindDriverResponse & RestoreDriverResponse;

const DRIVER_NAME = /^[A-Za-z0-9_-]{1,64}$/;

export function driverService({ leases, unary, peerOf, onRefused, onFault }: DriverServiceDeps): DriverServiceHandlers {
  const operator = (caller: Peer | null): Outcome<Peer> => {
    const peer = requirePeer(caller);
    if (peer.refusal || leases.isOperator(peer.value)) return peer;
    return refuse("NOT_OPERATOR", `uid ${peer.value.uid} may not change drivers: that is for root and the daemon's user`);
  };
  /** Tells each step, then the result; a caller that has gone is told nothing, and the change goes on. */
  const serve = <Request>(
    call: ServerWritableStream<Request, Progress>,
    work: (peer: Peer, tell: (step: DriverStep) => void) => Promise<Outcome<readonly DriverOutcome[]>>,
  ): void => {
    const tell = ({ address, action, driver }: DriverStep): void => {
      if (!call.cancelled) call.write({ step: { address, action: `DRIVER_ACTION_${action}`, driver } });
    };
    const answer = async (): Promise<void> => {
      const peer = operator(peerOf(call.getPeer()));
      const outcome = peer.refusal ? peer : await work(peer.value, tell);
      if (outcome.refusal) {
        onRefused(outcome.refusal.reason);
        if (!call.cancelled) call.emit("error", toGrpcError(outcome.refusal));
      } else if (!call.cancelled) {
        const devices = outcome.value.map(({ address, before, driver, changed }) => ({ address, driverBefore: before, driver, changed }));
        call.write({ result: { devices } });
        call.end();
      }
    };
    answer().catch((error: unknown) => {
      onFault(call.getPath(), error);
      if (!call.cancelled) call.emit("error", internalError());
    });
  };
  return {
    BindDriver: (call) =>
      serve(call, async (peer, tell) => {
        const { driver, wholeGroup } = call.request;
        const address = readAddress(call.request.address, "address");
        if (address.refusal) return address;
        if (driver !== "" && !DRIVER_NAME.test(driver)) return wrong("driver", `${quoted(driver)} is no name of a driver`);
        return leases.drivers.bind(peer, { address: address.value, driver: driver === "" ? null : driver, wholeGroup }, tell);
      }),
    RestoreDriver: (call) =>
      serve(call, async (peer, tell) => {
        const address = readAddress(call.request.address, "address");
        return address.refusal ? address : leases.drivers.restore(peer, address.value, tell);
      }),
    SetVirtualFunctions: unary(async (request, caller) => {
      const peer = operator(caller);
      if (peer.refusal) return peer;
      const address = readAddress(request.address, "address");
      if (address.refusal) return address;
      const outcome = await leases.drivers.setVirtualFunctions(peer.value, address.value, request.count);
      return outcome.refusal ? outcome : granted({ addresses: [...outcome.value] });
    }),
  };
}
