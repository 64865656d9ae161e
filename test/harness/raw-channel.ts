// A descriptor channel of the test process itself, frame by frame, so that each can be wrong in its own way.

import { type DaemonFrame, decodeFrame, encodeAck, encodeAttach, encodeShow, type OfferFrame } from "../../src/client/frame.js";
import { OwnedDescriptor } from "../../src/descriptor.js";
import { native, type ReceivedFrame } from "../../src/native.js";
import { until } from "./until.js";

export interface Arrived {
  readonly frame: DaemonFrame;
  readonly descriptors: readonly OwnedDescriptor[];
}

export interface ArrivedOffer {
  readonly frame: OfferFrame;
  readonly descriptors: readonly OwnedDescriptor[];
}

export class RawChannel {
  static readonly #open = new Set<RawChannel>();
  readonly #socket: OwnedDescriptor;
  readonly #received: OwnedDescriptor[] = [];

  private constructor(socket: OwnedDescriptor) {
    this.#socket = socket;
    RawChannel.#open.add(this);
  }

  /** Connects and says nothing. */
  static async connect(grpcSocket: string): Promise<RawChannel> {
    const path = `${grpcSocket}.channel`;
    // A full backlog answers EAGAIN.
    const made = await until(
      `connecting ${path}`,
      () => native.connectSeqpacket(path),
      (result) => result.error?.code !== "EAGAIN",
    );
    if (made.error !== null) throw new Error(`${path}: ${made.error.code}`);
    return new RawChannel(new OwnedDescriptor(made.value, path));
  }

  /** Connects and attaches. */
  static async attached(grpcSocket: string): Promise<{ readonly channel: RawChannel; readonly id: bigint }> {
    const channel = await RawChannel.connect(grpcSocket);
    channel.send(encodeAttach());
    const answer = await channel.next();
    if (answer?.frame.type !== "ATTACHED") throw new Error(`no ATTACHED but ${answer?.frame.type ?? "the end"}`);
    return { channel, id: answer.frame.channel };
  }

  /** For afterEach. */
  static closeAll(): void {
    for (const channel of RawChannel.#open) channel.close();
  }

  /** The socket's number, for a child that is to inherit it. */
  get fd(): number {
    return this.#socket.borrow();
  }

  send(bytes: Uint8Array, descriptors: readonly number[] = []): void {
    const sent = native.sendFrame(this.#socket.borrow(), bytes, descriptors);
    if (sent.error !== null) throw new Error(`the frame was not sent: ${sent.error.code}`);
  }

  show(ticket: Uint8Array): void {
    this.send(encodeShow(ticket));
  }

  acknowledge(leaseId: string, count: number): void {
    this.send(encodeAck(leaseId, count));
  }

  /** The next frame; null at the end. */
  async next(deadlineMs = 10_000): Promise<Arrived | null> {
    const received = await until(
      "a frame",
      () => this.#receive(),
      (result) => result !== "nothing yet",
      deadlineMs,
    );
    if (received === "nothing yet" || received === null) return null;
    const descriptors = received.descriptors.map((fd) => new OwnedDescriptor(fd, "a received descriptor"));
    this.#received.push(...descriptors);
    return { frame: decodeFrame(received.frame), descriptors };
  }

  async offer(): Promise<ArrivedOffer> {
    const arrived = await this.next();
    if (arrived?.frame.type !== "OFFER") throw new Error(`no OFFER but ${arrived?.frame.type ?? "the end"}`);
    return { frame: arrived.frame, descriptors: arrived.descriptors };
  }

  /** Everything until the daemon closes it: the reason of its GOODBYE, null when there was none. */
  async goodbye(deadlineMs = 10_000): Promise<string | null> {
    let reason: string | null = null;
    for (;;) {
      const arrived = await this.next(deadlineMs);
      if (arrived === null) return reason;
      if (arrived.frame.type === "GOODBYE") reason = arrived.frame.reason;
    }
  }

  /** Closes what it was sent, and not itself. */
  drop(): void {
    for (const descriptor of this.#received.splice(0)) descriptor.close();
  }

  close(): void {
    this.drop();
    this.#socket.close();
    RawChannel.#open.delete(this);
  }

  #receive(): ReceivedFrame | "nothing yet" | null {
    const result = native.receiveFrame(this.#socket.borrow(), 4096, 32);
    if (result.error?.code === "EAGAIN") return "nothing yet";
    if (result.error?.code === "ECONNRESET") return null;
    if (result.error !== null) throw new Error(`receiving: ${result.error.code}`);
    return result.value.frame.byteLength === 0 ? null : result.value;
  }
}
