// The public proto files, loaded once: generated code would have to be kept in step with them, a loaded file cannot fall behind.

import { fileURLToPath } from "node:url";
import { loadPackageDefinition } from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";
import type { ProtoGrpcType as DriverTypes } from "../generated/driver.js";
import type { ProtoGrpcType as HostTypes } from "../generated/host.js";
import type { ProtoGrpcType as LeaseTypes } from "../generated/lease.js";
import type { ProtoGrpcType as StatusTypes } from "../generated/status.js";
import type { ProtoGrpcType as VmmTypes } from "../generated/vmm.js";

type ProtoFiles = LeaseTypes & HostTypes & VmmTypes & DriverTypes & StatusTypes;

let loaded: ProtoFiles | null = null;

/** Services and message types. */
export function protoFiles(): ProtoFiles {
  loaded ??= loadPackageDefinition(
    loadSync([...["device", "lease", "host", "vmm", "driver"].map((name) => `aperture/v1/${name}.proto`), "google/rpc/status.proto"], {
      includeDirs: [fileURLToPath(new URL("../../../proto", import.meta.url))],
      longs: String,
      enums: String,
      defaults: true,
      oneofs: true,
    }),
  ) as unknown as ProtoFiles;
  return loaded;
}
