// The public API as gRPC needs it, loaded once. One loader call for everything, because reflection lists only the package it is given.

import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { type GrpcObject, loadPackageDefinition } from "@grpc/grpc-js";
import { loadSync, type MessageTypeDefinition, type PackageDefinition } from "@grpc/proto-loader";
import type { ProtoGrpcType as DeviceProto } from "../generated/device.js";
import type { Any, Any__Output } from "../generated/google/protobuf/Any.js";
import type { BadRequest, BadRequest__Output } from "../generated/google/rpc/BadRequest.js";
import type { ErrorInfo, ErrorInfo__Output } from "../generated/google/rpc/ErrorInfo.js";
import type { PreconditionFailure, PreconditionFailure__Output } from "../generated/google/rpc/PreconditionFailure.js";
import type { ResourceInfo, ResourceInfo__Output } from "../generated/google/rpc/ResourceInfo.js";
import type { RetryInfo, RetryInfo__Output } from "../generated/google/rpc/RetryInfo.js";
import type { Status, Status__Output } from "../generated/google/rpc/Status.js";
import type { ProtoGrpcType as HostProto } from "../generated/host.js";
import type { ProtoGrpcType as LeaseProto } from "../generated/lease.js";

const root = fileURLToPath(new URL("../../../proto", import.meta.url));

export const packageDefinition: PackageDefinition = loadSync(
  ["aperture/v1/device.proto", "aperture/v1/lease.proto", "aperture/v1/host.proto", "google/rpc/status.proto"],
  { includeDirs: [root], longs: String, enums: String, defaults: true, oneofs: true },
);

/**
 * What reflection shows. proto-loader makes file descriptors of its own, without their imports and with relative type names, which strict clients (buf, grpcurl) refuse;
 * these come from the schema compiler (deploy/setup.mjs).
 */
export const reflectedFiles: readonly Buffer[] = filesOf(readFileSync(new URL("../../../src/generated/reflection.binpb", import.meta.url)));

/** The files of a google.protobuf.FileDescriptorSet, each still encoded: field 1, length-delimited, and nothing else. */
function filesOf(set: Buffer): Buffer[] {
  const files: Buffer[] = [];
  for (let at = 0; at < set.length; ) {
    if (set[at] !== 0x0a) throw new Error(`src/generated/reflection.binpb is no FileDescriptorSet (byte ${at})`);
    let length = 0;
    let shift = 0;
    let byte: number;
    do {
      at += 1;
      byte = set[at] ?? 0;
      length |= (byte & 0x7f) << shift;
      shift += 7;
    } while (byte & 0x80);
    files.push(set.subarray(at + 1, at + 1 + length));
    at += 1 + length;
  }
  return files;
}

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
  resourceInfo: message<ResourceInfo, ResourceInfo__Output>("google.rpc.ResourceInfo"),
  preconditionFailure: message<PreconditionFailure, PreconditionFailure__Output>("google.rpc.PreconditionFailure"),
  retryInfo: message<RetryInfo, RetryInfo__Output>("google.rpc.RetryInfo"),
};
