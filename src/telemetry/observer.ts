// Observer of the broker: every event to the log and to the metrics.

import type { Address } from "../broker/device.js";
import type { DriverOutcome } from "../broker/driver-control.js";
import type { EndCause, HandoverResult, HostOperation, Observer, OpenRequest, Peer, RecallCause } from "../broker/ports.js";
import type { Refusal } from "../broker/refusal.js";
import type { Log } from "./log.js";
import type { PeerRejection } from "./metric-table.js";
import type { Metrics } from "./metrics.js";

export class TelemetryObserver implements Observer {
  readonly #log: Log;
  /** Set once the metrics exist: they read from parts that report here while they are being made. */
  metrics: Metrics | null = null;

  constructor(log: Log) {
    this.#log = log;
  }

  leaseStateChanged(leaseId: string, from: string, to: string, event: string): void {
    this.#log.write("lease.state", { lease: leaseId, from, to, by: event }, `lease ${from} -> ${to}`);
  }

  leaseGranted(leaseId: string, peer: Peer, addresses: readonly Address[], kind: OpenRequest["kind"]): void {
    this.metrics?.leasesGranted.inc({ kind: kind.toLowerCase() });
    this.#log.write("lease.granted", { lease: leaseId, pci_addresses: addresses, kind, peer }, "lease granted");
  }

  leaseReserved(leaseId: string, peer: Peer, addresses: readonly Address[], kind: OpenRequest["kind"]): void {
    this.metrics?.leasesReserved.inc({ kind: kind.toLowerCase() });
    this.#log.write(
      "lease.reserved",
      { lease: leaseId, pci_addresses: addresses, kind, peer },
      "lease reserved for whoever shows its ticket",
    );
  }

  leaseRecalled(leaseId: string, cause: RecallCause, graceMs: number): void {
    this.metrics?.leaseRecalls.inc({ cause: cause.toLowerCase() });
    this.#log.write("lease.recalled", { lease: leaseId, cause, grace_ms: graceMs }, "lease asked back");
  }

  leasePassedOn(leaseId: string, from: Peer, to: Peer): void {
    this.metrics?.leasesPassedOn.inc();
    this.#log.write("lease.passed_on", { lease: leaseId, former: from, peer: to }, "lease passed on to a successor");
  }

  ticketShown(peer: Peer, refusal: Refusal | null): void {
    if (refusal === null) {
      this.metrics?.ticketsTaken.inc();
      return;
    }
    // An unknown ticket closes its channel, and is counted as that.
    if (refusal.reason !== "TICKET_UNKNOWN") this.metrics?.refusals.inc({ reason: refusal.reason });
    this.#log.write("ticket.refused", { reason: refusal.reason, why: refusal.message, peer }, "ticket refused");
  }

  leaseEnded(leaseId: string, cause: EndCause, quarantined: readonly Address[]): void {
    this.metrics?.leaseEnds.inc({ cause: cause.toLowerCase() });
    this.#log.write("lease.ended", { lease: leaseId, cause, quarantined }, "lease ended");
  }

  acquireRefused(peer: Peer, refusal: Refusal): void {
    this.#log.write("lease.refused", { reason: refusal.reason, why: refusal.message, peer }, "lease refused");
  }

  handover(result: HandoverResult["result"] | "SEND_FAILED"): void {
    this.metrics?.handovers.inc({ result: result.toLowerCase() });
  }

  deviceQuarantined(address: Address, detail: string): void {
    this.metrics?.quarantines.inc();
    this.#log.write("device.quarantined", { pci_address: address, why: detail }, "device quarantined");
  }

  deviceRecovered(address: Address): void {
    this.metrics?.recoveries.inc();
    this.#log.write("device.recovered", { pci_address: address }, "quarantined device is free again");
  }

  driversChanged(peer: Peer, what: "BOUND" | "RESTORED", devices: readonly DriverOutcome[]): void {
    const drivers = devices.map(({ address, before, driver }) => `${address}: ${before || "none"} -> ${driver || "none"}`);
    if (what === "BOUND") this.#log.write("driver.bound", { drivers, peer }, "devices given to VFIO drivers");
    else this.#log.write("driver.restored", { drivers, peer }, "devices given back to their drivers");
  }

  virtualFunctionsSet(peer: Peer, address: Address, count: number): void {
    this.#log.write("virtual_functions.set", { pci_address: address, count, peer }, "virtual functions set");
  }

  driverChangeRefused(peer: Peer, refusal: Refusal): void {
    this.#log.write("driver.refused", { reason: refusal.reason, why: refusal.message, peer }, "change of drivers refused");
  }

  driverChangeLate(addresses: readonly Address[], detail: string): void {
    this.#log.write("driver.late", { pci_addresses: addresses, why: detail }, "change of drivers not finished");
  }

  driverChangeSettled(addresses: readonly Address[]): void {
    this.#log.write("driver.settled", { pci_addresses: addresses }, "late change of drivers finished");
  }

  operation(operation: HostOperation, milliseconds: number, ok: boolean): void {
    this.metrics?.operations.observe({ operation, result: ok ? "ok" : "failed" }, milliseconds / 1000);
  }

  /** A connection or channel was closed by the daemon. */
  rejected(reason: PeerRejection, pid: number, uid: number): void {
    this.metrics?.rejections.inc({ reason });
    this.#log.write("peer.rejected", { reason, peer: { pid, uid } }, "connection closed by the daemon");
  }

  fault(where: string, error: unknown): void {
    this.metrics?.faults.inc();
    this.#log.fault(where, error);
  }
}
