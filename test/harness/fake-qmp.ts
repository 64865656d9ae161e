// A QEMU as far as its QMP socket goes, with QEMU's own rules for descriptors: one waits at the socket until getfd names it, and is dropped when another comes; a name is used up by the
// command that takes it; device_add closes what it was given when it fails. What it holds is told by inode.

import { fstatSync } from "node:fs";
import { native } from "../../src/native.js";
import { type StreamPeer, StreamServer } from "./stream-server.js";

export interface Command {
  readonly execute: string;
  readonly arguments: Readonly<Record<string, unknown>>;
}

/** "device:inode" of an open file. */
export function identity(fd: number): string {
  const { dev, ino } = fstatSync(fd);
  return `${dev}:${ino}`;
}

export class FakeQmp {
  readonly commands: Command[] = [];
  /** Greeting; null: says nothing. */
  greeting: string | null = JSON.stringify({
    QMP: { version: { qemu: { major: 10, minor: 0, micro: 2 }, package: "" }, capabilities: ["oob"] },
  });
  /** Instead of an answer: this error, by command. */
  readonly refusals = new Map<string, string>();
  /** Refuses, as refusals, before it takes the descriptor: an unknown type of object or device. */
  readonly unknown = new Map<string, string>();
  /** Instead of an answer: these bytes, by command. Empty: nothing at all. */
  readonly instead = new Map<string, string>();
  /** Sent before each answer. */
  between = "";
  /** What the guest does with device_del. */
  guest: "lets go" | "refuses" | "is silent" = "lets go";
  /** Names of iommufds that it was started with. */
  readonly otherObjects: string[] = [];
  /** Ends of connections. */
  closedCount = 0;
  readonly #server: StreamServer;
  readonly #objects = new Map<string, number>();
  readonly #devices = new Map<string, number>();
  readonly #named = new Map<string, number>();
  #waiting: number | null = null;
  #text = "";
  #peer: StreamPeer | null = null;

  constructor() {
    this.#server = new StreamServer({
      connected: (peer) => {
        this.#peer = peer;
        if (this.greeting !== null) void peer.write(`${this.greeting}\r\n`);
      },
      received: (peer, bytes, descriptors) => this.#received(peer, bytes, descriptors),
      closed: () => {
        this.closedCount += 1;
        this.#peer = null;
      },
    });
  }

  get path(): string {
    return this.#server.path;
  }

  /** Names of all commands, in order. */
  get said(): readonly string[] {
    return this.commands.map(({ execute }) => execute);
  }

  /** What it holds: objects, devices, named descriptors, each with the identity of its file. */
  get holds(): Readonly<Record<string, string>> {
    const all = [...this.#objects, ...this.#devices, ...[...this.#named].map(([name, fd]) => [`fd ${name}`, fd] as const)];
    return Object.fromEntries(all.map(([name, fd]) => [name, identity(fd)]));
  }

  /** Sends an event. */
  tell(event: string, data: Readonly<Record<string, unknown>> = {}): void {
    void this.#peer?.write(`${JSON.stringify({ timestamp: { seconds: 1, microseconds: 2 }, event, data })}\r\n`);
  }

  /** The guest lets go of a device by itself. */
  eject(id: string): void {
    this.#drop(this.#devices, id);
    this.tell("DEVICE_DELETED", { device: id, path: `/machine/peripheral/${id}` });
  }

  /** QEMU's process ends. */
  exit(): void {
    this.#peer?.close();
    for (const kept of [this.#objects, this.#devices, this.#named]) for (const name of [...kept.keys()]) this.#drop(kept, name);
    if (this.#waiting !== null) native.closeDescriptor(this.#waiting);
    this.#waiting = null;
  }

  stop(): void {
    this.exit();
    this.#server.stop();
  }

  #drop(kept: Map<string, number>, name: string): boolean {
    const fd = kept.get(name);
    if (fd === undefined) return false;
    native.closeDescriptor(fd);
    return kept.delete(name);
  }

  #received(peer: StreamPeer, bytes: Buffer, descriptors: readonly number[]): void {
    for (const fd of descriptors) {
      if (this.#waiting !== null) native.closeDescriptor(this.#waiting);
      this.#waiting = fd;
    }
    this.#text += bytes.toString("utf8");
    const lines = this.#text.split("\n");
    this.#text = lines.pop() ?? "";
    for (const line of lines) {
      const { id, ...command } = JSON.parse(line) as Command & { readonly id: unknown };
      this.commands.push(command);
      const odd = this.instead.get(command.execute);
      if (odd === undefined) void peer.write(`${this.between}${JSON.stringify({ ...this.#answer(command), id })}\r\n`);
      else if (odd !== "") void peer.write(odd);
    }
  }

  #answer({ execute, arguments: args }: Command): object {
    const refusal = this.refusals.get(execute);
    const error = (desc: string): object => ({ error: { class: "GenericError", desc } });
    const text = (name: string): string => String(args[name]);
    const take = (into: Map<string, number>, id: string): object => {
      const unknown = this.unknown.get(execute);
      if (unknown !== undefined) return error(unknown);
      const fd = this.#named.get(text("fd"));
      if (fd === undefined) return error(`File descriptor named '${text("fd")}' has not been found`);
      this.#named.delete(text("fd"));
      if (refusal !== undefined) {
        native.closeDescriptor(fd);
        return error(refusal);
      }
      into.set(id, fd);
      return { return: {} };
    };
    switch (execute) {
      case "qmp_capabilities":
        return refusal === undefined ? { return: {} } : error(refusal);
      case "qom-list":
        return {
          return: [
            { name: "type", type: "string" },
            { name: "ram0", type: "child<memory-backend-ram>" },
            ...[...this.#objects.keys(), ...this.otherObjects].map((name) => ({ name, type: "child<iommufd>" })),
          ],
        };
      case "getfd":
        if (refusal !== undefined) return error(refusal);
        if (this.#waiting === null) return error("No file descriptor supplied via SCM_RIGHTS");
        this.#named.set(text("fdname"), this.#waiting);
        this.#waiting = null;
        return { return: {} };
      case "object-add":
        return take(this.#objects, text("id"));
      case "device_add":
        if (!this.#objects.has(text("iommufd")) && !this.otherObjects.includes(text("iommufd")))
          return error(`Device '${text("iommufd")}' not found`);
        return take(this.#devices, text("id"));
      case "closefd":
        return this.#drop(this.#named, text("fdname")) ? { return: {} } : error(`File descriptor named '${text("fdname")}' not found`);
      case "object-del":
        if (this.#devices.size > 0) return error(`object '${text("id")}' is in use, can not be deleted`);
        return this.#drop(this.#objects, text("id")) ? { return: {} } : error("object not found");
      case "device_del": {
        if (refusal !== undefined) return error(refusal);
        const id = text("id");
        if (!this.#devices.has(id)) return error(`Device '${id}' not found`);
        if (this.guest === "lets go") setImmediate(() => this.eject(id));
        else if (this.guest === "refuses") setImmediate(() => this.tell("DEVICE_UNPLUG_GUEST_ERROR", { device: id, path: "" }));
        return { return: {} };
      }
      default:
        return { error: { class: "CommandNotFound", desc: `The command ${execute} has not been found` } };
    }
  }
}
