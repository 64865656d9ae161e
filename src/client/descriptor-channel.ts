// The client's end of the descriptor channel (docs/PROTOCOL.md): attaches once, then turns incoming frames into offers and ends. Every descriptor
// that arrives has an owner from the line that received it. An offer is answered in the call that read it, because the daemon undoes what is not
// acknowledged in time and nothing that this process still has to do, or to wait for, may use that time up.

import { setTimeout as sleep } from "node:timers/promises";
import { OwnedDescriptor } from "../descriptor.js";
import { native, type ReceivedFrame, type SysResult } from "../native.js";
import { connectionError } from "./connection-diagnosis.js";
import { HandoverError, SystemCallError, unwrap } from "./errors.js";
import {
  type AttachedFrame,
  type DaemonFrame,
  decodeFrame,
  type EndedFrame,
  encodeAck,
  encodeAttach,
  encodeShow,
  FIRST_FRAME,
  type OfferFrame,
  type RecallFrame,
  type RefusedFrame,
} from "./frame.js";

const RETRY_MS = 10;

/** An OFFER with what came with it. */
export interface Offer {
  readonly frame: OfferFrame;
  /** In the frame's order; empty when truncated. Whoever took the offer closes them. */
  readonly descriptors: readonly OwnedDescriptor[];
  /** Not all descriptors arrived (MSG_CTRUNC); those that did are closed. */
  readonly truncated: boolean;
}

/** Who listens to a channel. Called from the event loop, never from inside a call to the channel. */
export interface ChannelListener {
  /**
   * Takes the offer and its descriptors, or returns false: then it is refused. A taken offer is acknowledged when this returns; a truncated one is
   * refused even so, having no descriptors.
   */
  offered(offer: Offer): boolean;
  ended(frame: EndedFrame): void;
  recalled(frame: RecallFrame): void;
  /** The answer to show(), when it gives nothing. */
  refused(frame: RefusedFrame): void;
  /** Once. error tells why: HandoverError with the daemon's GOODBYE reason or CHANNEL_CLOSED. */
  closed(error: HandoverError): void;
}

export class DescriptorChannel {
  readonly #socket: OwnedDescriptor;
  readonly #listener: ChannelListener;
  readonly #facts: AttachedFrame;
  #cancelWait: () => void = () => undefined;
  #goodbye: string | null = null;

  private constructor(socket: OwnedDescriptor, facts: AttachedFrame, listener: ChannelListener) {
    this.#socket = socket;
    this.#facts = facts;
    this.#listener = listener;
    this.#wait();
  }

  /**
   * Connects and attaches. From now on the open channel keeps the process alive, until close().
   * Throws ApertureConnectionError, HandoverError, SystemCallError.
   */
  static async attach(path: string, timeoutMs: number, listener: ChannelListener): Promise<DescriptorChannel> {
    const deadline = Date.now() + timeoutMs;
    const socket = new OwnedDescriptor(await connectBefore(path, deadline), "the descriptor channel");
    try {
      unwrap(native.sendFrame(socket.borrow(), encodeAttach(), []));
      return new DescriptorChannel(socket, await receiveAttached(socket, path, deadline), listener);
    } catch (error) {
      socket.close();
      throw error;
    }
  }

  /** Number of this channel, for AcquireLeaseRequest.channel. */
  get id(): bigint {
    return this.#facts.channel;
  }

  /** The daemon's time for an acknowledgement, milliseconds. */
  get ackMs(): number {
    return this.#facts.ackMs;
  }

  /** Shows a ticket: offered() or refused() follows, or closed(). Throws SystemCallError, RangeError. */
  show(ticket: Uint8Array): void {
    unwrap(native.sendFrame(this.#socket.borrow(), encodeShow(ticket), []));
  }

  /** Twice is harmless. The listener is not told. */
  close(): void {
    this.#cancelWait();
    this.#socket.close();
  }

  #wait(): void {
    this.#cancelWait = native.onReadable(this.#socket.borrow(), () => this.#drain());
  }

  #drain(): void {
    try {
      while (this.#socket.isOpen) {
        const result = native.receiveFrame(this.#socket.borrow(), this.#facts.maxFrame, this.#facts.maxDescriptors);
        if (result.error?.code === "EAGAIN") {
          this.#wait();
          return;
        }
        const received = receivedOf(result);
        if (received === null) throw this.#endOfFile();
        this.#dispatch(received);
      }
    } catch (error) {
      this.#socket.close();
      this.#listener.closed(error instanceof HandoverError ? error : closedBecause(error instanceof Error ? error.message : String(error)));
    }
  }

  #dispatch(received: ReceivedFrame): void {
    const descriptors = received.descriptors.map((number) => new OwnedDescriptor(number, "an offered descriptor"));
    const frame = decodeOrClose(received.frame, descriptors);
    if (frame.type === "OFFER") {
      this.#answer(frame, descriptors, received.truncated);
      return;
    }
    closeAll(descriptors);
    if (frame.type === "ENDED") this.#listener.ended(frame);
    else if (frame.type === "RECALL") this.#listener.recalled(frame);
    else if (frame.type === "REFUSED") this.#listener.refused(frame);
    else if (frame.type === "GOODBYE") this.#goodbye = frame.reason;
  }

