// LeaseService.Session: for clients that lease often. The calls are those of ApertureClient, over one stream.

import type { ClientDuplexStream, ServiceError } from "@grpc/grpc-js";
import type { SessionRequest } from "../generated/aperture/v1/SessionRequest.js";
import type { SessionResponse__Output } from "../generated/aperture/v1/SessionResponse.js";
import { statusError } from "./call-error.js";
import { decodeLease } from "./decode.js";
import { ApertureError } from "./errors.js";
import { type GrpcCalls, required } from "./grpc-calls.js";
import type { HeldLease } from "./held-lease.js";
import type { AcquireOptions, LeaseAcquirer } from "./lease-acquirer.js";
import type { Lease } from "./model.js";
import { protoFiles } from "./proto-files.js";
import type { AcquireTarget } from "./requests.js";

interface Waiting {
  readonly method: string;
  readonly resolve: (answer: SessionResponse__Output) => void;
  readonly reject: (error: ApertureError) => void;
}

/** Made by ApertureClient.session. Everything that waits fails when the stream ends. */
export class LeaseSession {
  /** Settles when the stream is over. Never rejects; error null: it ended by close(). */
  readonly ended: Promise<ApertureError | null>;
  readonly #acquirer: LeaseAcquirer;
  readonly #stream: ClientDuplexStream<SessionRequest, SessionResponse__Output>;
  readonly #waiting = new Map<string, Waiting>();
  #next = 1;
  #over: ApertureError | null = null;

  /** Use ApertureClient.session(). */
  constructor(calls: GrpcCalls, acquirer: LeaseAcquirer, endLeases: boolean) {
    this.#acquirer = acquirer;
    const method = protoFiles().aperture.v1.LeaseService.service.Session;
    this.#stream = calls.duplex(method);
    this.ended = new Promise((resolve) => {
      // "status" follows "error", if there is one.
      this.#stream.on("error", (error: ServiceError) => {
        void calls.failure(method, error, 0).then((failure) => {
          this.#end(failure);
          resolve(failure);
        });
      });
      this.#stream.on("status", ({ code }: { readonly code: number }) => {
        if (code !== 0) return;
        this.#end(new ApertureError({ reason: "CANCELLED", code: "CANCELLED", message: "the session was closed" }));
        resolve(null);
      });
    });
    this.#stream.on("data", (answer: SessionResponse__Output) => this.#take(answer));
    this.#stream.write({ options: { endLeases } });
  }

  /** As ApertureClient.acquire. */
  acquire(target: AcquireTarget, options: AcquireOptions = {}): Promise<HeldLease> {
    return this.#acquirer.acquire(target, options, async (acquire) => {
      const answer = await this.#call("AcquireLease", { acquire });
      return required(answer.acquire ?? null, "lease");
    });
  }

  /** As ApertureClient.release. HeldLease.release goes its own way. */
  async release(leaseId: string): Promise<Lease> {
    const answer = await this.#call("ReleaseLease", { release: { leaseId } });
    return decodeLease(required(answer.release?.lease ?? null, "lease"));
  }

  /** As ApertureClient.lease. */
  async lease(leaseId: string): Promise<Lease> {
    const answer = await this.#call("GetLease", { get: { leaseId } });
    return decodeLease(required(answer.get?.lease ?? null, "lease"));
  }

  /** Says that nothing more will be asked, and waits for what is running. */
  async close(): Promise<void> {
    this.#stream.end();
    await this.ended;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #call(method: string, request: SessionRequest): Promise<SessionResponse__Output> {
    return new Promise((resolve, reject) => {
      if (this.#over !== null) {
        reject(this.#over);
        return;
      }
      const sequence = String(this.#next++);
      this.#waiting.set(sequence, { method, resolve, reject });
      this.#stream.write({ ...request, sequence });
    });
  }

  #take(answer: SessionResponse__Output): void {
    const waiting = this.#waiting.get(answer.sequence);
    this.#waiting.delete(answer.sequence);
    if (answer.error) waiting?.reject(statusError(answer.error, waiting.method));
    else waiting?.resolve(answer);
  }

  #end(error: ApertureError): void {
    this.#over ??= error;
    for (const { reject } of this.#waiting.values()) reject(error);
    this.#waiting.clear();
  }
}
