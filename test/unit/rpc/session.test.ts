// Session on a stream made of arrays: what it reads, answers and refuses, step by step.

import assert from "node:assert/strict";
import { EventEmitter } from "node:events";
import { describe, it } from "node:test";
import type { ServerDuplexStream } from "@grpc/grpc-js";
import type { LeaseSession } from "../../../src/broker/lease.js";
import type { Leases } from "../../../src/broker/leases.js";
import { granted, type Outcome } from "../../../src/broker/refusal.js";
import type { SessionRequest__Output } from "../../../src/generated/aperture/v1/SessionRequest.js";
import type { SessionResponse__Output } from "../../../src/generated/aperture/v1/SessionResponse.js";
import type { LeaseCalls } from "../../../src/rpc/lease-calls.js";
import { services } from "../../../src/rpc/protos.js";
import { Session } from "../../../src/rpc/session.js";

class FakeCall extends EventEmitter {
  reading = true;
  /** What write() answers: false is a client that does not read. */
  room = true;
  closed = false;
  readonly answers: SessionResponse__Output[] = [];
  readonly errors: { readonly code: number; readonly details: string }[] = [];

  constructor() {
    super();
    this.on("error", (error: { readonly code: number; readonly details: string }) => this.errors.push(error));
  }
  pause(): void {
    this.reading = false;
  }
  resume(): void {
    this.reading = true;
  }
  write(bytes: Buffer): boolean {
    const answer = services.lease.Session.responseDeserialize(bytes);
    assert.ok(!this.closed, "nothing is written after the end");
    this.answers.push(answer);
    return this.room;
  }
  end(): void {
    this.closed = true;
  }
  getPath(): string {
    return "/aperture.v1.LeaseService/Session";
  }
  say(message: object): void {
    this.emit("data", message as SessionRequest__Output);
  }
}

interface Scene {
  readonly call: FakeCall;
  /** Requests that wait, in order: each is answered by calling it. */
  readonly running: (() => void)[];
  readonly sessionsEnded: LeaseSession[];
  readonly sessionsSeen: (LeaseSession | null)[];
  readonly faults: unknown[];
  stopping: boolean;
}

function scene(): Scene {
  const made: Scene = { call: new FakeCall(), running: [], sessionsEnded: [], sessionsSeen: [], faults: [], stopping: false };
  const later = (): Promise<Outcome<Buffer>> => new Promise((resolve) => made.running.push(() => resolve(granted(Buffer.alloc(0)))));
  const calls = {
    acquire: (_request: object, _peer: null, session: LeaseSession | null) => {
      made.sessionsSeen.push(session);
      return later();
    },
    release: later,
    get: () => {
      throw new Error("a bug");
    },
  };
  const leases = { sessionEnded: (session: LeaseSession) => made.sessionsEnded.push(session) };
  new Session(made.call as unknown as ServerDuplexStream<SessionRequest__Output, Buffer>, {
    calls: calls as unknown as LeaseCalls,
    leases: leases as unknown as Leases,
    limits: { sessionRequests: 8 },
    peer: () => null,
    onFault: (_where, error) => made.faults.push(error),
    onRefused: () => undefined,
    stopping: () => made.stopping,
  }).start();
  return made;
}

const release = (sequence: number): object => ({ sequence: String(sequence), release: { leaseId: "" }, request: "release" });
const OPTIONS = { sequence: "0", options: { endLeases: true }, request: "options" };
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

describe("[pure] a session", () => {
  it("reads no further at as many requests without answer as the limit says, and goes on at one less", async () => {
    const { call, running } = scene();
    for (let i = 0; i < 7; i += 1) call.say(release(i));
    assert.equal(call.reading, true);
    call.say(release(7));
    assert.equal(call.reading, false);
    running.pop()?.();
    await turn();
    assert.equal(call.reading, true);
    const answered = call.answers.map(({ sequence, response }) => [sequence, response]);
    assert.deepEqual(answered, [["7", "release"]], "in whatever order they come");
  });

  it("reads no further while its answers are not read", async () => {
    const { call, running } = scene();
    call.room = false;
    call.say(release(1));
    running.pop()?.();
    await turn();
    assert.equal(call.reading, false);
    call.emit("drain");
    assert.equal(call.reading, true);
  });

  it("takes a sequence again once it was answered, not before", async () => {
    const { call, running } = scene();
    call.say(release(5));
    running.pop()?.();
    await turn();
    call.say(release(5));
    assert.equal(call.errors.length, 0);
    call.say(release(5));
    assert.match(call.errors[0]?.details ?? "", /sequence: 5 is used by a request that is not answered yet/);
    // The end of the stream: what was running is answered to nobody.
    call.closed = true;
    running.pop()?.();
    await turn();
    assert.equal(call.answers.length, 1);
  });

  it("answers what is running after a half-close, then ends", async () => {
    const { call, running } = scene();
    call.say(release(1));
    call.say(release(2));
    call.emit("end");
    running[0]?.();
    await turn();
    assert.equal(call.closed, false);
    running[1]?.();
    await turn();
    assert.deepEqual([call.closed, call.answers.length], [true, 2]);
  });

  it("ends its leases once, however it ends, unless it did not ask for it or the daemon is stopping", async () => {
    for (const how of ["end", "cancelled", "close", "violation"] as const) {
      for (const [asked, stopping] of [
        [true, false],
        [false, false],
        [true, true],
      ]) {
        const s = scene();
        s.stopping = stopping === true;
        if (asked) s.call.say(OPTIONS);
        s.call.say({ sequence: "1", acquire: {}, request: "acquire" });
        s.running[0]?.();
        await turn();
        if (how === "violation") s.call.say({ sequence: "2" });
        else s.call.emit(how);
        s.call.emit("close");
        assert.equal(s.sessionsSeen[0] === null, !asked);
        assert.deepEqual(s.sessionsEnded, asked && !stopping ? [s.sessionsSeen[0]] : [], how);
      }
    }
  });

  it("answers a fault with INTERNAL, tells the log, and goes on", async () => {
    const { call, running, faults } = scene();
    call.say({ sequence: "1", get: { leaseId: "" }, request: "get" });
    await turn();
    assert.equal(call.answers[0]?.error?.code, 13);
    assert.equal(faults.length, 1);
    call.say(release(2));
    running.pop()?.();
    await turn();
    assert.equal(call.answers.length, 2);
  });
});
