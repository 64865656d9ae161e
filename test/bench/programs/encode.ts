// Encoding a whole inventory in pages of 100: as the daemon does it, again (each device is encoded once and kept) and for the first time, and by protobufjs from messages that
// exist already. protobufjs makes the same encoder for a schema that it loads as its command line writes for a static module: what is compared with is its static encoding.
// Usage: encode.js ours|first|protobufjs DEVICES PASSES

import { deepStrictEqual } from "node:assert/strict";
import { createRequire } from "node:module";
import { join } from "node:path";
import { parseAddress } from "../../../src/broker/device.js";
import { type DeviceView, Inventory } from "../../../src/broker/inventory.js";
import { SimulatedHost } from "../../../src/host/simulated-host.js";
import { EncodedDevices } from "../../../src/rpc/encoded-devices.js";
import { toDevice } from "../../../src/rpc/translate.js";
import { RecordingObserver } from "../../fakes/observer.js";
import { repository } from "../../lab/repository.js";
import { median } from "../harness/statistics.js";
import { addressOf, manyDevices } from "./many-devices.js";

const PAGE = 100;
const [mode = "", devices = "0", passes = "1"] = process.argv.slice(2);

/** The part of protobufjs that is used here; it comes with @grpc/proto-loader. */
interface MessageType {
  fromObject(object: object): object;
  encode(message: object): { finish(): Uint8Array };
  decode(bytes: Uint8Array): object;
  toObject(message: object, options: object): object;
}
interface Protobufjs {
  readonly Root: new () => {
    resolvePath: (origin: string, target: string) => string;
    loadSync(file: string): { lookupType(name: string): MessageType };
  };
}

function messageType(): MessageType {
  const here = createRequire(import.meta.url);
  const { Root } = createRequire(here.resolve("@grpc/proto-loader"))("protobufjs") as Protobufjs;
  const root = new Root();
  root.resolvePath = (_origin, target) => join(repository, "proto", target);
  return root.loadSync("aperture/v1/device.proto").lookupType("aperture.v1.ListDevicesResponse");
}

/** One probed device, as many times as are wanted, each with an address of its own. */
async function views(count: number): Promise<readonly DeviceView[]> {
  const observer = new RecordingObserver();
  const host = await SimulatedHost.create({ observer, devices: manyDevices(1) });
  if (host.refusal) throw new Error(host.refusal.message);
  const inventory = new Inventory(host.value, { now: Date.now, after: () => () => undefined }, observer);
  await inventory.refresh();
  await inventory.settled();
  const [view] = inventory.list();
  if (view === undefined || view.probe?.regions.length !== 6) throw new Error("the device has not been probed");
  await host.value.close();
  return Array.from({ length: count }, (_, i) => {
    const address = parseAddress(addressOf(i));
    if (address === null) throw new Error("no address");
    return { ...view, facts: { ...view.facts, address } };
  });
}

const all = await views(Number(devices));
const pages = Array.from({ length: Math.ceil(all.length / PAGE) }, (_, i) => all.slice(i * PAGE, (i + 1) * PAGE));
const type = messageType();
const messages = pages.map((page) => type.fromObject({ devices: page.map((view) => toDevice(view, "SIMULATED")), nextPageToken: "next" }));

let encoded = new EncodedDevices("SIMULATED");
const ways: Readonly<Record<string, () => readonly Uint8Array[]>> = {
  ours: () => pages.map((page) => encoded.page(page, "next")),
  first: () => {
    encoded = new EncodedDevices("SIMULATED");
    return pages.map((page) => encoded.page(page, "next"));
  },
  protobufjs: () => messages.map((message) => type.encode(message).finish()),
};
const way = ways[mode];
const reference = ways["protobufjs"];
if (way === undefined || reference === undefined) throw new Error(`there is no way ${mode}`);

// Both say the same.
const read = (bytes: Uint8Array | undefined) => type.toObject(type.decode(bytes ?? new Uint8Array()), { longs: String });
deepStrictEqual(read(way()[0]), read(reference()[0]));

const took: number[] = [];
let bytes = 0;
for (let i = 0; i < Number(passes); i += 1) {
  const begin = performance.now();
  const done = way();
  took.push(performance.now() - begin);
  bytes = done.reduce((sum, page) => sum + page.length, 0);
}
process.stdout.write(`${JSON.stringify({ milliseconds: median(took), bytes })}\n`);
process.exit(0);
