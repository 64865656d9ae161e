// QEMU's control socket: what only the outside of a machine can do, such as plugging a device in and pulling it out.

import { EventEmitter } from "node:events";
import { createConnection, type Socket } from "node:net";
import { createInterface } from "node:readline";

interface Message {
  readonly QMP?: unknown;
  readonly id?: number;
  readonly return?: unknown;
  readonly error?: { readonly class: string; readonly desc: string };
  readonly event?: string;
  readonly data?: unknown;
}

interface Waiter {
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: Error) => void;
}

/** Emits each QMP event under its own name, with its data, for instance DEVICE_DELETED. */
export class Qmp extends EventEmitter {
  readonly #socket: Socket;
  readonly #waiters = new Map<number, Waiter>();
  #lastId = 0;

  private constructor(socket: Socket) {
    super();
    this.#socket = socket;
    const lines = createInterface({ input: socket });
    lines.on("line", (line) => this.#receive(JSON.parse(line) as Message));
    // readline passes the socket's errors on, and a QEMU that quits resets the connection.
    for (const source of [lines, socket]) source.on("error", (error: Error) => this.#giveUp(error));
    socket.on("close", () => this.#giveUp(new Error("QEMU closed its QMP socket")));
  }

  static async connect(path: string): Promise<Qmp> {
    const qmp = new Qmp(createConnection(path));
    await qmp.execute("qmp_capabilities");
    return qmp;
  }

  /** For instance execute("device_add", { driver: "edu", bus: hotplugPort.id, id: "extra" }). */
  execute(command: string, args: Readonly<Record<string, unknown>> = {}): Promise<unknown> {
    this.#lastId += 1;
    const id = this.#lastId;
    return new Promise((resolve, reject) => {
      this.#waiters.set(id, { resolve, reject });
      this.#socket.write(`${JSON.stringify({ execute: command, arguments: args, id })}\n`, (error) => {
        if (error) this.#giveUp(error);
      });
    });
  }

  close(): void {
    this.#socket.end();
  }

  #receive(message: Message): void {
    if (message.event !== undefined) {
      this.emit(message.event, message.data);
      return;
    }
    const waiter = message.id === undefined ? undefined : this.#waiters.get(message.id);
    if (waiter === undefined || message.id === undefined) return;
    this.#waiters.delete(message.id);
    if (message.error !== undefined) waiter.reject(new Error(`QMP: ${message.error.class}: ${message.error.desc}`));
    else waiter.resolve(message.return);
  }

  #giveUp(error: Error): void {
    for (const waiter of this.#waiters.values()) waiter.reject(error);
    this.#waiters.clear();
  }
}
