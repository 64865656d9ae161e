// A QMP client: greeting, capabilities, one command at a time, events, and a time limit for everything. Complete for what is done here and no more: no out-of-band
// commands, no fd sets (vfio-pci and iommufd take neither). There is no well-kept QMP library for Node that can send descriptors.

import { DescriptorStream } from "./descriptor-stream.js";
import { PushError } from "./errors.js";
import { parseQmp, type QemuVersion, type QmpMessage, QmpSplitter } from "./qmp-messages.js";

/** -object iommufd,fd= and -device vfio-pci,fd= came with QEMU 9.0 (commits 6e6d8ac6, da3e04b2). */
const OLDEST_MAJOR = 9;

export interface QmpEvent {
  readonly name: string;
  readonly data: Readonly<Record<string, unknown>>;
}

/** What a command can be given besides its arguments. */
export interface QmpCommandOptions {
  /** Sent with it (SCM_RIGHTS); stays the caller's. */
  readonly descriptor?: number;
  /** Milliseconds; default: answerMs of the connection. */
  readonly timeoutMs?: number;
}

/** What the greeting is waited for under: no answer can have it for its id. */
const GREETING = Symbol("greeting");

interface Waiter {
  readonly id: number | typeof GREETING;
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: PushError) => void;
  readonly timer: NodeJS.Timeout;
}

export class QmpConnection {
  readonly #path: string;
  readonly #answerMs: number;
  readonly #splitter = new QmpSplitter();
  readonly #listeners = new Set<(event: QmpEvent) => void>();
  readonly #stream: DescriptorStream;
  /** Settles when the connection is over, with why. Never rejects. */
  readonly closed: Promise<PushError>;
  #settleClosed: (why: PushError) => void = () => undefined;
  #why: PushError | null = null;
  #waiter: Waiter | null = null;
  #lastId = 0;

  private constructor(path: string, answerMs: number) {
    this.#path = path;
    this.#answerMs = answerMs;
    this.closed = new Promise((resolve) => {
      this.#settleClosed = resolve;
    });
    this.#stream = DescriptorStream.connect(path, {
      data: (bytes) => this.#received(bytes),
      closed: () => this.#end(new PushError("VMM_GONE", `QEMU closed its QMP socket ${path}`)),
    });
  }

  /** Connects, waits for the greeting and leaves the negotiation. Throws PushError VMM_UNREACHABLE, VMM_SILENT, VMM_PROTOCOL, VMM_TOO_OLD, VMM_GONE. */
  static async open(path: string, answerMs: number): Promise<QmpConnection> {
    const connection = new QmpConnection(path, answerMs);
    try {
      const { major, minor, micro } = (await connection.#wait(GREETING, "its greeting", answerMs)) as QemuVersion;
      if (major < OLDEST_MAJOR)
        throw new PushError(
          "VMM_TOO_OLD",
          `this is QEMU ${major}.${minor}.${micro}; devices are given by descriptor from ${OLDEST_MAJOR}.0 on`,
          `run the VM with QEMU ${OLDEST_MAJOR}.0 or later`,
        );
      await connection.execute("qmp_capabilities");
      return connection;
    } catch (error) {
      connection.close();
      throw error;
    }
  }

  /**
   * One command; the next one after its answer. Throws PushError VMM_REFUSED with QEMU's own words, VMM_SILENT (the connection is then over: an answer that comes late could
   * be taken for another's), VMM_PROTOCOL, VMM_GONE.
   */
  async execute(command: string, args: Readonly<Record<string, unknown>> = {}, options: QmpCommandOptions = {}): Promise<unknown> {
    if (this.#waiter !== null) throw new Error(`${command} while another command waits for its answer`);
    if (this.#why !== null) throw this.#why;
    this.#lastId += 1;
    const id = this.#lastId;
    const answer = this.#wait(id, `an answer to ${command}`, options.timeoutMs ?? this.#answerMs);
    try {
      const text = `${JSON.stringify({ execute: command, arguments: args, id })}\n`;
      this.#stream.send(text, options.descriptor === undefined ? [] : [options.descriptor]);
    } catch (error) {
      this.#end(error instanceof PushError ? error : new PushError("VMM_GONE", String(error)));
    }
    try {
      return await answer;
    } catch (error) {
      if (error instanceof PushError && error.reason === "VMM_REFUSED")
        throw new PushError("VMM_REFUSED", `QEMU refused ${command}: ${error.message}`, error.next);
      throw error;
    }
  }

  /** Calls back on every event; the returned function ends that. */
  onEvent(listener: (event: QmpEvent) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Twice is harmless. */
  close(): void {
    this.#end(new PushError("VMM_GONE", "the connection was closed on this side"));
  }

  #wait(id: Waiter["id"], what: string, timeoutMs: number): Promise<unknown> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(
        () =>
          this.#end(
            new PushError(
              "VMM_SILENT",
              `${this.#path} did not send ${what} within ${timeoutMs / 1000} s`,
              id === GREETING ? "a QMP socket serves one client at a time: give Aperture a monitor of its own (a second -qmp)" : null,
            ),
          ),
        timeoutMs,
      );
      this.#waiter = { id, resolve, reject, timer };
    });
  }

  #received(bytes: Buffer): void {
    try {
      for (const text of this.#splitter.push(bytes)) this.#dispatch(parseQmp(text));
    } catch (error) {
      this.#end(error instanceof PushError ? error : new PushError("VMM_PROTOCOL", String(error)));
    }
  }

  #dispatch(message: QmpMessage): void {
    if (this.#why !== null) return;
    if (message.type === "event") {
      for (const listener of [...this.#listeners]) listener(message);
      return;
    }
    const waiter = this.#waiter;
    const wanted: unknown = message.type === "greeting" ? GREETING : message.id;
    if (waiter === null || waiter.id !== wanted) {
      // An error without an id: QEMU could not read what it was sent.
      const told = message.type === "error" ? `: ${message.description}` : "";
      throw new PushError("VMM_PROTOCOL", `the VMM's socket sent a ${message.type} that nobody asked for${told}`);
    }
    this.#waiter = null;
    clearTimeout(waiter.timer);
    if (message.type === "error") waiter.reject(new PushError("VMM_REFUSED", message.description));
    else waiter.resolve(message.type === "greeting" ? message.version : message.value);
  }

  #end(why: PushError): void {
    if (this.#why !== null) return;
    this.#why = why;
    const waiter = this.#waiter;
    this.#waiter = null;
    if (waiter !== null) {
      clearTimeout(waiter.timer);
      waiter.reject(why);
    }
    this.#stream.close();
    this.#settleClosed(why);
  }
}
