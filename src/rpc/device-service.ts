// DeviceService: reading and watching the inventory.

import type { handleServerStreamingCall, handleUnaryCall, ServerWritableStream } from "@grpc/grpc-js";
import type { BackendName } from "../broker/device.js";
import type { DeviceView, Inventory, InventoryChange } from "../broker/inventory.js";
import { granted, type Outcome, refuse } from "../broker/refusal.js";
import type { GetDeviceRequest__Output } from "../generated/aperture/v1/GetDeviceRequest.js";
import type { ListDevicesRequest__Output } from "../generated/aperture/v1/ListDevicesRequest.js";
import type { WatchDevicesRequest__Output } from "../generated/aperture/v1/WatchDevicesRequest.js";
import { EncodedDevices } from "./encoded-devices.js";
import { EncodedEvents } from "./encoded-events.js";
import type { Unary } from "./unary.js";
import { type DeviceFilter, pageToken, readAddress, readFilter, readPage } from "./validate.js";
import { CoalescedStream, type WatcherPlaces } from "./watching.js";

export interface DeviceServiceDeps {
  readonly inventory: Inventory;
  readonly backend: BackendName;
  readonly unary: Unary;
  readonly watchers: WatcherPlaces;
}

/** Handlers of encodedDeviceService (encoded-devices.ts). */
interface Handlers {
  readonly ListDevices: handleUnaryCall<ListDevicesRequest__Output, Buffer>;
  readonly GetDevice: handleUnaryCall<GetDeviceRequest__Output, Buffer>;
  readonly WatchDevices: handleServerStreamingCall<WatchDevicesRequest__Output, Buffer>;
}

export function deviceService({ inventory, backend, unary, watchers }: DeviceServiceDeps): Handlers {
  const encoded = new EncodedDevices(backend);
  const events = new EncodedEvents(encoded);
  return {
    ListDevices: unary((request) => {
      const page = readPage(request);
      if (page.refusal) return page;
      const filter = readFilter(request.filter);
      if (filter.refusal) return filter;
      const { after, size } = page.value;
      // One more than asked for tells whether there is another page.
      const found = firstAfter(inventory.list(), after, size + 1, filter.value);
      const devices = encoded.fitting(found.slice(0, size));
      const last = devices.at(-1);
      const nextPageToken = last && found.length > devices.length ? pageToken(last.facts.address) : "";
      return granted(encoded.page(devices, nextPageToken));
    }),
    GetDevice: unary((request) => {
      const address = readAddress(request.address, "address");
      if (address.refusal) return address;
      const view = inventory.get(address.value);
      if (view === null) return refuse("DEVICE_NOT_FOUND", `there is no device ${address.value} on this host`, { address: address.value });
      return granted(encoded.response(view));
    }),
    WatchDevices: (call) =>
      watchers.serve(call, () => {
        const filter = readWatchFilter(call.request);
        return filter.refusal ? filter : granted(watch(call, inventory, events, filter.value));
      }),
  };
}

/** At most so many of the views, which are in order of address, behind that address. What a page costs is its own size, not that of the host. */
function firstAfter(views: readonly DeviceView[], after: string, most: number, filter: DeviceFilter): readonly DeviceView[] {
  let low = 0;
  for (let high = views.length; low < high; ) {
    const middle = (low + high) >> 1;
    if ((views[middle]?.facts.address ?? "") > after) high = middle;
    else low = middle + 1;
  }
  const found: DeviceView[] = [];
  for (let at = low; at < views.length && found.length < most; at += 1) {
    const view = views[at];
    if (view !== undefined && matches(filter, view)) found.push(view);
  }
  return found;
}

/** Starts a watch; the returned function ends it. */
function watch(
  call: ServerWritableStream<WatchDevicesRequest__Output, Buffer>,
  inventory: Inventory,
  encoded: EncodedEvents,
  filter: DeviceFilter,
): () => void {
  const stream = new CoalescedStream<InventoryChange["kind"], DeviceView, Buffer>(call, {
    last: "REMOVED",
    key: ({ facts }) => facts.address,
    message: (batch) => encoded.message(batch, inventory.revision),
  });
  const unsubscribe = inventory.subscribe(({ kind, view }) => {
    if (matches(filter, view)) stream.tell(kind, view);
  });
  const all = inventory.list();
  stream.start(isAll(filter) ? all : all.filter((view) => matches(filter, view)));
  return () => {
    unsubscribe();
    stream.stop();
  };
}

function readWatchFilter(request: WatchDevicesRequest__Output): Outcome<DeviceFilter> {
  const filter = readFilter(request.filter);
  if (filter.refusal === null && filter.value.leasableOnly) {
    const field = "filter.leasable_only";
    return refuse("INVALID_FIELD", `${field}: a watch tells every state, so that none is missed`, { field });
  }
  return filter;
}

/** Nothing is asked of a device. */
function isAll({ addresses, vendorId, deviceId, leasableOnly }: DeviceFilter): boolean {
  return addresses === null && vendorId === null && deviceId === null && !leasableOnly;
}

function matches(filter: DeviceFilter, view: DeviceView): boolean {
  const { facts } = view;
  if (filter.addresses !== null && !filter.addresses.has(facts.address)) return false;
  if (filter.vendorId !== null && filter.vendorId !== facts.vendorId) return false;
  if (filter.deviceId !== null && filter.deviceId !== facts.deviceId) return false;
  return !filter.leasableOnly || (view.state === "FREE" && view.ineligibleReasons.length === 0);
}
