// Metrics as prom-client invites one to write them: a series for each device and gauge.
// Usage: prom-server.js DEVICES

import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { Gauge, Registry } from "prom-client";
import { addressOf } from "./many-devices.js";

const GAUGES = ["leasable", "leased", "regions", "bytes", "numa_node"] as const;

const registry = new Registry();
const labelNames = ["address", "driver", "state"] as const;
for (const name of GAUGES) {
  const gauge = new Gauge({ name: `device_${name}`, help: `Whether, or how many: ${name}.`, labelNames, registers: [registry] });
  for (let i = 0; i < Number(process.argv[2]); i += 1) gauge.set({ address: addressOf(i), driver: "vfio-pci", state: "free" }, i % 7);
}
const server = createServer((_request, response) => {
  void registry.metrics().then((text) => response.setHeader("content-type", registry.contentType).end(text));
});
server.listen(0, "127.0.0.1", () => process.stdout.write(`READY http://127.0.0.1:${(server.address() as AddressInfo).port}\n`));
process.on("SIGTERM", () => process.exit(0));
