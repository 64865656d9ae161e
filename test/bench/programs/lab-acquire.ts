// In a guest of the lab: what it costs to acquire a real VFIO device from the daemon, beside the system calls alone. Prints one line of JSON, microseconds.
// Usage: lab-acquire.js LEASE_CLIENT VFIO_DIRECT COUNT ROUNDS

import { readdirSync } from "node:fs";
import { DaemonProcess } from "../../harness/daemon.js";
import { edu, igbVfs } from "../../lab/devices.js";
import type { Figures } from "../harness/case.js";
import { measured } from "../harness/processes.js";
import { median } from "../harness/statistics.js";

const [leaseClient = "", direct = "", count = "1", rounds = "1"] = process.argv.slice(2);

/** Devices without a reset go round too; an emulated processor is slow. */
const CONFIG = `inventory.rescan_ms = 600000
[limits]
ack_ms = 60000
first_call_ms = 60000
[[policy]]
name = "bench"
uid = [0]
device = "*"
allow_unreset = true
`;

const daemon = await DaemonProcess.start({ host: "iommufd", config: CONFIG });
const figures: Record<string, number[]> = {};
const add = (name: string, { p50 }: Figures): void => {
  if (p50 === undefined) throw new Error("no p50");
  figures[name] = [...(figures[name] ?? []), p50];
};
for (let round = 0; round < Number(rounds); round += 1) {
  for (const [name, { address }] of [
    ["edu", edu],
    ["vf", igbVfs[0]],
  ] as const) {
    const [vfio] = readdirSync(`/sys/bus/pci/devices/${address}/vfio-dev`);
    add(`${name}Direct`, await measured([direct, `/dev/vfio/devices/${vfio}`, count], null));
    const sockets = ["--socket", daemon.socket, "--channel", `${daemon.socket}.channel`, "--address", address, "--release"];
    const numbers = ["--connections", "1", "--count", count, "--warmup", "3", "--descriptors", "2", "--regions", "-1"];
    add(name, await measured([leaseClient, "--way", "push", ...sockets, ...numbers], null));
  }
}
await daemon.stop();
process.stdout.write(`${JSON.stringify(Object.fromEntries(Object.entries(figures).map(([name, values]) => [name, median(values)])))}\n`);
process.exit(0);
