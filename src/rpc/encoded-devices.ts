// Devices as bytes. To encode one costs about 0.14 ms (regions, facts, strings), so a list of 10,000 made anew for each caller would stop the event loop for over a
// second. A view is immutable, so each is encoded once, when somebody first asks for it, and lists are put together from the pieces: on the wire
// a repeated field is its entries one after the other, and the parts of a message may stand in any order.

import type { ServiceDefinition } from "@grpc/grpc-js";
import type { BackendName } from "../broker/device.js";
import type { DeviceView } from "../broker/inventory.js";
import { services } from "./protos.js";
import { toDevice } from "./translate.js";

/** gRPC clients refuse messages of more than 4 MiB unless told otherwise. A thousand virtual functions of a few cards, each with its reset set, would be more. */
const PAGE_BYTES = 3 * 1024 * 1024;

export class EncodedDevices {
  readonly #backend: BackendName;
  readonly #responses = new WeakMap<DeviceView, Buffer>();

  constructor(backend: BackendName) {
    this.#backend = backend;
  }

  /** A GetDeviceResponse. Its device is field 1, as the entries of ListDevicesResponse are: the same bytes are one of those. */
  response(view: DeviceView): Buffer {
    const known = this.#responses.get(view);
    if (known) return known;
    const made = services.device.GetDevice.responseSerialize({ device: toDevice(view, this.#backend) });
    this.#responses.set(view, made);
    return made;
  }

  /** As many of the views from the first on as fit into one message; never none, when there is one. */
  fitting(views: readonly DeviceView[]): readonly DeviceView[] {
    let bytes = 0;
    for (const [index, view] of views.entries()) {
      bytes += this.response(view).length;
      if (bytes > PAGE_BYTES && index > 0) return views.slice(0, index);
    }
    return views;
  }

  /** A ListDevicesResponse. */
  page(views: readonly DeviceView[], nextPageToken: string): Buffer {
    const rest = services.device.ListDevices.responseSerialize({ nextPageToken });
    return Buffer.concat([...views.map((view) => this.response(view)), rest]);
  }
}

const asItIs = (bytes: Buffer): Buffer => bytes;

/** DeviceService for the server: answers that hold devices are bytes already. */
export const encodedDeviceService: ServiceDefinition = {
  ...services.device,
  GetDevice: { ...services.device.GetDevice, responseSerialize: asItIs },
  ListDevices: { ...services.device.ListDevices, responseSerialize: asItIs },
  WatchDevices: { ...services.device.WatchDevices, responseSerialize: asItIs },
};
