// What Prometheus scrapes: the metrics of metric-table.ts, made and filled.

import { monitorEventLoopDelay } from "node:perf_hooks";
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from "prom-client";
import { CallMetrics } from "./call-metrics.js";
import type { DeviceSeries } from "./device-series.js";
import { type LabelOf, METRICS, type MetricName, type MetricRow } from "./metric-table.js";

// Gauges whose names end in _total; promtool refuses them, and nothing here needs them.
const MISNAMED = ["nodejs_active_handles_total", "nodejs_active_requests_total", "nodejs_active_resources_total"];

/** 50 µs to 60 s: from an ioctl that answers at once to a reset. */
const BUCKETS = [0.00005, 0.00016, 0.0005, 0.0016, 0.005, 0.016, 0.05, 0.16, 0.5, 1.6, 5, 16, 60];

/** What is read at each scrape. */
export interface Gauges {
  readonly devices: DeviceSeries;
  leases(): number;
  connections(): number;
  channels(): number;
  /** Descriptors sent and not acknowledged. */
  inFlight(): number;
  suppressedLines(): number;
}

type NameOf<Type extends MetricRow["type"]> = { [N in MetricName]: (typeof METRICS)[N]["type"] extends Type ? N : never }[MetricName];

export class Metrics {
  readonly #registry = new Registry();
  readonly #devices: DeviceSeries;
  readonly contentType = this.#registry.contentType;
  readonly refusals = this.#counter("aperture_refusals_total");
  readonly leaseEnds = this.#counter("aperture_lease_ends_total");
  readonly leasesGranted = this.#counter("aperture_leases_granted_total");
  readonly leasesReserved = this.#counter("aperture_leases_reserved_total");
  readonly leasesPassedOn = this.#counter("aperture_leases_passed_on_total");
  readonly leaseRecalls = this.#counter("aperture_lease_recalls_total");
  readonly ticketsTaken = this.#counter("aperture_tickets_taken_total");
  readonly hostChanges = this.#counter("aperture_host_changes_total");
  readonly handovers = this.#counter("aperture_handovers_total");
  readonly operations = this.#histogram("aperture_operation_seconds");
  readonly rejections = this.#counter("aperture_peer_rejections_total");
  readonly quarantines = this.#counter("aperture_device_quarantines_total");
  readonly recoveries = this.#counter("aperture_device_recoveries_total");
  readonly faults = this.#counter("aperture_faults_total");
  readonly #reloads = this.#counter("aperture_config_reloads_total");
  readonly #lastReload = this.#gauge("aperture_config_last_reload_successful");
  readonly calls = new CallMetrics({
    started: this.#counter("grpc_server_started_total"),
    handled: this.#counter("grpc_server_handled_total"),
    handling: this.#histogram("grpc_server_handling_seconds"),
    received: this.#counter("grpc_server_msg_received_total"),
    sent: this.#counter("grpc_server_msg_sent_total"),
    watchers: this.#gauge("aperture_watchers"),
  });

  constructor(version: string, backend: string, gauges: Gauges) {
    this.#devices = gauges.devices;
    collectDefaultMetrics({ register: this.#registry });
    for (const name of MISNAMED) this.#registry.removeSingleMetric(name);

    this.#gauge("aperture_build_info").set({ version, backend }, 1);
    this.#lastReload.set(1);
    const { state: states } = METRICS.aperture_devices.labels;
    this.#gauge("aperture_devices", (gauge) => {
      const { byState } = gauges.devices.counts();
      for (const state of states) gauge.set({ state }, byState.get(state.toUpperCase()) ?? 0);
    });
    this.#gauge("aperture_devices_leasable", (gauge) => gauge.set(gauges.devices.counts().leasable));
    this.#gauge("aperture_leases", (gauge) => gauge.set(gauges.leases()));
    this.#gauge("aperture_connections", (gauge) => gauge.set(gauges.connections()));
    this.#gauge("aperture_channels", (gauge) => gauge.set(gauges.channels()));
    this.#gauge("aperture_descriptors_in_flight", (gauge) => gauge.set(gauges.inFlight()));

    this.#counter("aperture_log_lines_suppressed_total", (counter) => {
      counter.reset();
      counter.inc(gauges.suppressedLines());
    });

    const lag = monitorEventLoopDelay({ resolution: 10 });
    lag.enable();
    this.#gauge("aperture_event_loop_lag_seconds", (gauge) => {
      gauge.set(lag.max > 0 ? lag.max / 1e9 : 0);
      lag.reset();
    });
  }

  reload(result: "applied" | "refused"): void {
    this.#reloads.inc({ result });
    this.#lastReload.set(result === "applied" ? 1 : 0);
  }

  /** The whole page, in the text format: in parts, because most of it does not change and is copied by nobody. */
  async page(): Promise<readonly Buffer[]> {
    const text = await this.#registry.metrics();
    return [Buffer.from(`${text}\n`), ...this.#devices.pages()];
  }

  #counter<N extends NameOf<"counter">>(name: N, read: ((counter: Counter<LabelOf<N>>) => void) | null = null): Counter<LabelOf<N>> {
    const counter: Counter<LabelOf<N>> = new Counter<LabelOf<N>>({
      ...this.#configuration(name),
      ...(read === null ? {} : { collect: () => read(counter) }),
    });
    // A series that is there from the start shows its first increase to rate().
    const labels: MetricRow["labels"] = METRICS[name].labels;
    const [[label, values] = [], ...others] = Object.entries(labels);
    if (label !== undefined && others.length === 0 && typeof values === "object")
      for (const value of values) counter.inc({ [label]: value } as Partial<Record<LabelOf<N>, string>>, 0);
    return counter;
  }

  #gauge<N extends NameOf<"gauge">>(name: N, read: ((gauge: Gauge<LabelOf<N>>) => void) | null = null): Gauge<LabelOf<N>> {
    const gauge: Gauge<LabelOf<N>> = new Gauge<LabelOf<N>>({
      ...this.#configuration(name),
      ...(read === null ? {} : { collect: () => read(gauge) }),
    });
    return gauge;
  }

  #histogram<N extends NameOf<"histogram">>(name: N): Histogram<LabelOf<N>> {
    return new Histogram<LabelOf<N>>({ ...this.#configuration(name), buckets: BUCKETS });
  }

  #configuration<N extends MetricName>(name: N): { name: string; help: string; labelNames: LabelOf<N>[]; registers: Registry[] } {
    const { help, unit, labels } = METRICS[name];
    return { name, help: `${help} (${unit})`, labelNames: Object.keys(labels) as LabelOf<N>[], registers: [this.#registry] };
  }
}
