// Names of log events. Constants, so that a search or an alert that is written today still works tomorrow.

export const LogEvent = {
  starting: "daemon.starting",
  ready: "daemon.ready",
  stopping: "daemon.stopping",
  stopped: "daemon.stopped",
  simulated: "host.simulated",
  configWarning: "config.warning",
  fault: "daemon.fault",
  connectionRejected: "peer.rejected",
  channelClosed: "channel.closed",
  leaseGranted: "lease.granted",
  leaseState: "lease.state",
  leaseEnded: "lease.ended",
  leaseRefused: "lease.refused",
  deviceQuarantined: "device.quarantined",
  deviceRecovered: "device.recovered",
  deviceChanged: "device.changed",
} as const;

export type LogEventName = (typeof LogEvent)[keyof typeof LogEvent];
