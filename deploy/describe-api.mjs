// Writes what a start needs of the API, and no more, into src/generated: services.ts, the methods of each service as the libraries define them, and api.json, proto/ as
// proto-loader reads it. To read and compile all that is half of a start; the daemon announces its services from the table and loads the rest at the first call
// (src/rpc/late-service.ts).

import { writeFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { loadSync } from "@grpc/proto-loader";
import { loadProtosWithOptionsSync } from "@grpc/proto-loader/build/src/util.js";
import { ReflectionService } from "@grpc/reflection";
import { HealthImplementation } from "grpc-health-check";

const root = resolve(dirname(fileURLToPath(import.meta.url)), "..");
const options = { includeDirs: [join(root, "proto")] };
const api = ["device", "lease", "host", "vmm", "driver"].map((name) => `aperture/v1/${name}.proto`);

const own = loadSync(api, options);
const definitions = ["DeviceService", "LeaseService", "HostService", "VmmService", "DriverService"].map(
  (name) => own[`aperture.v1.${name}`],
);
const server = { addService: (definition) => definitions.push(definition) };
new HealthImplementation({}).addToServer(server);
new ReflectionService({}).addToServer(server);

const table = {};
for (const definition of definitions)
  for (const [name, { path, requestStream, responseStream, originalName }] of Object.entries(definition)) {
    const service = path.split("/")[1];
    table[service] ??= {};
    table[service][name] = { path, requestStream, responseStream, originalName };
  }

const write = (name, content) => writeFileSync(join(root, "src/generated", name), content);
write("services.ts", `// Written by deploy/describe-api.mjs.\n\nexport const SERVICES = ${JSON.stringify(table, null, 2)} as const;\n`);
write("api.json", JSON.stringify(loadProtosWithOptionsSync([...api, "google/rpc/status.proto"], options).toJSON()));
