// The public API as gRPC needs it: known by its methods from the start, loaded once at the first call. What is loaded is proto/ as proto-loader read it when the daemon was
// built (deploy/describe-api.mjs).

import { readFileSync } from "node:fs";
import type { ServiceDefinition } from "@grpc/grpc-js";
import type { MessageTypeDefinition, PackageDefinition } from "@grpc/proto-loader";
import type { Region, Region__Output } from "../generated/aperture/v1/Region.js";
import type { VmmArguments, VmmArguments__Output } from "../generated/aperture/v1/VmmArguments.js";
import type { ProtoGrpcType as DeviceProto } from "../generated/device.js";
import type { ProtoGrpcType as DriverProto } from "../generated/driver.js";
import type { Any, Any__Output } from "../generated/google/protobuf/Any.js";
import type { BadRequest, BadRequest__Output } from "../generated/google/rpc/BadRequest.js";
import type { ErrorInfo, ErrorInfo__Output } from "../generated/google/rpc/ErrorInfo.js";
import type { PreconditionFailure, PreconditionFailure__Output } from "../generated/google/rpc/PreconditionFailure.js";
import type { ResourceInfo, ResourceInfo__Output } from "../generated/google/rpc/ResourceInfo.js";
import type { RetryInfo, RetryInfo__Output } from "../generated/google/rpc/RetryInfo.js";
import type { Status, Status__Output } from "../generated/google/rpc/Status.js";
import type { ProtoGrpcType as HostProto } from "../generated/host.js";
import type { ProtoGrpcType as LeaseProto } from "../generated/lease.js";

import { SERVICES } from "../generated/services.js";
import type { ProtoGrpcType as VmmProto } from "../generated/vmm.js";
import { lateDefinition, type ServiceShape } from "./late-service.js";
import { protoLoader } from "./libraries.js";

let loaded: PackageDefinition | null = null;

export function packageDefinition(): PackageDefinition {
  const read = (): object => JSON.parse(readFileSync(new URL("../../../src/generated/api.json", import.meta.url), "utf8")) as object;
  loaded ??= protoLoader().fromJSON(read(), { longs: String, enums: String, defaults: true, oneofs: true });
  return loaded;
}

/**
 * What reflection shows. proto-loader makes file descriptors of its own, without their imports and with relative type names, which strict clients (buf, grpcurl) refuse;
 * these come from the schema compiler (deploy/setup.mjs).
 */
export function reflectedFiles(): readonly Buffer[] {
  return filesOf(readFileSync(new URL("../../../src/generated/reflection.binpb", import.meta.url)));
}

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

type V1 = (DeviceProto & LeaseProto & HostProto & VmmProto & DriverProto)["aperture"]["v1"];

function service<Name extends "DeviceService" | "LeaseService" | "HostService" | "VmmService" | "DriverService">(
  name: Name,
): V1[Name]["service"] {
  const shape: ServiceShape = SERVICES[`aperture.v1.${name}`];
  return lateDefinition(shape, () => packageDefinition()[`aperture.v1.${name}`] as ServiceDefinition) as unknown as V1[Name]["service"];
}

export const services = {
  device: service("DeviceService"),
  lease: service("LeaseService"),
  host: service("HostService"),
  vmm: service("VmmService"),
  driver: service("DriverService"),
};

type Codec<I extends object, O extends object> = Pick<MessageTypeDefinition<I, O>, "serialize" | "deserialize">;

function message<I extends object, O extends object>(name: string): Codec<I, O> {
  const definition = (): Codec<I, O> => {
    const found = packageDefinition()[name];
    if (!found) throw new Error(`proto/ declares no ${name}`);
    return found as unknown as Codec<I, O>;
  };
  return { serialize: (value) => definition().serialize(value), deserialize: (bytes) => definition().deserialize(bytes) };
}

export const messages = {
  region: message<Region, Region__Output>("aperture.v1.Region"),
  vmmArguments: message<VmmArguments, VmmArguments__Output>("aperture.v1.VmmArguments"),
  any: message<Any, Any__Output>("google.protobuf.Any"),
  status: message<Status, Status__Output>("google.rpc.Status"),
  errorInfo: message<ErrorInfo, ErrorInfo__Output>("google.rpc.ErrorInfo"),
  badRequest: message<BadRequest, BadRequest__Output>("google.rpc.BadRequest"),
  resourceInfo: message<ResourceInfo, ResourceInfo__Output>("google.rpc.ResourceInfo"),
  preconditionFailure: message<PreconditionFailure, PreconditionFailure__Output>("google.rpc.PreconditionFailure"),
  retryInfo: message<RetryInfo, RetryInfo__Output>("google.rpc.RetryInfo"),
};
