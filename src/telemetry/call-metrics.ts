// The gRPC server's metrics, by the names that go-grpc-middleware has made common, so that existing dashboards show this server too. What a method needs is looked up
// once and kept: a call costs a few additions.

import type { Counter, Gauge, Histogram } from "prom-client";
import type { CALL_KINDS } from "./metric-table.js";

type CallLabels = "grpc_type" | "grpc_service" | "grpc_method";
export type CallKind = (typeof CALL_KINDS)[number];

export interface CallMetricSet {
  readonly started: Counter<CallLabels>;
  readonly handled: Counter<CallLabels | "grpc_code">;
  readonly handling: Histogram<CallLabels>;
  readonly received: Counter<CallLabels>;
  readonly sent: Counter<CallLabels>;
  readonly watchers: Gauge<"grpc_method">;
}

interface Method {
  readonly labels: Readonly<Record<CallLabels, string>>;
  readonly started: Counter.Internal;
  readonly handling: Histogram.Internal<CallLabels>;
  readonly received: Counter.Internal;
  readonly sent: Counter.Internal;
  readonly open: Gauge.Internal<"grpc_method"> | null;
  readonly handled: Map<string, Counter.Internal>;
}

/** One call, from its start. */
export interface CallObservation {
  received(): void;
  sent(): void;
  /** code: gRPC status name. */
  ended(code: string, milliseconds: number): void;
}

/** Methods that this server has are known by path; a path beyond that many is none of them. */
const MOST_METHODS = 64;
const UNKNOWN = "unknown";

export class CallMetrics {
  readonly #set: CallMetricSet;
  readonly #methods = new Map<string, Method>();

  constructor(set: CallMetricSet) {
    this.#set = set;
  }

  /** path: /package.Service/Method. */
  begin(path: string, kind: CallKind): CallObservation {
    const method = this.#methods.get(path) ?? this.#add(path, kind);
    method.started.inc();
    method.open?.inc();
    return {
      received: () => method.received.inc(),
      sent: () => method.sent.inc(),
      ended: (code, milliseconds) => {
        let handled = method.handled.get(code);
        if (!handled) {
          handled = this.#set.handled.labels({ ...method.labels, grpc_code: code });
          method.handled.set(code, handled);
        }
        handled.inc();
        method.handling.observe(milliseconds / 1000);
        method.open?.dec();
      },
    };
  }

  #add(path: string, kind: CallKind): Method {
    const known = this.#methods.size < MOST_METHODS;
    const [, service = UNKNOWN, name = UNKNOWN] = known ? path.split("/") : [];
    const labels = { grpc_type: kind, grpc_service: service, grpc_method: name };
    const set = this.#set;
    const method: Method = {
      labels,
      started: set.started.labels(labels),
      handling: set.handling.labels(labels),
      received: set.received.labels(labels),
      sent: set.sent.labels(labels),
      open: kind === "unary" ? null : set.watchers.labels({ grpc_method: name }),
      handled: new Map(),
    };
    if (known) this.#methods.set(path, method);
    return method;
  }
}
