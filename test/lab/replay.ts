// Turns the results of a guest into ordinary node:test results of this process, one by one as they arrive, so that the lab ends with Node's own
// totals and exit status. Whatever kept results from arriving is a failing test too: no way of not running looks like a pass.

import { test } from "node:test";
import type { World } from "./devices.js";
import type { Failure, LabEvent, TestEnded } from "./event.js";
import type { GuestEnd } from "./guest.js";

// Node 20 reports a test that --test-name-pattern leaves out as skipped with this reason.
const filteredOut = "test name does not match pattern";

const kernelComplaint = /WARNING: |BUG: |Oops|general protection fault|blocked for more than|refcount_t/;

function guestError(failure: Failure): Error {
  const error = new Error(failure.message);
  error.stack = failure.text;
  return error;
}

function lastLines(title: string, text: string, count: number): string {
  return text.trim() === "" ? `${title}: empty` : `${title}:\n${text.trimEnd().split("\n").slice(-count).join("\n")}`;
}

function fail(message: string): never {
  const error = new Error(message);
  error.stack = message;
  throw error;
}

export class Replay {
  readonly #world: World;
  readonly #begin = performance.now();
  #prefix: string;
  #booted: number | null = null;
  #lastStarted: string | null = null;
  #complete = false;
  #tests = 0;
  #anyFailed = false;
  // Held back until the next event, because its diagnostics follow it.
  #pending: { readonly event: TestEnded; readonly diagnostics: string[] } | null = null;

  constructor(world: World) {
    this.#world = world;
    this.#prefix = world;
  }

  accept(event: LabEvent): void {
    switch (event.type) {
      case "begin":
        this.#prefix = `${event.kernel} ${this.#world}`;
        this.#booted = (performance.now() - this.#begin) / 1000;
        break;
      case "started":
        this.#lastStarted = event.name;
        break;
      case "test":
        this.#flush();
        this.#pending = { event, diagnostics: [] };
        break;
      case "diagnostic":
        this.#pending?.diagnostics.push(event.message);
        break;
      case "end":
        this.#complete = true;
        break;
    }
  }

  /** The tests that are about the run itself. */
  finish(end: GuestEnd): void {
    this.#flush();
    const booted = this.#booted;
    void test(this.#title(["the run ended and every result arrived"]), (t) => {
      const reached = booted === null ? "the tests did not start" : `the tests began after ${booted.toFixed(1)} s`;
      t.diagnostic(`${end.seconds.toFixed(1)} s for ${this.#tests} tests; ${reached}`);
      // A test that failed may have had a daemon of its own, whose log is here.
      if (this.#anyFailed) for (const line of lastLines("the guest printed", end.output, 60).split("\n")) t.diagnostic(line);
      const problem = this.#problem(end);
      if (problem !== null)
        fail([problem, lastLines("the guest printed", end.output, 60), lastLines("its console", end.console, 40)].join("\n\n"));
    });
    if (end.status === null) return;
    void test(this.#title(["the kernel had nothing to complain about"]), () => {
      const lines = end.kernelLog.split("\n");
      const first = lines.findIndex((line) => kernelComplaint.test(line));
      if (first >= 0) fail(lines.slice(Math.max(0, first - 5), first + 40).join("\n"));
    });
  }

  #problem(end: GuestEnd): string | null {
    const where = this.#lastStarted === null ? "no test had begun" : `the last test to begin was "${this.#lastStarted}"`;
    if (end.trouble !== null) return `${end.trouble}; ${where}`;
    if (!this.#complete) return `the guest's command ended with status ${end.status} before the test run was over; ${where}`;
    if (this.#tests === 0) return "no test ran";
    // Node's status is 1 for failed tests, which are reported as such, and something else for everything that is not.
    if (end.status !== 0 && end.status !== 1) return `Node ended with status ${end.status} in the guest`;
    if (end.status === 1 && !this.#anyFailed) return "Node ended with status 1 in the guest, with no failed test to explain it";
    return null;
  }

  #title(path: readonly string[]): string {
    return [this.#prefix, ...path].join(" › ");
  }

  #flush(): void {
    if (this.#pending === null) return;
    const { event, diagnostics } = this.#pending;
    this.#pending = null;
    const { failure, skip, todo } = event;
    if (skip === filteredOut) return;
    // node:test counts no suite as a test, and neither do we; but a suite can fail by itself, in a hook.
    if (event.suite && (failure === null || failure.kind === "subtestsFailed")) return;
    this.#tests += 1;
    if (failure !== null && todo === false) this.#anyFailed = true;
    void test(this.#title(event.path), { skip, todo }, (t) => {
      for (const line of diagnostics) t.diagnostic(line);
      if (event.durationMs >= 1000) t.diagnostic(`${(event.durationMs / 1000).toFixed(1)} s in the guest`);
      if (failure !== null) throw guestError(failure);
    });
  }
}
