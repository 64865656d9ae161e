// What tests of leases ask a daemon all the time, over one gRPC connection of the test process.

import assert from "node:assert/strict";
import type { AcquireLeaseResponse__Output } from "../../src/generated/aperture/v1/AcquireLeaseResponse.js";
import type { GetDeviceResponse__Output } from "../../src/generated/aperture/v1/GetDeviceResponse.js";
import type { GetLeaseResponse__Output } from "../../src/generated/aperture/v1/GetLeaseResponse.js";
import type { Lease__Output } from "../../src/generated/aperture/v1/Lease.js";
import type { ListLeasesResponse__Output } from "../../src/generated/aperture/v1/ListLeasesResponse.js";
import type { NameSuccessorResponse__Output } from "../../src/generated/aperture/v1/NameSuccessorResponse.js";
import type { DaemonProcess } from "./daemon.js";
import type { ArrivedOffer, RawChannel } from "./raw-channel.js";
import { DeviceService, LeaseService, type Result, Rpc } from "./rpc.js";
import { until } from "./until.js";

export class LeaseBench {
  readonly rpc: Rpc;

  private constructor(rpc: Rpc) {
    this.rpc = rpc;
  }

  /** Connects, and takes the daemon with this connection as the state to come back to. */
  static async at(daemon: Pick<DaemonProcess, "socket" | "rebase">): Promise<LeaseBench> {
    const bench = new LeaseBench(new Rpc(daemon.socket));
    await bench.rpc.call(DeviceService, "ListDevices", {});
    daemon.rebase();
    return bench;
  }

  async stateOf(address: string): Promise<string> {
    const { answer } = await this.rpc.call<GetDeviceResponse__Output>(DeviceService, "GetDevice", { address });
    return answer?.device?.state.replace("DEVICE_STATE_", "") ?? "unknown";
  }

  async becomes(address: string, state: string, deadlineMs = 10_000): Promise<void> {
    await until(
      `the state of ${address}`,
      () => this.stateOf(address),
      (now) => now === state,
      deadlineMs,
    );
  }

  /** For afterEach: all are FREE, or will be when the test that failed has been cleaned up after. */
  async allFree(addresses: readonly string[]): Promise<void> {
    try {
      for (const address of addresses) await this.becomes(address, "FREE");
    } catch (error) {
      await this.releaseAll();
      throw error;
    }
  }

  /** Ends every lease that this user sees. */
  async releaseAll(): Promise<void> {
    const { answer } = await this.rpc.call<ListLeasesResponse__Output>(LeaseService, "ListLeases", {});
    for (const { id } of answer?.leases ?? []) assert.equal((await this.release(id)).code, "OK");
  }

  acquire(address: string, more: object = {}): Promise<Result<AcquireLeaseResponse__Output>> {
    return this.rpc.call(LeaseService, "AcquireLease", { kind: "LEASE_KIND_DEVICE", devices: [{ address }], ...more });
  }

  /** An offer that was received and not acknowledged. */
  async offered(channel: RawChannel, address: string, more: object = {}): Promise<ArrivedOffer> {
    const [answer, offer] = await Promise.all([this.acquire(address, more), channel.offer()]);
    assert.equal(answer.answer?.lease?.id, offer.frame.leaseId);
    return offer;
  }

  /** An offer that was received and acknowledged. */
  async held(channel: RawChannel, address: string, more: object = {}): Promise<ArrivedOffer> {
    const offer = await this.offered(channel, address, more);
    channel.acknowledge(offer.frame.leaseId, offer.descriptors.length);
    await this.becomes(address, "HELD");
    return offer;
  }

  /** A lease with a ticket for another process. */
  async reserved(address: string, more: object = {}): Promise<{ readonly id: string; readonly ticket: Buffer }> {
    const { answer, text } = await this.acquire(address, { ticket: {}, ...more });
    if (answer?.lease == null) throw new Error(text);
    return { id: answer.lease.id, ticket: answer.ticket };
  }

  /** A ticket for the successor of a RETAIN lease's holder. */
  async successor(leaseId: string, ticket: object = {}): Promise<Buffer> {
    const { answer, text } = await this.rpc.call<NameSuccessorResponse__Output>(LeaseService, "NameSuccessor", { leaseId, ticket });
    if (answer === null) throw new Error(text);
    return answer.ticket;
  }

  async lease(leaseId: string): Promise<Lease__Output> {
    const { answer, text } = await this.rpc.call<GetLeaseResponse__Output>(LeaseService, "GetLease", { leaseId });
    if (answer?.lease == null) throw new Error(text);
    return answer.lease;
  }

  release(leaseId: string): Promise<Result<unknown>> {
    return this.rpc.call(LeaseService, "ReleaseLease", { leaseId });
  }

  /** Why the lease ended, once it has. */
  async endOf(leaseId: string): Promise<string> {
    const ended = await until(
      `the end of ${leaseId}`,
      async () => (await this.rpc.call<GetLeaseResponse__Output>(LeaseService, "GetLease", { leaseId })).answer?.lease,
      (lease) => lease?.state === "LEASE_STATE_ENDED",
    );
    return ended?.endCause.replace("END_CAUSE_", "") ?? "";
  }

  close(): void {
    this.rpc.close();
  }
}
