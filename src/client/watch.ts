// WatchDevices as an async iterable. The stream is read only as fast as the caller asks, so that a slow caller gets the daemon's coalesced
// states instead of a queue that grows here.

import type { ServiceError } from "@grpc/grpc-js";
import type { WatchDevicesResponse__Output } from "../generated/aperture/v1/WatchDevicesResponse.js";
import { decodeEvents } from "./decode.js";
import type { GrpcCalls } from "./grpc-calls.js";
import type { DeviceEvent, DeviceFilter } from "./model.js";
import { protoFiles } from "./proto-files.js";
import { encodeFilter } from "./requests.js";

/** See ApertureClient.watch. */
export async function* watchDevices(
  calls: GrpcCalls,
  filter: DeviceFilter,
  signal: AbortSignal | undefined,
): AsyncGenerator<DeviceEvent, void, undefined> {
  const aborted = (): boolean => signal?.aborted === true;
  if (aborted()) return;
  const method = protoFiles().aperture.v1.DeviceService.service.WatchDevices;
  const stream = calls.stream(method, { filter: encodeFilter(filter) });
  const cancel = (): void => stream.cancel();
  signal?.addEventListener("abort", cancel, { once: true });
  try {
    for await (const batch of stream) yield* decodeEvents(batch as WatchDevicesResponse__Output);
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

function isServiceError(error: unknown): error is ServiceError {
  return error instanceof Error && "code" in error && "metadata" in error;
}
