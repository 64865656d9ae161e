// How each reason of the closed table is brought about. The table here is checked by the compiler to have exactly the same reasons: one that is added and cannot be
// provoked does not compile. reasons.test.ts runs them.

import { spawn } from "node:child_process";
import { once } from "node:events";
import type * as grpc from "@grpc/grpc-js";
import type { Address } from "../../src/broker/device.js";
import { granted, type Outcome, type Reason, refuse } from "../../src/broker/refusal.js";
import { encodeAck } from "../../src/client/frame.js";
import { SIMULATED_DEVICES } from "../../src/host/simulated-devices.js";
import { vmmArguments } from "../../src/vmm/arguments.js";
import { client, fakeBroker, hold, wish } from "../fakes/broker.js";
import { FakePeer } from "../fakes/handover.js";
import { fakeAddress } from "../fakes/host.js";
import { ClientProcess } from "../harness/client-process.js";
import { LeaseBench } from "../harness/lease-bench.js";
import type { AlteredHost, OwnDaemonOptions } from "../harness/own-daemon.js";
import { RawChannel } from "../harness/raw-channel.js";
import { failed, HostService, LeaseService, Rpc, VmmService } from "../harness/rpc.js";
import { until } from "../harness/until.js";

import {
  ALL_ALLOWED,
  acquireRefused,
  altered,
  asked,
  attached,
  ctl,
  DENIED,
  factsOf,
  GPU,
  NO_LEASE,
  NVME,
  onCommon,
  type Provocation,
  probeRefused,
  type Told,
  VF,
} from "./provocation.js";
import { DRIVER_PROVOCATIONS } from "./provocation-drivers.js";
import { draining, servedTo } from "./provocation-servers.js";
import { TICKET_PROVOCATIONS } from "./provocation-tickets.js";

