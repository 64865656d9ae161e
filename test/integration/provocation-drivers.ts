// How the reasons of changed drivers are brought about.

import { once } from "node:events";
import type * as grpc from "@grpc/grpc-js";
import { LeaseBench } from "../harness/lease-bench.js";
import type { OwnDaemonOptions } from "../harness/own-daemon.js";
import { DriverService, failed, Rpc } from "../harness/rpc.js";
import { ALL_ALLOWED, asked, ctl, NVME, type Provocation, type Target, type Told } from "./provocation.js";

const DISK = "0000:01:00.0";
const GPU_WITH_AUDIO = "0000:31:00.0";
const AUDIO = "0000:31:00.1";
const PHYSICAL = "0000:41:00.0";

async function refused(target: Target, method: "BindDriver" | "RestoreDriver", request: object): Promise<Told> {
  const { path, requestSerialize } = DriverService.service[method];
  const stream = new Rpc(target.socket).stream(path, requestSerialize(request as never), (bytes) => bytes);
  const [error] = (await once(stream.resume(), "error")) as [grpc.ServiceError];
  return asked(failed(error));
}

function onCommon(method: "BindDriver" | "RestoreDriver", request: object, ...command: readonly string[]): Provocation {
  return {
    rung: "daemon",
    provoke: async (daemons) => {
      const daemon = daemons.common();
      return [await refused(daemon, method, request), await ctl(daemon, ...command)];
    },
  };
}

/** The call and aperturectl each meet it on a device of their own. */
function onAltered(config: string, script: OwnDaemonOptions["script"]): Provocation {
  return {
    rung: "altered",
    provoke: async (daemons) => {
      const daemon = await daemons.altered({ config: config + ALL_ALLOWED, ...(script === undefined ? {} : { script }) });
      const told = [await refused(daemon, "BindDriver", { address: DISK }), await ctl(daemon, "driver", "bind", AUDIO, "--whole-group")];
      const bench = await LeaseBench.at(daemon);
      for (const address of [DISK, AUDIO]) await bench.becomes(address, "FREE");
      return told;
    },
  };
}

export const DRIVER_PROVOCATIONS = {
  GROUP_CONSENT_REQUIRED: onCommon("BindDriver", { address: GPU_WITH_AUDIO }, "driver", "bind", GPU_WITH_AUDIO),
  DRIVER_UNAVAILABLE: onCommon("BindDriver", { address: DISK, driver: "no_vfio_pci" }, "driver", "bind", DISK, "--driver", "no_vfio_pci"),
  // The kernel takes longer than anybody waits.
  DRIVER_BUSY: onAltered("limits.driver_ms = 100\n", (operation) => (operation === "unbind" ? 1_000 : null)),
  DRIVER_CHANGE_FAILED: onAltered("", (operation, address, n) =>
    operation === "bind" && n === 1 ? { operation: "bind", errno: 5, code: "EIO", subject: address } : null,
  ),
  NO_FORMER_DRIVER: onCommon("RestoreDriver", { address: NVME }, "driver", "restore", NVME),
  VIRTUAL_FUNCTIONS_EXIST: onCommon("BindDriver", { address: PHYSICAL }, "driver", "bind", PHYSICAL),
  NO_VIRTUAL_FUNCTIONS: {
    rung: "daemon",
    provoke: async (daemons) => {
      const daemon = daemons.common();
      const told = asked(await new Rpc(daemon.socket).call(DriverService, "SetVirtualFunctions", { address: NVME, count: 1 }));
      return [told, await ctl(daemon, "vfs", NVME, "1")];
    },
  },
} as const satisfies Readonly<Record<string, Provocation>>;
