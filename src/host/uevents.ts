// Hears what the kernel says of its devices. Where it cannot (another user namespace, a kernel without netlink uevents), that is told as a capability, and the periodic
// scan of the inventory is all there is.

import type { Address } from "../broker/device.js";
import type { HostChange, Observer } from "../broker/ports.js";
import { OwnedDescriptor } from "../descriptor.js";
import type { Native, SysResult } from "../native.js";
import type { CapabilityTable } from "./capability-table.js";
import { text } from "./failed-call.js";
import { parseUevent, touchedBy } from "./uevent.js";

export type UeventCalls = Pick<Native, "ueventsOpen" | "ueventsReceive">;

/** The part of the poll set that the host layer uses. */
export interface ReadableSource {
  watchReadable(fd: number, to: () => void): SysResult<number>;
  remove(id: number): void;
}

export class Uevents {
  readonly #calls: UeventCalls;
  readonly #poll: ReadableSource;
  readonly #capabilities: CapabilityTable;
  readonly #observer: Pick<Observer, "fault">;
  readonly #tell: (change: HostChange) => void;
  /** Messages were lost, and the socket has not been read empty since: until then the kernel drops every message and does not tell it again. */
  #lossy = false;
  #socket: { readonly descriptor: OwnedDescriptor; readonly watch: number } | null = null;

  constructor(deps: {
    calls: UeventCalls;
    poll: ReadableSource;
    capabilities: CapabilityTable;
    observer: Pick<Observer, "fault">;
    /** Called at most once for a batch of messages. */
    tell: (change: HostChange) => void;
  }) {
    this.#calls = deps.calls;
    this.#poll = deps.poll;
    this.#capabilities = deps.capabilities;
    this.#observer = deps.observer;
    this.#tell = deps.tell;
  }

  open(): void {
    const opened = this.#calls.ueventsOpen();
    if (opened.error !== null) {
      this.#unavailable(text(opened.error));
      return;
    }
    const descriptor = new OwnedDescriptor(opened.value, "uevents");
    const watch = this.#poll.watchReadable(opened.value, () => this.#receive());
    if (watch.error !== null) {
      descriptor.close();
      this.#unavailable(text(watch.error));
      return;
    }
    this.#socket = { descriptor, watch: watch.value };
    this.#capabilities.set("uevents", "AVAILABLE", "listening on NETLINK_KOBJECT_UEVENT");
  }

  close(): void {
    const socket = this.#socket;
    this.#socket = null;
    if (socket === null) return;
    this.#poll.remove(socket.watch);
    socket.descriptor.close();
  }

  /** One batch a wake-up: however many come, other work has its turn in between. */
  #receive(): void {
    const socket = this.#socket;
    if (socket === null) return;
    const received = this.#calls.ueventsReceive(socket.descriptor.borrow());
    if (received.error !== null) {
      this.close();
      this.#observer.fault("host.uevents", new Error(text(received.error)));
      this.#unavailable(text(received.error));
      this.#tell({ kind: "ALL" });
      return;
    }
    const touched = new Set<Address>();
    const { messages, lost, drained } = received.value;
    // What was dropped after this reading began is owed a second one.
    let all = lost || (this.#lossy && drained);
    this.#lossy = (this.#lossy || lost) && !drained;
    for (const message of messages) {
      const event = parseUevent(message);
      const addresses = event === null ? [] : touchedBy(event);
      if (addresses === "ALL") all = true;
      else for (const address of addresses) touched.add(address);
    }
    if (all) this.#tell({ kind: "ALL" });
    else if (touched.size > 0) this.#tell({ kind: "DEVICES", addresses: [...touched] });
  }

  #unavailable(why: string): void {
    this.#capabilities.set("uevents", "UNAVAILABLE", `${why}: changes are found by the periodic scan alone`);
  }
}
