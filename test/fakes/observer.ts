import type { Observer } from "../../src/broker/ports.js";

/** Keeps what it is told; a fault is a failure of the test that reads `faults`. */
export class RecordingObserver implements Observer {
  readonly steps: string[] = [];
  readonly faults: unknown[] = [];
  readonly quarantined: string[] = [];
  readonly handovers: string[] = [];

  leaseStateChanged(leaseId: string, from: string, to: string, event: string): void {
    this.steps.push(`${leaseId} ${from} ${event} ${to}`);
  }
  leaseGranted(): void {}
  leaseEnded(): void {}
  acquireRefused(): void {}
  handover(result: string): void {
    this.handovers.push(result);
  }
  deviceQuarantined(address: string): void {
    this.quarantined.push(address);
  }
  deviceRecovered(): void {}
  operation(): void {}
  fault(where: string, error: unknown): void {
    this.faults.push([where, error]);
  }
}
