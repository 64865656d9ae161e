// The node:test reporter of the guest: the run as JSON lines (event.ts).

import { release } from "node:os";
import type { TestEvent } from "node:test/reporters";
import { inspect } from "node:util";
import type { Failure, LabEvent, TestEnded } from "./event.js";

interface EndedTest {
  readonly name: string;
  readonly nesting: number;
  readonly skip?: string | boolean;
  readonly todo?: string | boolean;
  readonly details: { readonly duration_ms: number; readonly type?: string };
}

function property(value: unknown, name: string): unknown {
  return typeof value === "object" && value !== null && name in value ? (value as Record<string, unknown>)[name] : undefined;
}

/** A message of the test's own hides the compared values, so they are written below it. */
function fullMessage(error: unknown): string {
  if (!(error instanceof Error)) return typeof error === "string" ? error : inspect(error);
  const lines = [error.message];
  if (property(error, "code") === "ERR_ASSERTION" && property(error, "generatedMessage") === false) {
    lines.push(`expected: ${inspect(property(error, "expected"))}`, `actual: ${inspect(property(error, "actual"))}`);
  }
  if (error.cause !== undefined) lines.push(`caused by: ${fullMessage(error.cause)}`);
  return lines.join("\n");
}

function failureOf(error: Error): Failure {
  // node:test wraps what the test threw.
  const thrown = error.cause ?? error;
  const kind = property(error, "failureType");
  return {
    message: fullMessage(thrown),
    text: inspect(thrown, { depth: 6 }).slice(0, 20_000),
    kind: typeof kind === "string" ? kind : "unknown",
  };
}

function ended(parents: readonly string[], data: EndedTest, failure: Failure | null): TestEnded {
  return {
    type: "test",
    path: [...parents.slice(0, data.nesting), data.name],
    suite: data.details.type === "suite",
    durationMs: data.details.duration_ms,
    skip: data.skip ?? false,
    todo: data.todo ?? false,
    failure,
  };
}

async function* events(source: AsyncIterable<TestEvent>): AsyncGenerator<LabEvent, void> {
  yield { type: "begin", kernel: release(), node: process.version };
  const open: string[] = [];
  let summary = false;
  for await (const event of source) {
    switch (event.type) {
      // "dequeue" comes when a test begins; "start" is held back until the tests before it have been reported.
      case "test:dequeue":
        yield { type: "started", name: event.data.name };
        break;
      case "test:start":
        open[event.data.nesting] = event.data.name;
        break;
      case "test:pass":
        yield ended(open, event.data, null);
        break;
      case "test:fail":
        yield ended(open, event.data, failureOf(event.data.details.error));
        break;
      case "test:plan":
        // The outermost plan comes last; the diagnostics after it are node:test's own totals.
        summary = event.data.nesting === 0;
        break;
      case "test:diagnostic":
        if (!summary) yield { type: "diagnostic", message: event.data.message };
        break;
    }
  }
  yield { type: "end" };
}

export default async function* reporter(source: AsyncIterable<TestEvent>): AsyncGenerator<string, void> {
  for await (const event of events(source)) yield `${JSON.stringify(event)}\n`;
}