export const PROVOCATIONS = {
  MALFORMED_ADDRESS: onCommon("0000:../etc"),
  INVALID_FIELD: {
    rung: "daemon",
    provoke: async (daemons) => {
      const daemon = daemons.common();
      return [asked(await new Rpc(daemon.socket).call(LeaseService, "GetLease", { leaseId: "x" })), await ctl(daemon, "release", "x")];
    },
  },
  REQUEST_ID_REUSED: {
    rung: "daemon",
    provoke: async (daemons) => {
      const daemon = daemons.common();
      const bench = await LeaseBench.at(daemon);
      const requestId = "11111111-1111-4111-8111-111111111111";
      const { frame } = await bench.held(await attached(daemon), NVME, { requestId });
      const told = asked(await bench.acquire(VF, { requestId }));
      RawChannel.closeAll();
      await bench.release(frame.leaseId);
      return [told];
    },
  },
  DEVICE_NOT_FOUND: onCommon("0000:00:1f.0"),
  REGION_NOT_FOUND: {
    rung: "daemon",
    provoke: async (daemons) => {
      const daemon = daemons.common();
      const bench = await LeaseBench.at(daemon);
      const wrong = { kind: "LEASE_KIND_REGION", devices: [{ address: GPU, regions: [77] }] };
      const told = asked(await bench.rpc.call(LeaseService, "AcquireLease", wrong));
      return [told, await ctl(daemon, "exec", GPU, "--regions", "77", "--", "true")];
    },
  },
  LEASE_NOT_FOUND: {
    rung: "daemon",
    provoke: async (daemons) => {
      const daemon = daemons.common();
      const told = asked(await new Rpc(daemon.socket).call(LeaseService, "GetLease", { leaseId: NO_LEASE }));
      return [told, await ctl(daemon, "release", NO_LEASE)];
    },
  },
  POLICY_DENIED: onCommon(DENIED),
  NOT_OPERATOR: {
    rung: "server",
    provoke: (daemons) => servedTo(new FakePeer(1, 4242), daemons, (rpc) => rpc.call(HostService, "ReloadConfig", {})),
  },
  PEER_UNKNOWN: {
    rung: "server",
    provoke: (daemons) => servedTo(null, daemons, (rpc) => rpc.call(LeaseService, "ListLeases", {})),
  },
  PEER_GONE: {
    rung: "altered",
    provoke: async (daemons) => {
      let opening = false;
      let go: () => void = () => {};
      const gone = new Promise<null>((resolve) => {
        go = () => resolve(null);
      });
      const daemon = await daemons.altered({
        config: ALL_ALLOWED,
        alter: (host) => {
          host.opening = () => {
            opening = true;
            return gone;
          };
        },
      });
      const caller = await ClientProcess.start(daemon.socket);
      for (const line of ["connect", "preface", "channel", `acquire ${NVME}`]) await caller.must(line);
      await until(
        "the opening",
        () => opening,
        (begun) => begun,
      );
      await caller.kill();
      go();
      const refused = await until(
        "the refusal in the log",
        () => daemon.records().find(({ event, fields }) => event === "lease.refused" && fields["reason"] === "PEER_GONE"),
        (record) => record !== undefined,
      );
      return refused ? [{ by: "log", record: refused }] : [];
    },
  },
  NO_VFIO_DRIVER: onCommon("0000:01:00.0"),
  DRIVER_NOT_READY: factsOf({ vfioBound: false, driver: "", driverOverride: "nvgrace_gpu_vfio_pci" }),
  DEVICE_LEAVING: factsOf({ vfioBound: false, leaving: true }),
  NO_IOMMU_GROUP: factsOf({ iommuGroup: null }),
  GROUP_NOT_VIABLE: onCommon("0000:31:00.0"),
  DEVICE_NOT_READY: altered((host) => {
    host.probed = (facts, simulated) =>
      simulated.refusal === null && facts.address === NVME
        ? granted({ ...simulated.value, notReady: "its memory is being trained" })
        : simulated;
  }),
  DEVICE_IN_USE: probeRefused("DEVICE_IN_USE", `${NVME} is open in another process`),
  DEVICE_QUARANTINED: {
    rung: "daemon",
    provoke: async (daemons) => {
      const daemon = daemons.common();
      const bench = await LeaseBench.at(daemon);
      const { frame } = await bench.held(await attached(daemon), VF);
      // Its descriptors stay open.
      await bench.release(frame.leaseId);
      await bench.becomes(VF, "QUARANTINED");
      const told = [asked(await bench.acquire(VF)), await ctl(daemon, "exec", VF, "--", "true")];
      RawChannel.closeAll();
      await bench.becomes(VF, "FREE");
      return told;
    },
  },
  DEVICE_NOT_PROBED: probeRefused("HOST_OPERATION_FAILED", "VFIO_DEVICE_GET_INFO failed: EIO"),
  VF_TOKEN_REQUIRED: probeRefused("VF_TOKEN_REQUIRED", "its physical function belongs to a VFIO driver too"),
  NO_PERMISSION: probeRefused("NO_PERMISSION", "/dev/vfio/11 may not be opened: EACCES"),
  RESET_UNAVAILABLE: {
    rung: "rules",
    provoke: async () => {
      const broker = await fakeBroker([[1]]);
      broker.host.device(fakeAddress(1)).reset = "UNSUPPORTED";
      const first = client(broker, 1, 1000);
      const lease = await hold(broker, first, fakeAddress(1));
      await broker.leases.release(first, lease.value?.id ?? "");
      return [refusedByRules(await broker.leases.acquire(client(broker, 2, 1001), wish(fakeAddress(1))))];
    },
  },
  REGION_SCOPE_UNAVAILABLE: {
    rung: "altered",
    provoke: async (daemons) => {
      const alter = (host: AlteredHost): void => {
        host.opening = async () => refuse("REGION_SCOPE_UNAVAILABLE", "this kernel has no descriptor of one region");
      };
      const daemon = await daemons.altered({ config: ALL_ALLOWED, alter });
      await attached(daemon);
      const bench = await LeaseBench.at(daemon);
      const wanted = { kind: "LEASE_KIND_REGION", devices: [{ address: GPU, regions: [4] }] };
      const told = asked(await bench.rpc.call(LeaseService, "AcquireLease", wanted));
      return [told, await ctl(daemon, "exec", GPU, "--regions", "4", "--", "true")];
    },
  },
  NO_DESCRIPTOR_CHANNEL: {
    rung: "daemon",
    provoke: async (daemons) => [asked(await (await LeaseBench.at(daemons.common())).acquire(NVME))],
  },
  DEVICE_BUSY: {
    rung: "daemon",
    provoke: async (daemons) => {
      const daemon = daemons.common();
      const bench = await LeaseBench.at(daemon);
      const { frame } = await bench.held(await attached(daemon), NVME);
      const told = [asked(await bench.acquire(NVME)), await ctl(daemon, "exec", NVME, "--", "true")];
      RawChannel.closeAll();
      await bench.release(frame.leaseId);
      return told;
    },
  },
  DEVICE_REMOVED: {
    rung: "altered",
    provoke: async (daemons) => {
      const alter = (host: AlteredHost): void => {
        host.opening = async () => {
          host.simulated.unplug(NVME as Address);
          await host.scannedAgain();
          return null;
        };
      };
      const daemon = await daemons.altered({ config: ALL_ALLOWED, alter });
      await attached(daemon);
      const bench = await LeaseBench.at(daemon);
      const told = asked(await bench.acquire(NVME));
      daemon.host.simulated.plug(NVME as Address);
      await bench.becomes(NVME, "FREE");
      await until(
        "the probe",
        () => bench.acquire(NVME, { channel: "99" }),
        ({ reason }) => reason === "NO_DESCRIPTOR_CHANNEL",
      );
      return [told, await ctl(daemon, "exec", NVME, "--", "true")];
    },
  },
  HANDOVER_FAILED: {
    rung: "altered",
    provoke: async (daemons) => {
      const daemon = await daemons.altered({ config: `limits.ack_ms = 100\n${ALL_ALLOWED}` });
      const bench = await LeaseBench.at(daemon);
      const silent = await attached(daemon);
      await bench.offered(silent, NVME);
      const goodbye = await silent.goodbye();
      RawChannel.closeAll();
      const closing = await attached(daemon);
      const channels = (): Promise<string> => daemon.metrics();
      daemon.host.opening = async () => {
        closing.close();
        await until("the end of the channel", channels, (page) => page.includes("\naperture_channels 0\n"));
        return null;
      };
      return [{ by: "goodbye", reason: goodbye }, asked(await bench.acquire(VF))];
    },
  },
  HOST_OPERATION_FAILED: {
    rung: "altered",
    provoke: async (daemons) => {
      const script: OwnDaemonOptions["script"] = (operation, address) =>
        operation === "open" && address === NVME ? { operation: "open", errno: 5, code: "EIO", subject: address } : null;
      const daemon = await daemons.altered({ config: ALL_ALLOWED, script });
      await attached(daemon);
      return acquireRefused(daemon, NVME);
    },
  },
  VMM_NEEDS_IOMMUFD: {
    rung: "rules",
    provoke: async () => {
      const options = { vmm: "QEMU", machine: null, guestMemory: null, guestNodes: [], resourceName: "" } as const;
      return [refusedByRules(vmmArguments(options, [], { backend: "LEGACY", architecture: "x64", numaNodes: [] }))];
    },
  },
  BAR_NOT_POWER_OF_TWO: {
    rung: "altered",
    provoke: async (daemons) => {
      const alter = (host: AlteredHost): void => {
        host.probed = (facts, simulated) =>
          simulated.refusal === null && facts.address === NVME
            ? granted({ ...simulated.value, regions: simulated.value.regions.map((region) => ({ ...region, size: region.size + 4096n })) })
            : simulated;
      };
      const daemon = await daemons.altered({ config: ALL_ALLOWED, alter });
      const options = { vmm: "VMM_QEMU" };
      const told = asked(await new Rpc(daemon.socket).call(VmmService, "GetArguments", { options, addresses: [NVME] }));
      const bench = await LeaseBench.at(daemon);
      return [told, asked(await bench.acquire(NVME, { vmm: options })), await ctl(daemon, "args", "--for", "qemu", NVME)];
    },
  },
  HOST_SLOW: {
    rung: "altered",
    provoke: async (daemons) => {
      const answers: (() => void)[] = [];
      const alter = (host: AlteredHost): void => {
        host.opening = () => new Promise((resolve) => void answers.push(() => resolve(null)));
      };
      const daemon = await daemons.altered({ config: `limits.call_ms = 1000\n${ALL_ALLOWED}`, alter });
      await attached(daemon);
      const told = await acquireRefused(daemon, NVME, VF);
      for (const answer of answers) answer();
      const bench = await LeaseBench.at(daemon);
      for (const address of [NVME, VF]) await bench.becomes(address, "FREE");
      return told;
    },
  },
  LEASE_QUOTA: {
    rung: "daemon",
    provoke: async (daemons) => {
      const daemon = await daemons.process(`limits.leases_per_uid = 1\n${ALL_ALLOWED}`);
      const bench = await LeaseBench.at(daemon);
      await bench.held(await attached(daemon), NVME);
      return [asked(await bench.acquire(VF)), await ctl(daemon, "exec", VF, "--", "true")];
    },
  },
  HANDOVER_PENDING: {
    rung: "daemon",
    provoke: async (daemons) => {
      const daemon = daemons.common();
      const bench = await LeaseBench.at(daemon);
      const channel = await attached(daemon);
      const { frame } = await bench.offered(channel, NVME);
      const told = asked(await bench.acquire(VF));
      RawChannel.closeAll();
      await bench.endOf(frame.leaseId);
      return [told];
    },
  },
  DESCRIPTOR_LIMIT: {
    rung: "altered",
    provoke: async (daemons) => {
      // One message takes 32 descriptors; of devices with four regions each, 16 in one lease are too many.
      const gpu = SIMULATED_DEVICES.find(({ address }) => address === GPU);
      if (gpu === undefined) throw new Error(`there is no simulated ${GPU}`);
      const addresses = Array.from({ length: 16 }, (_, n) => `0000:02:${n.toString(16).padStart(2, "0")}.0` as Address);
      const devices = addresses.map((address, n) => ({ ...gpu, address, group: 100 + n, ports: [] }));
      const daemon = await daemons.altered({ config: ALL_ALLOWED, devices });
      await attached(daemon);
      const wanted = { kind: "LEASE_KIND_DEVICE", devices: addresses.map((address) => ({ address })) };
      const told = asked(await (await LeaseBench.at(daemon)).rpc.call(LeaseService, "AcquireLease", wanted));
      return [told, await ctl(daemon, "exec", ...addresses, "--", "true")];
    },
  },
  CONNECTION_QUOTA: {
    rung: "daemon",
    provoke: async (daemons) => {
      const daemon = await daemons.process(`limits.watchers = 1\n${ALL_ALLOWED}`);
      const path = "/aperture.v1.DeviceService/WatchDevices";
      const rpc = new Rpc(daemon.socket);
      await once(
        rpc.stream(path, Buffer.alloc(0), (bytes) => bytes),
        "data",
      );
      const [error] = (await once(
        rpc.stream(path, Buffer.alloc(0), (bytes) => bytes),
        "error",
      )) as [grpc.ServiceError];
      return [asked(failed(error)), await ctl(daemon, "watch")];
    },
  },
  DRAINING: { rung: "altered", provoke: draining },
  ...DRIVER_PROVOCATIONS,
  ...TICKET_PROVOCATIONS,
  PROTOCOL_VIOLATION: {
    rung: "daemon",
    provoke: async (daemons) => {
      const channel = await attached(daemons.common());
      channel.send(Buffer.from("nonsense"));
      return [{ by: "goodbye", reason: await channel.goodbye() }];
    },
  },
  FOREIGN_SENDER: {
    rung: "daemon",
    provoke: async (daemons) => {
      const channel = await attached(daemons.common());
      const child = spawn("cat", [], { stdio: ["pipe", channel.fd, "inherit"] });
      child.stdin?.end(encodeAck(NO_LEASE, 1));
      await once(child, "close");
      return [{ by: "goodbye", reason: await channel.goodbye() }];
    },
  },
  ATTACH_TIMEOUT: {
    rung: "daemon",
    provoke: async (daemons) => {
      const daemon = await daemons.process(`limits.first_call_ms = 200\n${ALL_ALLOWED}`);
      const channel = await RawChannel.connect(daemon.socket);
      return [{ by: "goodbye", reason: await channel.goodbye() }];
    },
  },
} as const satisfies Readonly<Record<Reason, Provocation>>;

function refusedByRules(outcome: Outcome<unknown>): Told {
  if (outcome.refusal === null) throw new Error("it was granted");
  return { by: "rules", refusal: outcome.refusal };
}
