// Watches as async iterables. A stream is read only as fast as the caller asks, so that a slow caller gets the daemon's coalesced states instead of a queue that
// grows here.

import type { WatchDevicesResponse__Output } from "../generated/aperture/v1/WatchDevicesResponse.js";
import type { WatchLeasesResponse__Output } from "../generated/aperture/v1/WatchLeasesResponse.js";
import { decodeEvents, decodeLeaseEvents } from "./decode.js";
import { type GrpcCalls, isServiceError, type Method } from "./grpc-calls.js";
import type { DeviceEvent, DeviceFilter, LeaseEvent } from "./model.js";
import { protoFiles } from "./proto-files.js";
import { encodeFilter } from "./requests.js";

/** See ApertureClient.watch. */
export function watchDevices(
  calls: GrpcCalls,
  filter: DeviceFilter,
  signal: AbortSignal | undefined,
): AsyncGenerator<DeviceEvent, void, undefined> {
  const method = protoFiles().aperture.v1.DeviceService.service.WatchDevices;
  const decode = (batch: unknown): readonly DeviceEvent[] => decodeEvents(batch as WatchDevicesResponse__Output);
  return watched(calls, method, { filter: encodeFilter(filter) }, decode, signal);
}

/** See ApertureClient.watchLeases. */
export function watchLeases(calls: GrpcCalls, signal: AbortSignal | undefined): AsyncGenerator<LeaseEvent, void, undefined> {
  const method = protoFiles().aperture.v1.LeaseService.service.WatchLeases;
  return watched(calls, method, {}, (batch) => decodeLeaseEvents(batch as WatchLeasesResponse__Output), signal);
}

async function* watched<Request, Answer, Event>(
  calls: GrpcCalls,
  method: Method<Request, Answer>,
  request: Request,
  decode: (batch: unknown) => readonly Event[],
  signal: AbortSignal | undefined,
): AsyncGenerator<Event, void, undefined> {
  const aborted = (): boolean => signal?.aborted === true;
  if (aborted()) return;
  const stream = calls.stream(method, request);
  const cancel = (): void => stream.cancel();
  signal?.addEventListener("abort", cancel, { once: true });
  try {
    for await (const batch of stream) yield* decode(batch);
  } catch (error) {
    if (aborted()) return;
    throw isServiceError(error) ? await calls.failure(method, error, 0) : error;
  } finally {
    signal?.removeEventListener("abort", cancel);
    // The caller may have left the loop early: without this the daemon would keep a watcher that nobody reads.
    // Its CANCELLED error has nobody to go to.
    stream.on("error", () => undefined);
    stream.cancel();
  }
}