  #answer(frame: OfferFrame, descriptors: readonly OwnedDescriptor[], cut: boolean): void {
    const truncated = cut || descriptors.length < frame.entries.length;
    if (truncated) closeAll(descriptors);
    const taken = this.#listener.offered({ frame, descriptors: truncated ? [] : descriptors, truncated });
    if (!taken) closeAll(descriptors);
    const count = taken && !truncated ? descriptors.length : 0;
    const sent = native.sendFrame(this.#socket.borrow(), encodeAck(frame.leaseId, count), []);
    // A daemon that has closed the channel has sent its reason before, which is still to be read.
    if (sent.error?.code !== "EPIPE" && sent.error?.code !== "ECONNRESET") unwrap(sent);
  }

  #endOfFile(): HandoverError {
    if (this.#goodbye === null) return closedBecause("the daemon closed it");
    return new HandoverError(
      this.#goodbye,
      "ABORTED",
      `the daemon closed the descriptor channel: ${this.#goodbye}`,
      `docs/REASONS.md says what ${this.#goodbye} means`,
    );
  }
}

// Nothing here is a last close, which could take as long as a reset: the daemon keeps its copies until an offer is acknowledged.
function closeAll(descriptors: readonly OwnedDescriptor[]): void {
  for (const descriptor of descriptors) descriptor.close();
}

function decodeOrClose(bytes: Uint8Array, descriptors: readonly OwnedDescriptor[]): DaemonFrame {
  try {
    return decodeFrame(bytes);
  } catch (error) {
    closeAll(descriptors);
    throw error;
  }
}

/** null: end of file. */
function receivedOf(result: SysResult<ReceivedFrame>): ReceivedFrame | null {
  if (result.error?.code === "ECONNRESET") return null;
  const received = unwrap(result);
  return received.frame.length === 0 ? null : received;
}

function closedBecause(why: string): HandoverError {
  return new HandoverError(
    "CHANNEL_CLOSED",
    "UNAVAILABLE",
    `the descriptor channel ended: ${why}`,
    "acquire again: a new channel is attached by itself",
  );
}

/** A full backlog answers EAGAIN to a non-blocking connect instead of making it wait. */
async function connectBefore(path: string, deadline: number): Promise<number> {
  for (;;) {
    const result = native.connectSeqpacket(path);
    if (result.error === null) return result.value;
    if (result.error.code !== "EAGAIN" || Date.now() >= deadline) throw connectionError(path, result.error.code);
    await sleep(RETRY_MS);
  }
}

async function receiveAttached(socket: OwnedDescriptor, path: string, deadline: number): Promise<AttachedFrame> {
  for (;;) {
    const result = native.receiveFrame(socket.borrow(), FIRST_FRAME.maxFrame, FIRST_FRAME.maxDescriptors);
    if (result.error?.code === "EAGAIN") {
      if (!(await readableBefore(socket, deadline))) {
        throw new HandoverError("HANDOVER_TIMEOUT", "DEADLINE_EXCEEDED", `the daemon did not answer ATTACH on ${path} in time`);
      }
      continue;
    }
    if (result.error !== null && result.error.code !== "ECONNRESET") throw new SystemCallError(result.error);
    const received = receivedOf(result);
    if (received === null) throw closedBecause("the daemon closed it before ATTACHED");
    closeAll(received.descriptors.map((number) => new OwnedDescriptor(number, "an unexpected descriptor")));
    const frame = decodeFrame(received.frame);
    if (frame.type === "ATTACHED") return frame;
    if (frame.type === "GOODBYE")
      throw new HandoverError(frame.reason, "ABORTED", `the daemon refused the descriptor channel: ${frame.reason}`);
    throw closedBecause(`${frame.type} came before ATTACHED`);
  }
}

function readableBefore(socket: OwnedDescriptor, deadline: number): Promise<boolean> {
  return new Promise((resolve) => {
    const timer = setTimeout(
      () => {
        cancel();
        resolve(false);
      },
      Math.max(0, deadline - Date.now()),
    );
    const cancel = native.onReadable(socket.borrow(), () => {
      clearTimeout(timer);
      resolve(true);
    });
  });
}
