// The public API as gRPC needs it, loaded once. One loader call for everything, because reflection lists only the package it is given.

import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { type GrpcObject, loadPackageDefinition } from "@grpc/grpc-js";
import { loadSync, type MessageTypeDefinition, type PackageDefinition } from "@grpc/proto-loader";
import type { ProtoGrpcType as DeviceProto } from "../generated/device.js";
import type { Any, Any__Output } from "../generated/google/protobuf/Any.js";
import type { BadRequest, BadRequest__Output } from "../generated/google/rpc/BadRequest.js";
import type { ErrorInfo, ErrorInfo__Output } from "../generated/google/rpc/ErrorInfo.js";
import type { Status, Status__Output } from "../generated/google/rpc/Status.js";
import type { ProtoGrpcType as HostProto } from "../generated/host.js";
import type { ProtoGrpcType as LeaseProto } from "../generated/lease.js";

const root = fileURLToPath(new URL("../../../proto", import.meta.url));
// The health service brings its own proto file; reflection should list it like ours.
const healthRoot = join(dirname(createRequire(import.meta.url).resolve("grpc-health-check/package.json")), "proto");

export const packageDefinition: PackageDefinition = loadSync(
  ["aperture/v1/device.proto", "aperture/v1/lease.proto", "aperture/v1/host.proto", "google/rpc/status.proto", "health/v1/health.proto"],
  { includeDirs: [root, healthRoot], longs: String, enums: String, defaults: true, oneofs: true },
);

type Loaded = DeviceProto & LeaseProto & HostProto;

const loaded = loadPackageDefinition(packageDefinition) as GrpcObject as unknown as Loaded;

export const services = {
  device: loaded.aperture.v1.DeviceService.service,
  lease: loaded.aperture.v1.LeaseService.service,
  host: loaded.aperture.v1.HostService.service,
};

function message<I extends object, O extends object>(name: string): MessageTypeDefinition<I, O> {
  const definition = packageDefinition[name];
  if (!definition) throw new Error(`proto/ declares no ${name}`);
  return definition as unknown as MessageTypeDefinition<I, O>;
}

export const messages = {
  any: message<Any, Any__Output>("google.protobuf.Any"),
  status: message<Status, Status__Output>("google.rpc.Status"),
  errorInfo: message<ErrorInfo, ErrorInfo__Output>("google.rpc.ErrorInfo"),
  badRequest: message<BadRequest, BadRequest__Output>("google.rpc.BadRequest"),
};
