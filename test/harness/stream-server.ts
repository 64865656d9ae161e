// A SOCK_STREAM server that receives descriptors, for tests that play a VMM: it sees exactly what came in which order.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setImmediate as turn } from "node:timers/promises";
import { native, type SysResult } from "../../src/native.js";
import { PollSet } from "../../src/poll-set.js";

export interface StreamPeer {
  /** Sends all of it, or as much as the other side stays for. */
  write(bytes: string | Uint8Array): Promise<void>;
  close(): void;
}

export interface StreamEvents {
  connected?(peer: StreamPeer): void;
  /** descriptors: now the test's. */
  received(peer: StreamPeer, bytes: Buffer, descriptors: readonly number[]): void;
  closed?(peer: StreamPeer): void;
}

export class StreamServer {
  readonly path: string;
  readonly #folder: string;
  readonly #events: StreamEvents;
  readonly #polls: PollSet;
  readonly #peers = new Set<StreamPeer>();

  constructor(events: StreamEvents) {
    this.#folder = mkdtempSync(join(tmpdir(), "aperture-vmm-"));
    this.path = join(this.#folder, "vmm.sock");
    this.#events = events;
    this.#polls = new PollSet((error) => {
      throw error;
    });
    const [fd] = must(native.listenUnix("stream", this.#folder, "vmm.sock", 0o600, -1, 4));
    must(
      this.#polls.listen(fd, {
        accepted: (connection) => {
          if (connection.pidfd >= 0) native.closeDescriptor(connection.pidfd);
          this.#serve(connection.fd);
        },
        starved: () => undefined,
      }),
    );
  }

  stop(): void {
    for (const peer of [...this.#peers]) peer.close();
    this.#polls.close();
    rmSync(this.#folder, { recursive: true, force: true });
  }

  #serve(fd: number): void {
    let open = true;
    let cancel = (): void => undefined;
    const peer: StreamPeer = {
      write: async (content) => {
        const bytes = typeof content === "string" ? Buffer.from(content) : content;
        for (let at = 0; at < bytes.length && open; ) {
          const part = bytes.subarray(at, at + 4096);
          const { error } = native.sendFrame(fd, part, []);
          if (error === null) at += part.length;
          else if (error.code !== "EAGAIN") return;
          else await turn();
        }
      },
      close: () => {
        if (!open) return;
        open = false;
        cancel();
        native.closeDescriptor(fd);
        this.#peers.delete(peer);
        this.#events.closed?.(peer);
      },
    };
    const wait = (): void => {
      cancel = native.onReadable(fd, () => {
        const { value } = native.receiveFrame(fd, 4096, 16);
        if (value === null || value.frame.length === 0) {
          peer.close();
          return;
        }
        this.#events.received(peer, Buffer.from(value.frame), value.descriptors);
        if (open) wait();
      });
    };
    this.#peers.add(peer);
    this.#events.connected?.(peer);
    if (open) wait();
  }
}

function must<T>(result: SysResult<T>): T {
  if (result.error !== null) throw new Error(`${result.error.operation}: ${result.error.code}`);
  return result.value;
}
