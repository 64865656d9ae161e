// DeviceService: reading and watching the inventory.

import type { handleUnaryCall, ServerWritableStream } from "@grpc/grpc-js";
import type { BackendName } from "../broker/device.js";
import type { DeviceView, Inventory, InventoryChange } from "../broker/inventory.js";
import { granted, type Outcome, type Reason, refuse } from "../broker/refusal.js";
import type { DeviceEvent } from "../generated/aperture/v1/DeviceEvent.js";
import type { DeviceServiceHandlers } from "../generated/aperture/v1/DeviceService.js";
import type { GetDeviceRequest__Output } from "../generated/aperture/v1/GetDeviceRequest.js";
import type { ListDevicesRequest__Output } from "../generated/aperture/v1/ListDevicesRequest.js";
import type { WatchDevicesRequest__Output } from "../generated/aperture/v1/WatchDevicesRequest.js";
import type { WatchDevicesResponse } from "../generated/aperture/v1/WatchDevicesResponse.js";
import { EncodedDevices } from "./encoded-devices.js";
import { toGrpcError } from "./status.js";
import { toDevice } from "./translate.js";
import type { Unary } from "./unary.js";
import { type DeviceFilter, pageToken, readAddress, readFilter, readPage } from "./validate.js";

/** Events in one message of a watch. */
const BATCH = 100;

export interface DeviceServiceDeps {
  readonly inventory: Inventory;
  readonly backend: BackendName;
  readonly unary: Unary;
  readonly onRefused: (reason: Reason) => void;
  /** Watchers that there may be. */
  readonly maxWatchers: () => number;
}

/** Handlers of encodedDeviceService (encoded-devices.ts). */
interface Handlers {
  readonly ListDevices: handleUnaryCall<ListDevicesRequest__Output, Buffer>;
  readonly GetDevice: handleUnaryCall<GetDeviceRequest__Output, Buffer>;
  readonly WatchDevices: DeviceServiceHandlers["WatchDevices"];
}

export function deviceService({ inventory, backend, unary, onRefused, maxWatchers }: DeviceServiceDeps): Handlers {
  let watchers = 0;
  const encoded = new EncodedDevices(backend);
  return {
    ListDevices: unary((request) => {
      const page = readPage(request);
      if (page.refusal) return page;
      const filter = readFilter(request.filter);
      if (filter.refusal) return filter;
      const rest = inventory.list().filter((view) => view.facts.address > page.value.after && matches(filter.value, view));
      const devices = encoded.fitting(rest.slice(0, page.value.size));
      const last = devices.at(-1);
      const nextPageToken = last && rest.length > devices.length ? pageToken(last.facts.address) : "";
      return granted(encoded.page(devices, nextPageToken));
    }),
    GetDevice: unary((request) => {
      const address = readAddress(request.address, "address");
      if (address.refusal) return address;
      const view = inventory.get(address.value);
      if (view === null) return refuse("DEVICE_NOT_FOUND", `there is no device ${address.value} on this host`, { address: address.value });
      return granted(encoded.response(view));
    }),
    WatchDevices: (call) => {
      const filter = readWatchFilter(call.request);
      if (filter.refusal) {
        onRefused(filter.refusal.reason);
        call.emit("error", toGrpcError(filter.refusal));
        return;
      }
      const most = maxWatchers();
      if (watchers >= most) {
        const { refusal } = refuse("CONNECTION_QUOTA", `${most} watchers are the most`);
        onRefused(refusal.reason);
        call.emit("error", toGrpcError(refusal));
        return;
      }
      watchers += 1;
      const watch = new Watch(call, inventory, backend, filter.value);
      call.once("close", () => {
        watchers -= 1;
        watch.stop();
      });
      watch.start();
    },
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

function matches(filter: DeviceFilter, view: DeviceView): boolean {
  const { facts } = view;
  if (filter.addresses !== null && !filter.addresses.has(facts.address)) return false;
  if (filter.vendorId !== null && filter.vendorId !== facts.vendorId) return false;
  if (filter.deviceId !== null && filter.deviceId !== facts.deviceId) return false;
  return !filter.leasableOnly || (view.state === "FREE" && view.ineligibleReasons.length === 0);
}

/** One watcher. What waits to be sent is one entry a device, so a watcher that does not read costs a bounded amount (grpc-js queues without limit when write()'s answer is ignored). */
class Watch {
  readonly #call: ServerWritableStream<WatchDevicesRequest__Output, WatchDevicesResponse>;
  readonly #inventory: Inventory;
  readonly #backend: BackendName;
  readonly #filter: DeviceFilter;
  readonly #waiting = new Map<string, { readonly kind: "SNAPSHOT" | "CHANGED" | "REMOVED"; readonly view: DeviceView }>();
  #synced = false;
  #flowing = true;
  #scheduled = false;
  #unsubscribe: () => void = () => {};

  constructor(
    call: ServerWritableStream<WatchDevicesRequest__Output, WatchDevicesResponse>,
    inventory: Inventory,
    backend: BackendName,
    filter: DeviceFilter,
  ) {
    this.#call = call;
    this.#inventory = inventory;
    this.#backend = backend;
    this.#filter = filter;
  }

  start(): void {
    for (const view of this.#inventory.list())
      if (matches(this.#filter, view)) this.#waiting.set(view.facts.address, { kind: "SNAPSHOT", view });
    this.#unsubscribe = this.#inventory.subscribe((change) => this.#take(change));
    this.#call.on("drain", () => {
      this.#flowing = true;
      this.#send();
    });
    this.#send();
  }

  stop(): void {
    this.#unsubscribe();
    this.#waiting.clear();
    this.#flowing = false;
  }

  #take(change: InventoryChange): void {
    if (!matches(this.#filter, change.view)) return;
    const { address } = change.view.facts;
    const earlier = this.#waiting.get(address);
    // A device that the watcher has not seen yet stays a SNAPSHOT, with its newest state; one it never saw need not be removed.
    if (earlier?.kind === "SNAPSHOT" && change.kind === "REMOVED") this.#waiting.delete(address);
    else this.#waiting.set(address, { kind: earlier?.kind === "SNAPSHOT" ? "SNAPSHOT" : change.kind, view: change.view });
    this.#schedule();
  }

  /** Changes of one turn of the event loop go out together. */
  #schedule(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    setImmediate(() => {
      this.#scheduled = false;
      this.#send();
    });
  }

  #send(): void {
    while (this.#flowing && (this.#waiting.size > 0 || !this.#synced)) {
      const events: DeviceEvent[] = [];
      for (const [address, { kind, view }] of this.#waiting) {
        if (events.length === BATCH) break;
        this.#waiting.delete(address);
        events.push({ kind: `DEVICE_EVENT_KIND_${kind}`, device: toDevice(view, this.#backend) });
      }
      if (!this.#synced && events.length < BATCH && ![...this.#waiting.values()].some((waiting) => waiting.kind === "SNAPSHOT")) {
        this.#synced = true;
        events.push({ kind: "DEVICE_EVENT_KIND_SYNCED" });
      }
      this.#flowing = this.#call.write({ events, revision: this.#inventory.revision.toString() });
    }
  }
}
