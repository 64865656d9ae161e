// Libraries that nobody needs before the first call, or ever. They are required, not imported, because a codec cannot wait for a promise; deploy/bundle.mjs takes them into
// the bundle all the same, so that these lines are the only copies.

import { createRequire } from "node:module";

const require = createRequire(import.meta.url);

export const protoLoader = () => require("@grpc/proto-loader") as typeof import("@grpc/proto-loader");
export const health = () => require("grpc-health-check") as typeof import("grpc-health-check");
export const reflection = () => require("@grpc/reflection") as typeof import("@grpc/reflection");

let writer: typeof import("protobufjs").Writer | null = null;
/** Asked for at each message. */
export const protobufWriter = () => {
  writer ??= (require("protobufjs/minimal") as typeof import("protobufjs")).Writer;
  return writer;
};
