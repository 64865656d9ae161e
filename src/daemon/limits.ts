// Settings as the parts of the daemon take them. Read through getters, so that a reload reaches whoever obeys a limit; never spread, which would read them once.

import type { LeaseLimits } from "../broker/leases.js";
import type { ChannelLimits } from "../handover/channels.js";
import type { GrpcListenerLimits } from "../peer/grpc-listener.js";
import type { RpcLimits } from "../rpc/server.js";
import type { LiveSettings } from "./live-settings.js";

export interface Limits {
  readonly listener: GrpcListenerLimits;
  readonly channels: ChannelLimits;
  readonly leases: LeaseLimits;
  readonly rpc: RpcLimits;
}

export function limitsOf(live: LiveSettings): Limits {
  return {
    listener: {
      get connections() {
        return live.now["limits.connections"];
      },
      get connectionsPerUid() {
        return live.now["limits.connections_per_uid"];
      },
      get firstCallMs() {
        return live.now["limits.first_call_ms"];
      },
    },
    channels: {
      get firstCallMs() {
        return live.now["limits.first_call_ms"];
      },
      get ackMs() {
        return live.now["limits.ack_ms"];
      },
      get descriptorsInFlight() {
        return live.now["limits.descriptors_in_flight"];
      },
      get descriptorsPerMessage() {
        return live.now["limits.descriptors_per_message"];
      },
    },
    leases: {
      get leasesPerUid() {
        return live.now["limits.leases_per_uid"];
      },
      get endedMs() {
        return live.now["limits.ended_lease_ms"];
      },
      get endedKept() {
        return live.now["limits.ended_leases"];
      },
      get retryMinMs() {
        return live.now["limits.retry_min_ms"];
      },
      get retryMaxMs() {
        return live.now["limits.retry_max_ms"];
      },
      get callMs() {
        return live.now["limits.call_ms"];
      },
      get driverMs() {
        return live.now["limits.driver_ms"];
      },
      get recallGraceMs() {
        return live.now["limits.recall_grace_ms"];
      },
    },
    rpc: {
      requestBytes: live.now["limits.request_bytes"],
      streamsPerConnection: live.now["limits.streams_per_connection"],
      sessionMemoryMib: live.now["limits.session_memory_mib"],
      keepaliveMs: live.now["limits.keepalive_ms"],
      keepaliveTimeoutMs: live.now["limits.keepalive_timeout_ms"],
      get watchers() {
        return live.now["limits.watchers"];
      },
      get sessionRequests() {
        return live.now["limits.session_requests"];
      },
      get ticketMs() {
        return live.now["limits.ticket_ms"];
      },
      get ticketMaxMs() {
        return live.now["limits.ticket_max_ms"];
      },
    },
  };
}
