// Requests that are made to cost more than they are worth: too large, too deep, too many fields, packed. The event loop goes on, and so does the daemon.

import assert from "node:assert/strict";
import { after, afterEach, before, describe, it } from "node:test";
import { gzipSync } from "node:zlib";
import { compressionAlgorithms } from "@grpc/grpc-js";
import { DaemonProcess } from "../harness/daemon.js";
import { bytesField, varintField } from "../harness/http2-bytes.js";
import { HostService, Rpc } from "../harness/rpc.js";

const LIMIT = 65_536;
const LIST_DEVICES = "/aperture.v1.DeviceService/ListDevices";
const ACQUIRE = "/aperture.v1.LeaseService/AcquireLease";

/** The field again and again, to exactly this size; the rest is an unknown varint field of one byte each. */
function filled(size: number, field: Buffer): Buffer {
  const count = Math.floor(size / field.byteLength);
  return Buffer.concat([...Array.from({ length: count }, () => field), Buffer.alloc(size - count * field.byteLength, 0)]);
}

function nested(depth: number, innermost: Buffer, field: number): Buffer {
  let message = innermost;
  for (let i = 0; i < depth; i += 1) message = bytesField(field, message);
  return message;
}

interface Bomb {
  readonly name: string;
  readonly path: string;
  readonly message: Buffer;
}

const BOMBS: readonly Bomb[] = [
  { name: "32,768 empty submessages", path: ACQUIRE, message: filled(LIMIT, bytesField(3, "")) },
  { name: "16,384 devices with a packed region list", path: ACQUIRE, message: filled(LIMIT, bytesField(3, bytesField(2, ""))) },
  { name: "one device with 65,000 regions", path: ACQUIRE, message: bytesField(3, bytesField(2, Buffer.alloc(65_000, 1))) },
  { name: "32,768 filters, each over the other", path: LIST_DEVICES, message: filled(LIMIT, bytesField(3, "")) },
  { name: "21,845 addresses", path: LIST_DEVICES, message: bytesField(3, filled(LIMIT - 8, bytesField(1, "x"))) },
  { name: "one address of 65,000 bytes", path: LIST_DEVICES, message: bytesField(3, bytesField(1, "0".repeat(65_000))) },
  { name: "200 messages in one another", path: LIST_DEVICES, message: nested(200, Buffer.alloc(0), 3) },
  { name: "200 unknown groups in one another", path: LIST_DEVICES, message: Buffer.alloc(200, 0x7b) },
  { name: "65,536 unknown groups in one another", path: LIST_DEVICES, message: Buffer.alloc(LIMIT, 0x7b) },
  { name: "16,384 unknown fields", path: LIST_DEVICES, message: filled(LIMIT, varintField(1000, 1n)) },
  { name: "a length of 4 GiB", path: LIST_DEVICES, message: Buffer.from([0x1a, 0xff, 0xff, 0xff, 0xff, 0x0f]) },
  { name: "a varint without end", path: LIST_DEVICES, message: Buffer.alloc(LIMIT, 0xff) },
  { name: "bytes that are no UTF-8", path: "/aperture.v1.DeviceService/GetDevice", message: bytesField(1, Buffer.alloc(1_000, 0xc3)) },
];

describe("[real processes, simulated host] oversized requests", () => {
  let daemon: DaemonProcess;
  let rpc: Rpc;
  before(async () => {
    daemon = await DaemonProcess.start();
    rpc = new Rpc(daemon.socket);
    await serves();
    daemon.rebase();
  });
  afterEach(() => daemon.isAsBefore());
  after(async () => {
    Rpc.closeAll();
    await daemon.stop();
  });

  async function serves(): Promise<void> {
    assert.equal((await rpc.call(HostService, "GetHostInfo", {})).code, "OK");
  }

  /** Largest delay since it was asked before. */
  async function lagMs(): Promise<number> {
    const line = (await daemon.metrics()).split("\n").find((each) => each.startsWith("aperture_event_loop_lag_seconds "));
    return Number(line?.split(" ")[1]) * 1_000;
  }

  async function send(path: string, message: Buffer): Promise<string> {
    return (await rpc.bytes(path, message, (bytes) => bytes)).code;
  }

  it("are refused beyond limits.request_bytes, and not at it", async () => {
    // An unknown field of bytes: valid, and of any size. Its tag and length take 5 bytes.
    const sized = (size: number): Buffer => bytesField(1000, Buffer.alloc(size - 5));
    assert.equal(sized(LIMIT).byteLength, LIMIT);
    assert.equal(await send(LIST_DEVICES, sized(LIMIT)), "OK");
    for (const size of [LIMIT + 1, 4 * LIMIT, 4 << 20])
      assert.equal(await send(LIST_DEVICES, sized(size)), "RESOURCE_EXHAUSTED", String(size));
    await serves();
  });

  it("cost the event loop less than 250 ms each", async (t) => {
    await lagMs();
    let worst = 0;
    for (const { name, path, message } of BOMBS) {
      assert.ok(message.byteLength <= LIMIT, `${name}: ${message.byteLength} bytes would be refused for their number alone`);
      const code = await send(path, message);
      assert.ok(["OK", "INVALID_ARGUMENT", "INTERNAL"].includes(code), `${name}: ${code}`);
      const lag = await lagMs();
      assert.ok(lag < 250, `${name}: ${Math.round(lag)} ms`);
      worst = Math.max(worst, lag);
    }
    t.diagnostic(`worst event-loop lag: ${Math.round(worst)} ms`);
    await serves();
  });

  it("are refused when they are small only as long as they are packed", async () => {
    const message = Buffer.alloc(32 << 20);
    assert.ok(gzipSync(message).byteLength < LIMIT);
    const packing = new Rpc(daemon.socket, { "grpc.default_compression_algorithm": compressionAlgorithms.gzip });
    assert.equal((await packing.bytes(LIST_DEVICES, Buffer.alloc(0), (bytes) => bytes)).code, "OK");
    await lagMs();
    const before = await residentBytes();
    const { code, text } = await packing.bytes(LIST_DEVICES, message, (bytes) => bytes);
    assert.equal(code, "RESOURCE_EXHAUSTED");
    assert.match(text, /decompresses to a size larger than 65536/);
    assert.ok((await lagMs()) < 250);
    const grown = (await residentBytes()) - before;
    assert.ok(grown < 32 << 20, `${grown >> 20} MiB more`);
    packing.close();
    await serves();
  });

  async function residentBytes(): Promise<number> {
    const line = (await daemon.metrics()).split("\n").find((each) => each.startsWith("process_resident_memory_bytes "));
    return Number(line?.split(" ")[1]);
  }
});
