// A connection to a VMM's control socket on which descriptors can go along. Node reads and writes it like any other; what Node cannot do, attaching descriptors, is
// one sendmsg of a single byte. One byte is sent whole or not at all, so nothing of a message can be cut off from its descriptors, and the receiver has them before
// it has the rest.

import { Socket } from "node:net";
import { OwnedDescriptor } from "../descriptor.js";
import { native } from "../native.js";
import { PushError } from "./errors.js";

export interface StreamListener {
  data(bytes: Buffer): void;
  /** Once: by the other side, by an error, or by close(). */
  closed(): void;
}

export class DescriptorStream {
  readonly #socket: Socket;
  /** The same open socket as Node's, for sendmsg. */
  readonly #sender: OwnedDescriptor;

  private constructor(socket: Socket, sender: OwnedDescriptor, listener: StreamListener) {
    this.#socket = socket;
    this.#sender = sender;
    socket.on("data", (bytes) => listener.data(bytes));
    socket.on("error", () => undefined);
    socket.on("close", () => {
      sender.close();
      listener.closed();
    });
  }

  /** Throws PushError VMM_UNREACHABLE, VMM_SILENT. */
  static connect(path: string, listener: StreamListener): DescriptorStream {
    const connected = native.connectStream(path);
    if (connected.error !== null) throw cannotConnect(path, connected.error.code);
    const own = new OwnedDescriptor(connected.value, `the connection to ${path}`);
    const copy = native.duplicate(own.borrow());
    if (copy.error !== null) {
      own.close();
      throw cannotConnect(path, copy.error.code);
    }
    const sender = new OwnedDescriptor(copy.value, `the connection to ${path}`);
    return new DescriptorStream(new Socket({ fd: own.take(), readable: true, writable: true }), sender, listener);
  }

  /** Sends text of one byte and more, the descriptors with its first byte. They stay the caller's. Throws PushError VMM_GONE, VMM_SILENT. */
  send(text: string, descriptors: readonly number[]): void {
    const bytes = Buffer.from(text, "utf8");
    if (descriptors.length === 0) {
      this.#socket.write(bytes);
      return;
    }
    // Bytes that Node still keeps would come after the one that is sent here.
    if (this.#socket.writableLength > 0) throw new PushError("VMM_SILENT", "the VMM does not read what it was sent before");
    if (!this.#sender.isOpen) throw new PushError("VMM_GONE", "the VMM has closed its socket");
    const { error } = native.sendFrame(this.#sender.borrow(), bytes.subarray(0, 1), descriptors);
    if (error?.code === "EAGAIN") throw new PushError("VMM_SILENT", "the VMM does not read what it was sent before");
    if (error !== null) throw new PushError("VMM_GONE", `the VMM's socket takes no descriptors: ${error.code}`);
    this.#socket.write(bytes.subarray(1));
  }

  /** Twice is harmless. */
  close(): void {
    this.#sender.close();
    this.#socket.destroy();
  }
}

function cannotConnect(path: string, code: string): PushError {
  if (code === "EAGAIN")
    return new PushError("VMM_SILENT", `${path} has more clients waiting than it takes`, "end the other clients of this socket");
  const denied = code === "EACCES" || code === "EPERM";
  return new PushError(
    "VMM_UNREACHABLE",
    `cannot connect to the VMM's socket ${path}: ${code}`,
    denied ? "run this as a user who may open the socket" : "start the VMM first, with a control socket at this path",
    denied ? "PERMISSION_DENIED" : "UNAVAILABLE",
  );
}
