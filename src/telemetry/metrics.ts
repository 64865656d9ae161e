// What Prometheus scrapes. Labels are bounded by the code or by the host's devices × states: never a pid, a lease or a name that a client chose.

import { monitorEventLoopDelay } from "node:perf_hooks";
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from "prom-client";

// Gauges whose names end in _total; promtool refuses them, and nothing here needs them.
const MISNAMED = ["nodejs_active_handles_total", "nodejs_active_requests_total", "nodejs_active_resources_total"];

/** 50 µs to 60 s: from an ioctl that answers at once to a reset. */
const OPERATION_BUCKETS = [0.00005, 0.00016, 0.0005, 0.0016, 0.005, 0.016, 0.05, 0.16, 0.5, 1.6, 5, 16, 60];

export interface Gauges {
  /** Devices by state, and how many of them could be leased. */
  devices(): ReadonlyMap<string, number>;
  leasable(): number;
  leases(): number;
  connections(): number;
  channels(): number;
}

export class Metrics {
  readonly registry = new Registry();
  readonly leaseEnds: Counter<"cause">;
  readonly leaseRefusals: Counter<"reason">;
  readonly leasesGranted: Counter<"kind">;
  readonly handovers: Counter<"result">;
  readonly operations: Histogram<"operation" | "result">;
  readonly rejections: Counter<"reason">;
  readonly quarantines: Counter;
  readonly faults: Counter;
  readonly handled: Counter<"grpc_service" | "grpc_method" | "grpc_code">;
  readonly handling: Histogram<"grpc_service" | "grpc_method">;

  constructor(version: string, backend: string, gauges: Gauges) {
    const registers = [this.registry];
    collectDefaultMetrics({ register: this.registry });
    for (const name of MISNAMED) this.registry.removeSingleMetric(name);

    const info = new Gauge({
      name: "aperture_build_info",
      help: "Always 1; version and back end of this daemon.",
      labelNames: ["version", "backend"],
      registers,
    });
    info.set({ version, backend }, 1);
    new Gauge({
      name: "aperture_devices",
      help: "Devices by their state in the book.",
      labelNames: ["state"],
      registers,
      collect() {
        this.reset();
        for (const [state, count] of gauges.devices()) this.set({ state }, count);
      },
    });
    const single = (name: string, help: string, read: () => number): void => {
      new Gauge({
        ...{ name, help, registers },
        collect() {
          this.set(read());
        },
      });
    };
    single("aperture_devices_leasable", "Devices that are free and could be leased now.", () => gauges.leasable());
    single("aperture_leases", "Leases that have not ended.", () => gauges.leases());
    single("aperture_connections", "gRPC connections on the UNIX socket.", () => gauges.connections());
    single("aperture_channels", "Descriptor channels.", () => gauges.channels());

    this.leasesGranted = new Counter({
      name: "aperture_leases_granted_total",
      help: "Leases whose descriptors were sent.",
      labelNames: ["kind"],
      registers,
    });
    this.leaseRefusals = new Counter({
      name: "aperture_lease_refusals_total",
      help: "AcquireLease calls refused, by reason.",
      labelNames: ["reason"],
      registers,
    });
    this.leaseEnds = new Counter({ name: "aperture_lease_ends_total", help: "Leases ended, by cause.", labelNames: ["cause"], registers });
    this.handovers = new Counter({
      name: "aperture_handovers_total",
      help: "Offers by what became of them.",
      labelNames: ["result"],
      registers,
    });
    this.operations = new Histogram({
      name: "aperture_operation_seconds",
      help: "Time of operations on the host: scan, probe, open, prove, reset.",
      ...{ labelNames: ["operation", "result"] as const, buckets: OPERATION_BUCKETS, registers },
    });
    this.rejections = new Counter({
      name: "aperture_peer_rejections_total",
      help: "Connections and channels closed by the daemon, by reason.",
      ...{ labelNames: ["reason"] as const, registers },
    });
    this.quarantines = new Counter({ name: "aperture_device_quarantines_total", help: "Times that a device was quarantined.", registers });
    this.faults = new Counter({ name: "aperture_faults_total", help: "Faults of the daemon itself; each is in the log.", registers });
    const grpc = ["grpc_service", "grpc_method"] as const;
    this.handled = new Counter({
      name: "grpc_server_handled_total",
      help: "RPCs completed on the server, by status code.",
      ...{ labelNames: [...grpc, "grpc_code"] as const, registers },
    });
    this.handling = new Histogram({
      name: "grpc_server_handling_seconds",
      help: "Time from the start of an RPC to its status.",
      ...{ labelNames: grpc, buckets: OPERATION_BUCKETS, registers },
    });

    const lag = monitorEventLoopDelay({ resolution: 10 });
    lag.enable();
    new Gauge({
      name: "aperture_event_loop_lag_seconds",
      help: "Largest delay of the event loop since the scrape before.",
      registers,
      collect() {
        this.set(lag.max > 0 ? lag.max / 1e9 : 0);
        lag.reset();
      },
    });
  }
}
