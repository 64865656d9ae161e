// The gRPC socket. The daemon accepts by itself, so that it knows the process behind each connection and can close one at any time; then it hands the socket to
// grpc-js (createConnectionInjector). grpc-js names a call's peer by the socket's remoteAddress, which for a UNIX socket is undefined: ours carries the key of the connection.

import { Socket } from "node:net";
import type { Peer } from "../broker/ports.js";
import { native } from "../native.js";
import type { Accepted, PollSet } from "../poll-set.js";
import { ConnectionCounter, type ConnectionLimits } from "./admission-control.js";
import type { ConnectedPeer, PeerRefusal, Processes } from "./processes.js";

export interface GrpcListenerLimits extends ConnectionLimits {
  /** Milliseconds from accept to the first call; a connection without one by then is closed. */
  readonly firstCallMs: number;
}

export type ConnectionRejection = PeerRefusal | "CONNECTION_LIMIT" | "NO_FIRST_CALL" | "STARVED";

export interface GrpcListenerDeps {
  readonly pollSet: PollSet;
  readonly processes: Processes;
  readonly limits: GrpcListenerLimits;
  /** Gives the connection to gRPC. */
  readonly inject: (socket: Socket) => void;
  readonly onRejected: (why: ConnectionRejection, pid: number, uid: number) => void;
  readonly onFault: (error: unknown) => void;
}

interface Connection {
  readonly peer: ConnectedPeer;
  readonly socket: Socket;
  firstCallTimer: NodeJS.Timeout | null;
}

export class GrpcListener {
  readonly #deps: GrpcListenerDeps;
  readonly #counter: ConnectionCounter;
  readonly #connections = new Map<string, Connection>();
  #nextKey = 1;
  #listenId: number | null = null;

  constructor(deps: GrpcListenerDeps) {
    this.#deps = deps;
    this.#counter = new ConnectionCounter(deps.limits);
  }

  get connections(): number {
    return this.#counter.total;
  }

  /** Takes the listening socket. */
  listen(fd: number): void {
    const added = this.#deps.pollSet.listen(fd, {
      accepted: (connection) => this.#accept(connection),
      starved: () => this.#deps.onRejected("STARVED", 0, 0),
    });
    if (added.error) throw new Error(`the gRPC socket cannot be polled: ${added.error.operation} ${added.error.code}`);
    this.#listenId = added.value;
  }

  /** Who is behind a call: `key` is what grpc-js calls its peer. null: not one of ours (TCP), or closed meanwhile. */
  peerOf(key: string): Peer | null {
    return this.#connections.get(key)?.peer ?? null;
  }

  /** A call has come over the connection: it is no idle one. */
  called(key: string): void {
    const connection = this.#connections.get(key);
    if (!connection?.firstCallTimer) return;
    clearTimeout(connection.firstCallTimer);
    connection.firstCallTimer = null;
  }

  stopListening(): void {
    if (this.#listenId !== null) this.#deps.pollSet.remove(this.#listenId);
    this.#listenId = null;
  }

  /** Closes what a process left behind when it exited: a child that inherited the socket would keep it, and the place it takes, for as long as it likes. */
  processExited(processId: number): void {
    for (const { peer, socket } of this.#connections.values()) if (peer.processId === processId) socket.destroy();
  }

  /** Closes every connection at once. */
  destroyAll(): void {
    for (const { socket } of this.#connections.values()) socket.destroy();
  }

  #accept(accepted: Accepted): void {
    const { onRejected } = this.#deps;
    const identified = this.#deps.processes.identify(accepted);
    if (identified.refusal !== null) {
      native.closeDescriptor(accepted.fd);
      onRejected(identified.refusal, accepted.pid, accepted.uid);
      return;
    }
    const { peer } = identified;
    const leave = this.#counter.enter(peer.uid);
    if (leave === null) {
      native.closeDescriptor(accepted.fd);
      peer.forget();
      onRejected("CONNECTION_LIMIT", peer.pid, peer.uid);
      return;
    }
    const key = `uds:${this.#nextKey}`;
    this.#nextKey += 1;
    const socket = new Socket({ fd: accepted.fd, readable: true, writable: true });
    Object.defineProperty(socket, "remoteAddress", { value: key });
    const firstCallTimer = setTimeout(() => {
      onRejected("NO_FIRST_CALL", peer.pid, peer.uid);
      // destroy, not end: a peer that does not answer would keep the descriptor for ever.
      socket.destroy();
    }, this.#deps.limits.firstCallMs);
    this.#connections.set(key, { peer, socket, firstCallTimer });
    socket.once("close", () => {
      this.called(key);
      this.#connections.delete(key);
      leave();
      peer.forget();
    });
    socket.on("error", () => socket.destroy());
    try {
      this.#deps.inject(socket);
    } catch (error) {
      socket.destroy();
      this.#deps.onFault(error);
    }
  }
}
