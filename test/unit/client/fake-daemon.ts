// A daemon that does what a test tells it, right or wrong, over real sockets: the real one cannot be made to send a bad offer.

import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Metadata, Server, ServerCredentials, type ServiceError, type sendUnaryData, status } from "@grpc/grpc-js";
import { protoFiles } from "../../../src/client/proto-files.js";
import type { AcquireLeaseRequest__Output } from "../../../src/generated/aperture/v1/AcquireLeaseRequest.js";
import type { Lease } from "../../../src/generated/aperture/v1/Lease.js";
import { native, PollColumn, PollEvent, type Poller, type SysResult } from "../../../src/native.js";

/** What AcquireLease answers; thrown: the call fails with it. */
export type AcquireScript = (request: AcquireLeaseRequest__Output, attempt: number) => Lease | Promise<Lease>;

export const ACK_MS = 250;

export class FakeDaemon {
  readonly socketPath: string;
  /** Counts of the ACK frames that came, in order. */
  readonly acks: number[] = [];
  readonly released: string[] = [];
  /** Open descriptors of this process at each ReleaseLease. */
  readonly openAtRelease: number[] = [];
  acquire: AcquireScript = () => {
    throw refusal(status.INTERNAL, "no script");
  };
  /** What a channel is sent after ATTACH. */
  attachAnswer: () => Uint8Array = attachedFrame;
  attaches = 0;
  #attempts = 0;
  readonly #directory: string;
  readonly #server = new Server();
  readonly #poller: Poller;
  readonly #channels = new Map<number, () => void>();
  #waiters: (() => void)[] = [];

