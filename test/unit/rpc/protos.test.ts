import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import { loadSync, type PackageDefinition } from "@grpc/proto-loader";
import { SERVICES } from "../../../src/generated/services.js";
import { packageDefinition, services } from "../../../src/rpc/protos.js";

const FILES = [...["device", "lease", "host", "vmm", "driver"].map((name) => `aperture/v1/${name}.proto`), "google/rpc/status.proto"];

/** Everything of a definition but its functions and the files that proto-loader makes up. */
function shape(definitions: PackageDefinition): unknown {
  return JSON.parse(JSON.stringify(definitions, (key, value: unknown) => (key === "fileDescriptorProtos" ? undefined : value)));
}

describe("[pure] the API as it was prepared", () => {
  const includeDirs = [fileURLToPath(new URL("../../../../proto", import.meta.url))];
  const asWritten = loadSync(FILES, { includeDirs, longs: String, enums: String, defaults: true, oneofs: true });

  it("is what proto-loader makes of proto/", () => assert.deepEqual(shape(packageDefinition()), shape(asWritten)));

  it("has every method of every service from the start", () => {
    const declared = Object.entries(asWritten).filter(([name]) => /^aperture\.v1\.\w+Service$/.test(name));
    assert.equal(declared.length, 5);
    for (const [name, definition] of declared) {
      const known = SERVICES[name as keyof typeof SERVICES];
      const wanted = Object.entries(definition).map(([method, { path, requestStream, responseStream, originalName }]) => [
        method,
        { path, requestStream, responseStream, originalName },
      ]);
      assert.deepEqual(known, Object.fromEntries(wanted));
    }
  });

  it("speaks as the loaded one does", () => {
    const request = { address: "0000:01:00.0" };
    const bytes = services.device.GetDevice.requestSerialize(request);
    assert.deepEqual(services.device.GetDevice.requestDeserialize(bytes), request);
    assert.equal(bytes.toString("latin1"), `\n\x0c${request.address}`);
  });
});
