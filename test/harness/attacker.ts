// Connections that are up to no good, and keep their own ends open: what the daemon does about them must not depend on their going away.

import { once } from "node:events";
import { connect, type Socket } from "node:net";

export class Attacker {
  static readonly #open = new Set<Attacker>();
  readonly #socket: Socket;
  readonly #drip: NodeJS.Timeout | null;
  #closedByDaemon = false;

  private constructor(socket: Socket, drip: NodeJS.Timeout | null) {
    this.#socket = socket;
    this.#drip = drip;
    socket.once("end", () => {
      this.#closedByDaemon = true;
    });
    // Reset, or the next byte of a drip after the end: closed as well.
    socket.on("error", () => {
      this.#closedByDaemon = true;
    });
    socket.resume();
    Attacker.#open.add(this);
  }

  /** Connects, says these bytes at once, then those of drip one by one. */
  static async start(
    path: string,
    bytes: Uint8Array,
    drip: { readonly bytes: Uint8Array; readonly everyMs: number } | null = null,
  ): Promise<Attacker> {
    const socket = await connected(path);
    if (bytes.byteLength > 0) socket.write(bytes);
    let at = 0;
    const next = (): void => {
      if (drip === null || at >= drip.bytes.byteLength || socket.destroyed) return;
      socket.write(drip.bytes.subarray(at, at + 1));
      at += 1;
    };
    return new Attacker(socket, drip === null ? null : setInterval(next, drip.everyMs));
  }

  /** For afterEach. */
  static stopAll(): void {
    for (const attacker of Attacker.#open) attacker.stop();
  }

  get closedByDaemon(): boolean {
    return this.#closedByDaemon;
  }

  write(bytes: Uint8Array): void {
    this.#socket.write(bytes);
  }

  stop(): void {
    if (this.#drip) clearInterval(this.#drip);
    this.#socket.destroy();
    Attacker.#open.delete(this);
  }
}

/** Half-open: the end that the daemon sends does not close this side. A full backlog answers EAGAIN: then again. */
async function connected(path: string): Promise<Socket> {
  for (;;) {
    const socket = connect({ path, allowHalfOpen: true });
    try {
      await once(socket, "connect");
      return socket;
    } catch (error) {
      if (!(error instanceof Error && "code" in error && error.code === "EAGAIN")) throw error;
    }
  }
}