  private constructor() {
    this.#directory = mkdtempSync(join(tmpdir(), "aperture-fake-"));
    this.socketPath = join(this.#directory, "a.sock");
    this.#poller = new native.Poller((count) => this.#poll(count));
    const listener = done(native.listenUnix("seqpacket", this.#directory, "a.sock.channel", 0o600, -1, 8));
    done(this.#poller.addListener(listener[0], 1));
    const { HostService, LeaseService } = protoFiles().aperture.v1;
    this.#server.addService(HostService.service, { GetHostInfo: (_call: object, answer: sendUnaryData<object>) => answer(null, {}) });
    this.#server.addService(LeaseService.service, {
      AcquireLease: (call: { request: AcquireLeaseRequest__Output }, answer: sendUnaryData<object>) =>
        void this.#acquire(call.request, answer),
      ReleaseLease: (call: { request: { leaseId: string } }, answer: sendUnaryData<object>) => {
        this.released.push(call.request.leaseId);
        this.openAtRelease.push(openDescriptors());
        answer(null, { lease: { id: call.request.leaseId, state: "LEASE_STATE_ENDED", endCause: "END_CAUSE_RELEASED" } });
      },
      GetLease: unimplemented,
      ListLeases: unimplemented,
    });
  }

  static async start(): Promise<FakeDaemon> {
    const daemon = new FakeDaemon();
    await new Promise<void>((resolve, reject) => {
      daemon.#server.bindAsync(`unix:${daemon.socketPath}`, ServerCredentials.createInsecure(), (error) =>
        error === null ? resolve() : reject(error),
      );
    });
    return daemon;
  }

  /** Sends a frame on every channel. The descriptors stay the caller's. */
  send(frame: Uint8Array, descriptors: readonly number[] = []): void {
    for (const fd of this.#channels.keys()) done(native.sendFrame(fd, frame, descriptors));
  }

  closeChannels(): void {
    for (const [fd, cancel] of this.#channels) {
      cancel();
      native.closeDescriptor(fd);
    }
    this.#channels.clear();
  }

  /** Waits until that many ACK frames have come. */
  async acked(count: number): Promise<void> {
    while (this.acks.length < count) await new Promise<void>((resolve) => this.#waiters.push(resolve));
  }

  stop(): void {
    this.closeChannels();
    this.#poller.close();
    this.#server.forceShutdown();
    rmSync(this.#directory, { recursive: true });
  }

  async #acquire(request: AcquireLeaseRequest__Output, answer: sendUnaryData<object>): Promise<void> {
    try {
      answer(null, { lease: await this.acquire(request, this.#attempts++) });
    } catch (error) {
      answer(error as ServiceError);
    }
  }

  #poll(count: number): void {
    const { rows } = this.#poller.buffers;
    for (let index = 0; index < count; index++) {
      const row = rows.subarray(index * PollColumn.width, (index + 1) * PollColumn.width);
      const pidfd = row[PollColumn.e] ?? -1;
      if (row[PollColumn.kind] !== PollEvent.accepted) continue;
      if (pidfd >= 0) native.closeDescriptor(pidfd);
      this.#wait(row[PollColumn.a] ?? -1);
    }
  }

  #wait(fd: number): void {
    this.#channels.set(
      fd,
      native.onReadable(fd, () => this.#read(fd)),
    );
  }

  #read(fd: number): void {
    const result = native.receiveFrame(fd, 2048, 32);
    // ECONNRESET: the client closed with an offer unread.
    const frame = result.error?.code === "ECONNRESET" ? new Uint8Array(0) : done(result).frame;
    if (frame.length === 0) {
      this.#channels.delete(fd);
      native.closeDescriptor(fd);
      return;
    }
    this.#wait(fd);
    if (frame[5] === 1) {
      this.attaches++;
      done(native.sendFrame(fd, this.attachAnswer(), []));
    } else {
      this.acks.push(new DataView(frame.buffer, frame.byteOffset).getUint32(32, true));
    }
    for (const wake of this.#waiters.splice(0)) wake();
  }
}

/** A gRPC error with an ErrorInfo of this reason. */
export function refusal(code: status, reason: string): ServiceError {
  const { Status, ErrorInfo } = protoFiles().google.rpc;
  const info = ErrorInfo.serialize({ reason, domain: "aperture", metadata: {} });
  const details = Status.serialize({
    code,
    message: reason,
    details: [{ type_url: "type.googleapis.com/google.rpc.ErrorInfo", value: info }],
  });
  const metadata = new Metadata();
  metadata.set("grpc-status-details-bin", details);
  return Object.assign(new Error(reason), { code, details: reason, metadata });
}

/** A memfd of that many bytes. */
export function memfd(bytes: number): number {
  return done(native.memfdCreate("fake region", BigInt(bytes)));
}

export function closeMemfds(fds: readonly number[]): void {
  for (const fd of fds) native.closeDescriptor(fd);
}

/** Open descriptors of this process. */
export function openDescriptors(): number {
  return readdirSync("/proc/self/fd").length;
}

export function frameOf(type: number, body: Uint8Array): Uint8Array {
  const frame = new Uint8Array(16 + body.length);
  const view = new DataView(frame.buffer);
  view.setUint32(0, 0x52545041, true);
  frame[4] = 1;
  frame[5] = type;
  view.setUint32(8, frame.length, true);
  frame.set(body, 16);
  return frame;
}

export function attachedFrame(): Uint8Array {
  const body = new Uint8Array(32);
  const view = new DataView(body.buffer);
  view.setBigUint64(0, 9n, true);
  view.setUint32(8, 1328, true);
  view.setUint32(12, 32, true);
  view.setUint32(16, ACK_MS, true);
  return frameOf(2, body);
}

export function endedFrame(leaseId: string, cause: number): Uint8Array {
  const body = new Uint8Array(32);
  body.set(uuid(leaseId), 0);
  new DataView(body.buffer).setUint32(16, cause, true);
  return frameOf(5, body);
}

export function goodbyeFrame(reason: string): Uint8Array {
  const body = new Uint8Array(68);
  body.set(Buffer.from(reason, "latin1"), 4);
  return frameOf(6, body);
}

/** An OFFER of region descriptors of one device on the simulated back end. */
export function offerFrame(
  leaseId: string,
  address: string,
  regions: readonly { readonly index: number; readonly size: bigint }[],
): Uint8Array {
  const body = new Uint8Array(32 + 40 * regions.length);
  const view = new DataView(body.buffer);
  body.set(uuid(leaseId), 0);
  view.setUint32(16, regions.length, true);
  body[20] = 1;
  body[21] = 3;
  for (const [position, { index, size }] of regions.entries()) {
    const at = 32 + 40 * position;
    view.setUint16(at, 6, true);
    body[at + 2] = 2;
    view.setUint32(at + 4, index, true);
    body.set(Buffer.from(address, "latin1"), at + 8);
    view.setBigUint64(at + 32, size, true);
  }
  return frameOf(3, body);
}

function uuid(text: string): Uint8Array {
  return Buffer.from(text.replaceAll("-", ""), "hex");
}

function unimplemented(_call: object, answer: sendUnaryData<object>): void {
  answer(refusal(status.UNIMPLEMENTED, "UNIMPLEMENTED"));
}

function done<T>(result: SysResult<T>): T {
  if (result.error !== null) throw new Error(`${result.error.operation}: ${result.error.code}`);
  return result.value;
}
