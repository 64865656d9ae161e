import type { DriverOutcome } from "../../src/broker/driver-control.js";
import type { Observer, Peer } from "../../src/broker/ports.js";
import type { Refusal } from "../../src/broker/refusal.js";

/** Keeps what it is told; a fault is a failure of the test that reads `faults`. */
export class RecordingObserver implements Observer {
  readonly steps: string[] = [];
  readonly faults: unknown[] = [];
  readonly quarantined: string[] = [];
  readonly handovers: string[] = [];
  readonly recalls: [string, string, number][] = [];
  readonly successions: [string, number, number][] = [];
  readonly shown: string[] = [];
  readonly ends: [string, string][] = [];

  leaseStateChanged(leaseId: string, from: string, to: string, event: string): void {
    this.steps.push(`${leaseId} ${from} ${event} ${to}`);
  }
  leaseGranted(): void {}
  leaseReserved(): void {}
  leaseRecalled(leaseId: string, cause: string, graceMs: number): void {
    this.recalls.push([leaseId, cause, graceMs]);
  }
  leasePassedOn(leaseId: string, from: Peer, to: Peer): void {
    this.successions.push([leaseId, from.pid, to.pid]);
  }
  ticketShown(_peer: Peer, refusal: Refusal | null): void {
    this.shown.push(refusal?.reason ?? "ACCEPTED");
  }
  leaseEnded(leaseId: string, cause: string): void {
    this.ends.push([leaseId, cause]);
  }
  acquireRefused(): void {}
  handover(result: string): void {
    this.handovers.push(result);
  }
  deviceQuarantined(address: string): void {
    this.quarantined.push(address);
  }
  deviceRecovered(): void {}
  readonly drivers: string[] = [];
  driversChanged(_peer: Peer, what: string, devices: readonly DriverOutcome[]): void {
    this.drivers.push(`${what} ${devices.map(({ address, before, driver }) => `${address} ${before}->${driver}`).join(", ")}`);
  }
  virtualFunctionsSet(_peer: Peer, address: string, count: number): void {
    this.drivers.push(`VFS ${address} ${count}`);
  }
  driverChangeRefused(_peer: Peer, refusal: Refusal): void {
    this.drivers.push(`REFUSED ${refusal.reason}`);
  }
  driverChangeLate(addresses: readonly string[]): void {
    this.drivers.push(`LATE ${addresses.join(" ")}`);
  }
  driverChangeSettled(addresses: readonly string[]): void {
    this.drivers.push(`SETTLED ${addresses.join(" ")}`);
  }
  operation(): void {}
  fault(where: string, error: unknown): void {
    this.faults.push([where, error]);
  }
}
