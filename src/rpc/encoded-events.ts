// Messages of a device watch as bytes, put together from devices that are encoded already (encoded-devices.ts). Watchers are told the same: a message of a snapshot is kept until
// one of its devices changes, and a change, which goes to all of them in one turn of the event loop, until the next. Kept are whole messages:
// the megabytes of a snapshot are not put together again for each watcher.

import type { DeviceView, InventoryChange } from "../broker/inventory.js";
import type { EncodedDevices } from "./encoded-devices.js";
import { services } from "./protos.js";
import type { Batch, Change } from "./watching.js";

type Kind = InventoryChange["kind"];
type Changes = readonly Change<Kind, DeviceView>[];

/** Tags, field number × 8 + wire type, of WatchDevicesResponse.events, DeviceEvent.kind and DeviceEvent.device. */
const [EVENTS, KIND, DEVICE] = [0x0a, 0x08, 0x12];

/** What a message begins with, what it ends with, and both together. */
interface Message {
  readonly events: Buffer;
  readonly rest: Buffer;
  readonly bytes: Buffer;
}

export class EncodedEvents {
  readonly #devices: EncodedDevices;
  readonly #numbers = new Map<Kind | "SNAPSHOT", number>();
  /** By the first device. */
  readonly #snapshots = new WeakMap<DeviceView, { readonly views: readonly DeviceView[]; readonly message: Message }>();
  #lastChanges: { readonly changes: Changes; readonly message: Message } | null = null;
  /** Without SYNCED and with it. */
  readonly #rests = new Map<boolean, { readonly revision: bigint; readonly bytes: Buffer }>();

  constructor(devices: EncodedDevices) {
    this.#devices = devices;
  }

  /** A WatchDevicesResponse. On the wire its fields, and the entries of a repeated one, are one after the other. */
  message({ snapshot, changes, synced }: Batch<Kind, DeviceView>, revision: bigint): Buffer {
    const rest = this.#rest(synced, revision);
    if (snapshot.length === 0) return changes.length === 0 ? rest : this.#changes(changes, rest).bytes;
    if (changes.length === 0) return this.#snapshot(snapshot, rest).bytes;
    return Buffer.concat([this.#snapshot(snapshot, rest).events, this.#changes(changes, rest).events, rest]);
  }

  #rest(synced: boolean, revision: bigint): Buffer {
    const known = this.#rests.get(synced);
    if (known?.revision === revision) return known.bytes;
    const bytes = services.device.WatchDevices.responseSerialize({
      events: synced ? [{ kind: "DEVICE_EVENT_KIND_SYNCED" }] : [],
      revision: revision.toString(),
    });
    this.#rests.set(synced, { revision, bytes });
    return bytes;
  }

  #snapshot(views: readonly DeviceView[], rest: Buffer): Message {
    const [first] = views;
    if (first === undefined) return whole(Buffer.alloc(0), rest);
    const found = this.#snapshots.get(first);
    const known = found && same(found.views, views) ? found.message : null;
    if (known?.rest === rest) return known;
    const message = whole(known?.events ?? this.#events(views.map((view) => ({ kind: "SNAPSHOT", view }))), rest);
    this.#snapshots.set(first, { views, message });
    return message;
  }

  #changes(changes: Changes, rest: Buffer): Message {
    const last = this.#lastChanges;
    const known = last !== null && sameChanges(last.changes, changes) ? last.message : null;
    if (known?.rest === rest) return known;
    const message = whole(known?.events ?? this.#events(changes), rest);
    this.#lastChanges = { changes, message };
    return message;
  }

  /** Entries of WatchDevicesResponse.events. */
  #events(events: readonly Change<Kind | "SNAPSHOT", DeviceView>[]): Buffer {
    // A GetDeviceResponse is its device as field 1, an event has it as field 2: the same bytes after another tag.
    const devices = events.map(({ view }) => this.#devices.response(view));
    const bytes = Buffer.allocUnsafe(devices.reduce((sum, { length }) => sum + 1 + lengthOfLength(2 + length) + 2 + length, 0));
    let at = 0;
    for (const [index, { kind }] of events.entries()) {
      const device = devices[index];
      if (device === undefined) break;
      bytes[at] = EVENTS;
      at = putLength(bytes, at + 1, 2 + device.length);
      bytes[at] = KIND;
      bytes[at + 1] = this.#number(kind);
      bytes.set(device, at + 2);
      bytes[at + 2] = DEVICE;
      at += 2 + device.length;
    }
    return bytes;
  }

  /** The kind's number in proto/, as the codec writes it. */
  #number(kind: Kind | "SNAPSHOT"): number {
    const known = this.#numbers.get(kind);
    if (known !== undefined) return known;
    const number = services.device.WatchDevices.responseSerialize({ events: [{ kind: `DEVICE_EVENT_KIND_${kind}` }] }).at(-1) ?? 0;
    this.#numbers.set(kind, number);
    return number;
  }
}

/** events is a part of bytes: what was made alone is not kept beside it. */
function whole(events: Buffer, rest: Buffer): Message {
  const bytes = Buffer.concat([events, rest]);
  return { events: bytes.subarray(0, events.length), rest, bytes };
}

function same(some: readonly DeviceView[], others: readonly DeviceView[]): boolean {
  return some.length === others.length && some.every((view, index) => view === others[index]);
}

function sameChanges(some: Changes, others: Changes): boolean {
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
