// How many open files of a VFIO character device there are, told by inotify. BIND cannot tell: it succeeds beside a copy that was never bound (drivers/vfio/device_cdev.c
// vfio_df_ioctl_bind_iommufd looks for bound ones). What is counted is open files, not descriptors: a lease has one, however often it was duplicated, sent or inherited,
// and it ends with its last descriptor and mapping.
//
// The count begins when a node is watched, just before we first open it: what others opened before is not in it. Two equal events that come before we read the first are
// one to inotify. Ours do not meet: one lease, probe or proof at a time has a device, and a proof opens read-only, so that its close is another event than a client's.
// With somebody else who opens the node at the same moment the count can be wrong: too low and a copy is missed, too high and the device waits until its driver is bound
// anew (a new node).

import type { Address } from "../broker/device.js";
import type { Observer } from "../broker/ports.js";
import { OwnedDescriptor } from "../descriptor.js";
import type { Native } from "../native.js";
import type { CapabilityTable } from "./capability-table.js";
import { text } from "./failed-call.js";
import type { ReadableSource } from "./uevents.js";

export type FileCalls = Pick<Native, "inotifyCreate" | "inotifyWatch" | "inotifyRead">;

/** sys/inotify.h */
const Mask = { closedWritable: 0x8, closedReadOnly: 0x10, opened: 0x20, lost: 0x4000, over: 0x8000 } as const;

interface Node {
  readonly address: Address;
  count: number;
}

export class OpenFiles {
  readonly #calls: FileCalls;
  readonly #poll: ReadableSource;
  readonly #capabilities: CapabilityTable;
  readonly #observer: Pick<Observer, "fault">;
  readonly #closed: (address: Address) => void;
  #inotify: { readonly descriptor: OwnedDescriptor; readonly watch: number } | null = null;
  readonly #nodes = new Map<number, Node>();

  constructor(deps: {
    calls: FileCalls;
    poll: ReadableSource;
    capabilities: CapabilityTable;
    observer: Pick<Observer, "fault">;
    /** An open file that could write (so no proof's) was closed by its last holder. */
    closed: (address: Address) => void;
  }) {
    this.#calls = deps.calls;
    this.#poll = deps.poll;
    this.#capabilities = deps.capabilities;
    this.#observer = deps.observer;
    this.#closed = deps.closed;
  }

  open(): void {
    const created = this.#calls.inotifyCreate();
    if (created.error !== null) {
      this.#unavailable(text(created.error));
      return;
    }
    const descriptor = new OwnedDescriptor(created.value, "inotify");
    const watch = this.#poll.watchReadable(created.value, () => this.#read());
    if (watch.error !== null) {
      descriptor.close();
      this.#unavailable(text(watch.error));
      return;
    }
    this.#inotify = { descriptor, watch: watch.value };
    this.#capabilities.set("open_count", "AVAILABLE", "inotify counts the open files of each character device");
  }

  close(): void {
    const inotify = this.#inotify;
    this.#inotify = null;
    this.#nodes.clear();
    if (inotify === null) return;
    this.#poll.remove(inotify.watch);
    inotify.descriptor.close();
  }

  /** Counts the node's open files from now on. Before each open of ours: a node that was made anew gets a count of its own. */
  watch(node: string, address: Address): void {
    if (this.#inotify === null) return;
    const watch = this.#calls.inotifyWatch(this.#inotify.descriptor.borrow(), node);
    if (watch.error !== null) {
      // A node that is not there is met, and told, by who opens it.
      if (watch.error.code !== "ENOENT") this.#capabilities.set("open_count", "UNKNOWN", text(watch.error));
      return;
    }
    if (!this.#nodes.has(watch.value)) this.#nodes.set(watch.value, { address, count: 0 });
  }

  /** Open files of the device, as of now; null: nobody counts. */
  count(address: Address): number | null {
    if (this.#inotify === null) return null;
    this.#read();
    const counts = [...this.#nodes.values()].filter((node) => node.address === address).map((node) => node.count);
    return counts.length === 0 ? null : counts.reduce((sum, count) => sum + count, 0);
  }

  #read(): void {
    if (this.#inotify === null) return;
    const events = this.#calls.inotifyRead(this.#inotify.descriptor.borrow());
    if (events.error !== null) {
      this.close();
      this.#observer.fault("host.open-files", new Error(text(events.error)));
      this.#unavailable(text(events.error));
      return;
    }
    for (const { watch, mask } of events.value) this.#take(watch, mask);
  }

  #take(watch: number, mask: number): void {
    if ((mask & Mask.lost) !== 0) {
      // Nothing that was counted holds any more. The counts begin anew, and BIND alone tells until then.
      for (const node of this.#nodes.values()) node.count = 0;
      this.#observer.fault("host.open-files", new Error("the kernel lost events of open files (fs.inotify.max_queued_events)"));
      this.#capabilities.set("open_count", "UNKNOWN", "events were lost: files that were open then are not counted");
      return;
    }
    const node = this.#nodes.get(watch);
    if (node === undefined) return;
    if ((mask & Mask.over) !== 0) {
      this.#nodes.delete(watch);
      return;
    }
    if ((mask & Mask.opened) !== 0) node.count += 1;
    // One that was open before we looked is not in the count.
    else if ((mask & (Mask.closedWritable | Mask.closedReadOnly)) !== 0) node.count = Math.max(0, node.count - 1);
    if ((mask & Mask.closedWritable) !== 0) this.#closed(node.address);
  }

  #unavailable(why: string): void {
    this.#capabilities.set("open_count", "UNAVAILABLE", `${why}: copies of a character device that were never bound cannot be seen`);
  }
}
