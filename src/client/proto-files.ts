// The public proto files, loaded once: generated code would have to be kept in step with them, a loaded file cannot fall behind.

import { fileURLToPath } from "node:url";
import { loadPackageDefinition } from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";
import type { ProtoGrpcType as HostTypes } from "../generated/host.js";
import type { ProtoGrpcType as LeaseTypes } from "../generated/lease.js";
import type { ProtoGrpcType as StatusTypes } from "../generated/status.js";
import type { ProtoGrpcType as VmmTypes } from "../generated/vmm.js";

type ProtoFiles = LeaseTypes & HostTypes & VmmTypes & StatusTypes;

let loaded: ProtoFiles | null = null;

/** Services and message types. */
export function protoFiles(): ProtoFiles {
  loaded ??= loadPackageDefinition(
    loadSync(
      ["aperture/v1/device.proto", "aperture/v1/lease.proto", "aperture/v1/host.proto", "aperture/v1/vmm.proto", "google/rpc/status.proto"],
      {
        includeDirs: [fileURLToPath(new URL("../../../proto", import.meta.url))],
        longs: String,
        enums: String,
        defaults: true,
        oneofs: true,
      },
    ),
  ) as unknown as ProtoFiles;
  return loaded;
}
