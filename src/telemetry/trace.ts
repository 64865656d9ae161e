// traceparent (W3C Trace Context, level 1): the caller's trace, carried into every log record that its call causes, also after the call has been answered.
//
// Carried by AsyncLocalStorage and not from hand to hand: the broker's events come from deep inside (a reset that ends, a retry), and the broker shall know nothing of
// tracing. The storage costs nothing until the first traced call: Node switches its hooks on at the first run(), and callers without a traceparent never get there.

import { AsyncLocalStorage } from "node:async_hooks";

export interface TraceContext {
  /** 32 hexadecimal digits, not all 0. */
  readonly traceId: string;
  /** 16 hexadecimal digits, not all 0: the caller's span. The daemon makes none of its own. */
  readonly spanId: string;
}

const storage = new AsyncLocalStorage<TraceContext>();

/** null: not one valid traceparent. What is not valid is ignored as if it were not there (section 4.3 of the recommendation). */
export function parseTraceparent(values: readonly unknown[]): TraceContext | null {
  const [text] = values;
  if (values.length !== 1 || typeof text !== "string") return null;
  // Later versions may append to these four parts; version 00 may not, and ff is none.
  const match = /^([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(-.*)?$/.exec(text);
  const [, version, traceId, spanId, rest] = match ?? [];
  if (!traceId || !spanId || version === "ff" || (version === "00" && rest !== undefined)) return null;
  if (/^0+$/.test(traceId) || /^0+$/.test(spanId)) return null;
  return { traceId, spanId };
}

/** Runs work, and everything that it starts, in the trace that the values of the metadata key traceparent name; without a valid one just runs it. */
export function inTraceOf(values: readonly unknown[], work: () => void): void {
  const trace = values.length === 0 ? null : parseTraceparent(values);
  if (trace === null) work();
  else storage.run(trace, work);
}

export function currentTrace(): TraceContext | null {
  return storage.getStore() ?? null;
}
