// Messages of a device watch as bytes, put together from devices that are encoded already (encoded-devices.ts). A change is told to all watchers in one turn of the event
// loop: the message made last is kept, so that it is made once for all of them.

import type { DeviceView, InventoryChange } from "../broker/inventory.js";
import type { EncodedDevices } from "./encoded-devices.js";
import { services } from "./protos.js";

export type EncodedEventKind = InventoryChange["kind"] | "SNAPSHOT" | "SYNCED";

export interface EncodedEvent {
  readonly kind: EncodedEventKind;
  /** null for SYNCED. */
  readonly view: DeviceView | null;
}

/** Tags, field number × 8 + wire type, of WatchDevicesResponse.events, DeviceEvent.kind and DeviceEvent.device. */
const [EVENTS, KIND, DEVICE] = [0x0a, 0x08, 0x12];
const NO_DEVICE = Buffer.alloc(0);

export class EncodedEvents {
  readonly #devices: EncodedDevices;
  readonly #numbers = new Map<EncodedEventKind, number>();
  #last: { readonly events: readonly EncodedEvent[]; readonly revision: bigint; readonly bytes: Buffer } | null = null;

  constructor(devices: EncodedDevices) {
    this.#devices = devices;
  }

  /** A WatchDevicesResponse. */
  message(events: readonly EncodedEvent[], revision: bigint): Buffer {
    if (this.#last?.revision === revision && same(this.#last.events, events)) return this.#last.bytes;
    const bytes = this.#made(events, revision);
    this.#last = { events, revision, bytes };
    return bytes;
  }

  #made(events: readonly EncodedEvent[], revision: bigint): Buffer {
    const tail = services.device.WatchDevices.responseSerialize({ revision: revision.toString() });
    // A GetDeviceResponse is its device as field 1, an event has it as field 2: the same bytes after another tag.
    const devices = events.map(({ view }) => (view === null ? NO_DEVICE : this.#devices.response(view)));
    let length = tail.length;
    for (const device of devices) length += 1 + lengthOfLength(2 + device.length) + 2 + device.length;
    const bytes = Buffer.allocUnsafe(length);
    let at = 0;
    for (const [index, device] of devices.entries()) {
      bytes[at] = EVENTS;
      at = putLength(bytes, at + 1, 2 + device.length);
      bytes[at] = KIND;
      bytes[at + 1] = this.#number(events[index]?.kind ?? "SYNCED");
      at += 2;
      if (device.length === 0) continue;
      bytes.set(device, at);
      bytes[at] = DEVICE;
      at += device.length;
    }
    bytes.set(tail, at);
    return bytes;
  }

  /** The kind's number in proto/, as the codec writes it. */
  #number(kind: EncodedEventKind): number {
    const known = this.#numbers.get(kind);
    if (known !== undefined) return known;
    const number = services.device.WatchDevices.responseSerialize({ events: [{ kind: `DEVICE_EVENT_KIND_${kind}` }] }).at(-1) ?? 0;
    this.#numbers.set(kind, number);
    return number;
  }
}

function same(some: readonly EncodedEvent[], others: readonly EncodedEvent[]): boolean {
  return (
    some.length === others.length && some.every(({ kind, view }, index) => kind === others[index]?.kind && view === others[index]?.view)
  );
}

/** Bytes that a length takes on the wire: seven bits in each. */
function lengthOfLength(length: number): number {
  let bytes = 1;
  for (let rest = length; rest > 0x7f; rest >>>= 7) bytes += 1;
  return bytes;
}

function putLength(target: Buffer, from: number, length: number): number {
  let at = from;
  let rest = length;
  for (; rest > 0x7f; rest >>>= 7) {
    target[at] = (rest & 0x7f) | 0x80;
    at += 1;
  }
  target[at] = rest;
  return at + 1;
}
