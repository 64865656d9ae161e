// LeaseService.Session: many calls over one stream. HTTP/2's stream set-up is what bounds the rate of unary calls in this runtime, and a session pays for it once. The calls
// are the same functions that serve the unary ones.

import { type ServerDuplexStream, status } from "@grpc/grpc-js";
import type { LeaseSession } from "../broker/lease.js";
import type { Leases } from "../broker/leases.js";
import type { Peer } from "../broker/ports.js";
import { type Outcome, type Reason, type Refusal, refuse } from "../broker/refusal.js";
import type { SessionRequest__Output } from "../generated/aperture/v1/SessionRequest.js";
import { type SessionCall, sessionAnswer, sessionError, sessionRefusal } from "./encoded-leases.js";
import type { LeaseCalls } from "./lease-calls.js";
import { internalError, toGrpcError } from "./status.js";

export interface SessionLimits {
  /** Requests of one session that wait for their answers. */
  readonly sessionRequests: number;
}

export interface SessionDeps {
  readonly calls: LeaseCalls;
  readonly leases: Leases;
  readonly limits: SessionLimits;
  /** Asked anew for each request: a process may have exited while its connection lives on in a child. */
  readonly peer: () => Peer | null;
  readonly onFault: (where: string, error: unknown) => void;
  readonly onRefused: (reason: Reason) => void;
  /** The daemon is stopping: leases stay with their holders. */
  readonly stopping: () => boolean;
}

interface Work {
  readonly call: SessionCall;
  readonly answer: () => Promise<Outcome<Buffer>>;
}

type Call = ServerDuplexStream<SessionRequest__Output, Buffer>;

export class Session {
  readonly #call: Call;
  readonly #deps: SessionDeps;
  readonly #unanswered = new Set<string>();
  /** What ends with the stream. null: nothing does. */
  #leases: LeaseSession | null = null;
  #begun = false;
  /** The client has said all. */
  #halfClosed = false;
  #flowing = true;
  #over = false;

  constructor(call: Call, deps: SessionDeps) {
    this.#call = call;
    this.#deps = deps;
  }

  start(): void {
    const call = this.#call;
    call.on("drain", () => {
      this.#flowing = true;
      this.#pace();
    });
    call.once("end", () => {
      this.#halfClosed = true;
      this.#endWhenAnswered();
    });
    for (const event of ["cancelled", "close"]) call.once(event, () => this.#end());
    call.on("data", (request: SessionRequest__Output) => this.#take(request));
  }

  #take(request: SessionRequest__Output): void {
    if (this.#over) return;
    const first = !this.#begun;
    this.#begun = true;
    if (request.request === "options") {
      if (!first) this.#fail("options", "only the first message may be options");
      else if (request.options?.endLeases === true) this.#leases = { leases: new Set(), over: false };
      return;
    }
    const { sequence } = request;
    if (this.#unanswered.has(sequence)) {
      this.#fail("sequence", `${sequence} is used by a request that is not answered yet`);
      return;
    }
    const work = this.#work(request);
    if (work === null) {
      this.#fail("request", `the message of sequence ${sequence} asks for nothing`);
      return;
    }
    this.#unanswered.add(sequence);
    this.#pace();
    void this.#answer(sequence, work);
  }

  #work({ acquire, release, get }: SessionRequest__Output): Work | null {
    const { calls, peer } = this.#deps;
    if (acquire) return { call: "acquire", answer: () => calls.acquire(acquire, peer(), this.#leases) };
    if (release) return { call: "release", answer: () => calls.release(release, peer()) };
    if (get) return { call: "get", answer: async () => calls.get(get, peer()) };
    return null;
  }

  async #answer(sequence: string, { call, answer }: Work): Promise<void> {
    let response: Buffer;
    try {
      const outcome = await answer();
      if (outcome.refusal) this.#deps.onRefused(outcome.refusal.reason);
      response = outcome.refusal ? sessionRefusal(sequence, outcome.refusal) : sessionAnswer(sequence, call, outcome.value);
    } catch (error) {
      this.#deps.onFault(this.#call.getPath(), error);
      response = sessionError(sequence, { code: status.INTERNAL, message: internalError().details, details: [] });
    }
    this.#unanswered.delete(sequence);
    if (this.#over) return;
    this.#flowing = this.#call.write(response);
    this.#pace();
    this.#endWhenAnswered();
  }

  /** Reads no further while too much is unanswered, or the answers are not read. */
  #pace(): void {
    if (this.#flowing && this.#unanswered.size < this.#deps.limits.sessionRequests) this.#call.resume();
    else this.#call.pause();
  }

  #endWhenAnswered(): void {
    if (!this.#halfClosed || this.#unanswered.size > 0 || this.#over) return;
    this.#end();
    this.#call.end();
  }

  #fail(field: string, what: string): void {
    const refusal: Refusal = refuse("INVALID_FIELD", `${field}: ${what}`, { field }).refusal;
    this.#end();
    this.#deps.onRefused(refusal.reason);
    this.#call.emit("error", toGrpcError(refusal));
  }

  #end(): void {
    if (this.#over) return;
    this.#over = true;
    if (this.#leases !== null && !this.#deps.stopping()) this.#deps.leases.sessionEnded(this.#leases);
  }
}
