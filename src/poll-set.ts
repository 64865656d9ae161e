// One Poller for the whole daemon, and who is to be told of which event. Listeners, channels and process watches of different layers share it, so that one wake-up of
// the event loop serves all of them.

import { type Native, native, PollColumn, PollEvent, type Poller, type SysResult } from "./native.js";

/** A connection with the facts the kernel gave at accept. The receiver owns both descriptors. */
export interface Accepted {
  readonly fd: number;
  readonly pid: number;
  readonly uid: number;
  readonly gid: number;
  /** -1 when the kernel has no SO_PEERPIDFD. */
  readonly pidfd: number;
}

export interface ListenHandler {
  accepted(connection: Accepted): void;
  /** Want of descriptors or memory: one connection was turned away. */
  starved(errno: number): void;
}

export interface ChannelHandler {
  /** fromPeer: the process that sent it is the one that connected. The bytes are only valid during the call. */
  frame(bytes: Uint8Array, fromPeer: boolean): void;
  /** The channel is closed already; nothing follows. */
  gone(reason: "hangup" | "violation"): void;
}

type Handler =
  | { readonly kind: "listener"; readonly to: ListenHandler }
  | { readonly kind: "channel"; readonly to: ChannelHandler }
  | { readonly kind: "exit"; readonly to: () => void }
  | { readonly kind: "readable"; readonly to: () => void };

export class PollSet {
  readonly #poller: Poller;
  readonly #handlers = new Map<number, Handler>();
  readonly #onFault: (error: unknown) => void;
  /** Views on frames, by row. */
  readonly #frames: Uint8Array[] = [];
  #nextId = 1;

  /** onFault: a handler threw. The batch goes on: one client's fault must not lose another's events. */
  constructor(onFault: (error: unknown) => void, implementation: Pick<Native, "Poller"> = native) {
    this.#onFault = onFault;
    this.#poller = new implementation.Poller((count) => this.#dispatch(count));
  }

  get frameBytes(): number {
    return this.#poller.frameBytes;
  }

  get maxDescriptors(): number {
    return this.#poller.maxDescriptors;
  }

  /** Takes the listening socket. */
  listen(fd: number, to: ListenHandler): SysResult<number> {
    return this.#add({ kind: "listener", to }, (id) => this.#poller.addListener(fd, id));
  }

  /** Takes the connected socket; the pidfd stays the caller's. */
  channel(connection: Accepted, to: ChannelHandler): SysResult<number> {
    return this.#add({ kind: "channel", to }, (id) =>
      this.#poller.addChannel(connection.fd, id, connection.pid, connection.uid, connection.pidfd),
    );
  }

  /** Calls back once when the process has exited; the pidfd stays the caller's. */
  watchExit(pidfd: number, to: () => void): SysResult<number> {
    return this.#add({ kind: "exit", to }, (id) => this.#poller.watchExit(pidfd, id));
  }

  /** Calls back whenever the descriptor is readable, until it has been read; it stays the caller's. */
  watchReadable(fd: number, to: () => void): SysResult<number> {
    return this.#add({ kind: "readable", to }, (id) => this.#poller.watchReadable(fd, id));
  }

  /** Closes a listener or channel, or ends a watch. */
  remove(id: number): void {
    if (this.#handlers.delete(id)) this.#poller.remove(id);
  }

  /** Sends one frame with descriptors, of which the sender keeps its copies. 0, or the errno of sendmsg. */
  send(id: number, frame: Uint8Array, descriptors: readonly number[]): number {
    const { out, outFrames, outDescriptors } = this.#poller.buffers;
    outFrames.set(frame, 0);
    // One by one: for so few, set() costs more in its checks than in its copying.
    for (let i = 0; i < descriptors.length; i += 1) outDescriptors[i] = descriptors[i] ?? -1;
    out[0] = id;
    out[1] = frame.byteLength;
    out[2] = descriptors.length;
    this.#poller.flush(1);
    return out[3] ?? 0;
  }

  close(): void {
    this.#handlers.clear();
    this.#poller.close();
  }

  #add(handler: Handler, register: (id: number) => SysResult<null>): SysResult<number> {
    const id = this.#nextId;
    this.#nextId = (this.#nextId % 0x7fffffff) + 1;
    const result = register(id);
    if (result.error) return result;
    this.#handlers.set(id, handler);
    return { value: id, error: null };
  }

  #dispatch(count: number): void {
    for (let row = 0; row < count; row += 1) {
      try {
        this.#deliver(row);
      } catch (error) {
        this.#onFault(error);
      }
    }
  }

  /** The bytes of a row's frame. Most frames are as long as the one before: the view on them is kept. */
  #frame(row: number, length: number): Uint8Array {
    const kept = this.#frames[row];
    if (kept?.byteLength === length) return kept;
    const begin = row * this.#poller.frameBytes;
    const made = this.#poller.buffers.frames.subarray(begin, begin + length);
    this.#frames[row] = made;
    return made;
  }

  #deliver(row: number): void {
    const { rows } = this.#poller.buffers;
    const begin = row * PollColumn.width;
    const column = (index: number): number => rows[begin + index] ?? 0;
    const id = column(PollColumn.id);
    const handler = this.#handlers.get(id);
    const kind = column(PollColumn.kind);
    if (!handler) {
      // Accepted in the same batch in which its listener was removed: the row carries descriptors that nobody else will close.
      if (kind === PollEvent.accepted)
        for (const fd of [column(PollColumn.a), column(PollColumn.e)]) if (fd >= 0) native.closeDescriptor(fd);
      return;
    }
    if (handler.kind === "listener") {
      if (kind === PollEvent.accepted) {
        handler.to.accepted({
          fd: column(PollColumn.a),
          pid: column(PollColumn.b),
          uid: column(PollColumn.c) >>> 0,
          gid: column(PollColumn.d) >>> 0,
          pidfd: column(PollColumn.e),
        });
      } else if (kind === PollEvent.starved) handler.to.starved(column(PollColumn.a));
      return;
    }
    if (handler.kind === "readable") {
      if (kind === PollEvent.readable) handler.to();
      return;
    }
    if (handler.kind === "exit") {
      this.#handlers.delete(id);
      handler.to();
      return;
    }
    if (kind === PollEvent.frame) {
      handler.to.frame(this.#frame(row, column(PollColumn.a)), column(PollColumn.b) === 1);
      return;
    }
    this.#handlers.delete(id);
    handler.to.gone(kind === PollEvent.violation ? "violation" : "hangup");
  }
}
