// Observer of the broker: every event to the log and to the metrics.

import type { Address } from "../broker/device.js";
import type { EndCause, HandoverResult, Observer, Peer } from "../broker/ports.js";
import type { Refusal } from "../broker/refusal.js";
import { LogEvent } from "./events.js";
import type { Log } from "./log.js";
import type { Metrics } from "./metrics.js";

export class TelemetryObserver implements Observer {
  readonly #log: Log;
  /** Set once the metrics exist: they read from parts that report here while they are being made. */
  metrics: Metrics | null = null;

  constructor(log: Log) {
    this.#log = log;
  }

  leaseStateChanged(leaseId: string, from: string, to: string, event: string): void {
    this.#log.write("debug", LogEvent.leaseState, { lease: leaseId, from, to, by: event }, `lease ${from} -> ${to}`);
  }

  leaseGranted(leaseId: string, peer: Peer, addresses: readonly Address[], kind: string): void {
    this.metrics?.leasesGranted.inc({ kind: kind.toLowerCase() });
    this.#log.write(
      "info",
      LogEvent.leaseGranted,
      { lease: leaseId, devices: addresses, kind, pid: peer.pid, uid: peer.uid },
      "lease granted",
    );
  }

  leaseEnded(leaseId: string, cause: EndCause, quarantined: readonly Address[]): void {
    this.metrics?.leaseEnds.inc({ cause: cause.toLowerCase() });
    this.#log.write("info", LogEvent.leaseEnded, { lease: leaseId, cause, quarantined }, "lease ended");
  }

  acquireRefused(peer: Peer, refusal: Refusal): void {
    this.metrics?.leaseRefusals.inc({ reason: refusal.reason });
    const fields = { pid: peer.pid, uid: peer.uid, reason: refusal.reason, why: refusal.message };
    this.#log.write("info", LogEvent.leaseRefused, fields, "lease refused");
  }

  handover(result: HandoverResult["result"] | "SEND_FAILED"): void {
    this.metrics?.handovers.inc({ result: result.toLowerCase() });
  }

  deviceQuarantined(address: Address, detail: string): void {
    this.metrics?.quarantines.inc();
    this.#log.write("warn", LogEvent.deviceQuarantined, { device: address, why: detail }, "device quarantined");
  }

  deviceRecovered(address: Address): void {
    this.#log.write("info", LogEvent.deviceRecovered, { device: address }, "quarantined device is free again");
  }

  operation(operation: string, milliseconds: number, ok: boolean): void {
    this.metrics?.operations.observe({ operation, result: ok ? "ok" : "failed" }, milliseconds / 1000);
  }

  fault(where: string, error: unknown): void {
    this.metrics?.faults.inc();
    this.#log.fault(where, error);
  }
}
