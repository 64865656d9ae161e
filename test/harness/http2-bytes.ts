// HTTP/2 and gRPC byte by byte, for clients that must do what no library does: stop in the middle.

/** The first bytes of every HTTP/2 connection (RFC 9113, 3.4). */
export const PREFACE = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "latin1");

const FrameType = { data: 0, headers: 1, resetStream: 3, settings: 4, continuation: 9 } as const;
const END_STREAM = 1;
const END_HEADERS = 4;

export function http2Frame(type: number, flags: number, stream: number, payload: Uint8Array): Buffer {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.byteLength, 0, 3);
  head.writeUInt8(type, 3);
  head.writeUInt8(flags, 4);
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
}

export const SETTINGS = http2Frame(FrameType.settings, 0, 0, Buffer.alloc(0));

/** HPACK, literal without indexing, no Huffman (RFC 7541, 6.2.2). */
function literal(text: string): Buffer {
  const bytes = Buffer.from(text, "latin1");
  if (bytes.byteLength > 126) throw new RangeError("longer than this encoder goes");
  return Buffer.concat([Buffer.from([bytes.byteLength]), bytes]);
}

/** HEADERS of a gRPC call; the stream stays open. */
export function callHeaders(stream: number, path: string): Buffer {
  const fields: readonly (readonly [string, string])[] = [
    [":method", "POST"],
    [":scheme", "http"],
    [":path", path],
    [":authority", "localhost"],
    ["content-type", "application/grpc"],
    ["te", "trailers"],
  ];
  const block = fields.flatMap(([name, value]) => [Buffer.from([0]), literal(name), literal(value)]);
  return http2Frame(FrameType.headers, END_HEADERS, stream, Buffer.concat(block));
}

/** One gRPC message as DATA, and the end of the request. */
export function callMessage(stream: number, message: Uint8Array): Buffer {
  const head = Buffer.alloc(5);
  head.writeUInt32BE(message.byteLength, 1);
  return http2Frame(FrameType.data, END_STREAM, stream, Buffer.concat([head, message]));
}

/** HEADERS that never end (CVE-2024-27316 and its kin). */
export function endlessHeaders(stream: number, frames: number): Buffer {
  const field = Buffer.concat([Buffer.from([0]), literal("x-filler"), literal("y".repeat(100))]);
  const first = http2Frame(FrameType.headers, 0, stream, field);
  return Buffer.concat([first, ...Array.from({ length: frames }, () => http2Frame(FrameType.continuation, 0, stream, field))]);
}

export function resetStream(stream: number): Buffer {
  return http2Frame(FrameType.resetStream, 0, stream, Buffer.from([0, 0, 0, 8]));
}

/** A field of a protobuf message that is a number. */
export function varintField(field: number, value: bigint): Buffer {
  return Buffer.concat([varint(BigInt(field << 3)), varint(value)]);
}

/** A field that is text, bytes or a message. */
export function bytesField(field: number, value: string | Uint8Array): Buffer {
  const bytes = Buffer.from(value);
  return Buffer.concat([varint(BigInt((field << 3) | 2)), varint(BigInt(bytes.byteLength)), bytes]);
}

function varint(value: bigint): Buffer {
  const bytes: number[] = [];
  let rest = value;
  for (; rest >= 0x80n; rest >>= 7n) bytes.push(Number(rest & 0x7fn) | 0x80);
  bytes.push(Number(rest));
  return Buffer.from(bytes);
}

/** AcquireLeaseRequest for one whole device. */
export function acquireMessage(address: string): Buffer {
  return Buffer.concat([varintField(2, 1n), bytesField(3, bytesField(1, address))]);
}

/** ReleaseLeaseRequest. */
export function releaseMessage(leaseId: string): Buffer {
  return bytesField(1, leaseId);
}
