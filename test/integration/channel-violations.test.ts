// The descriptor channel against a client that does not keep to docs/PROTOCOL.md: its channel is closed, what it was offered is undone, nobody else notices.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { text } from "node:stream/consumers";
import { after, afterEach, before, describe, it } from "node:test";
import { encodeAck, encodeAttach } from "../../src/client/frame.js";
import { native } from "../../src/native.js";
import { DaemonProcess } from "../harness/daemon.js";
import { LeaseBench } from "../harness/lease-bench.js";
import { type ArrivedOffer, RawChannel } from "../harness/raw-channel.js";

const NVME = "0000:02:00.0";
const VF = "0000:41:01.0";
const NO_LEASE = "00000000-0000-4000-8000-000000000000";

/** The bytes with some changed. */
function changed(bytes: Uint8Array, at: number, value: number): Uint8Array {
  const copy = Uint8Array.from(bytes);
  copy[at] = value;
  return copy;
}

/** A frame that is right but for its type and length. */
function padded(length: number, type = 1): Uint8Array {
  return changed(longer(encodeAttach(), length), 5, type);
}

/** The frame with zeros behind it, and a header that says so. */
function longer(frame: Uint8Array, length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  bytes.set(frame);
  new DataView(bytes.buffer).setUint32(8, length, true);
  return bytes;
}

interface Violation {
  readonly name: string;
  readonly bytes: Uint8Array;
  /** Descriptors that go with it. */
  readonly descriptors?: number;
  /** False: closed without a word, by the code that reads the socket. */
  readonly goodbye?: false;
}

/** On a channel that is attached and has no offer. */
const VIOLATIONS: readonly Violation[] = [
  { name: "a wrong magic number", bytes: changed(encodeAttach(), 0, 0x42) },
  { name: "a wrong version", bytes: changed(encodeAttach(), 4, 2) },
  { name: "type 0", bytes: padded(16, 0) },
  { name: "a type that only the daemon sends", bytes: padded(48, 3) },
  { name: "an unknown type", bytes: padded(16, 255) },
  { name: "a length that is not the message's", bytes: changed(encodeAttach(), 8, 17) },
  { name: "a frame shorter than a header", bytes: encodeAttach().subarray(0, 15) },
  { name: "ATTACH with a tail", bytes: padded(20) },
  { name: "ACK with a tail", bytes: padded(44, 4) },
  { name: "a second ATTACH", bytes: encodeAttach() },
  { name: "ACK of no offer", bytes: encodeAck(NO_LEASE, 1) },
  { name: "a frame as large as the daemon's buffer", bytes: padded(2_048) },
  { name: "a frame of 3,000 bytes", bytes: padded(3_000), goodbye: false },
  { name: "ACK with a descriptor", bytes: encodeAck(NO_LEASE, 1), descriptors: 1, goodbye: false },
  { name: "ACK with 30 descriptors", bytes: encodeAck(NO_LEASE, 1), descriptors: 30, goodbye: false },
];

interface Answer {
  readonly name: string;
  readonly bytes: (offer: ArrivedOffer) => Uint8Array;
  readonly descriptors?: number;
  readonly goodbye?: false;
}

/** In the place of the ACK of an offer. */
const WRONG_ANSWERS: readonly Answer[] = [
  { name: "ACK of another lease", bytes: ({ descriptors }) => encodeAck(NO_LEASE, descriptors.length) },
  { name: "ACK of one more than was sent", bytes: ({ frame, descriptors }) => encodeAck(frame.leaseId, descriptors.length + 1) },
  { name: "ACK of 4,294,967,295", bytes: ({ frame }) => encodeAck(frame.leaseId, 0xffffffff) },
  { name: "the right ACK with a tail", bytes: ({ frame, descriptors }) => longer(encodeAck(frame.leaseId, descriptors.length), 44) },
  { name: "the OFFER itself", bytes: () => padded(128, 3) },
  { name: "a second ATTACH", bytes: () => encodeAttach() },
  { name: "3,000 bytes", bytes: () => padded(3_000), goodbye: false },
  {
    name: "the right ACK, with a descriptor",
    bytes: ({ frame, descriptors }) => encodeAck(frame.leaseId, descriptors.length),
    descriptors: 1,
    goodbye: false,
  },
];

describe("[real processes, simulated host] violations of the channel's protocol", () => {
  let daemon: DaemonProcess;
  let bench: LeaseBench;
  before(async () => {
    // Nothing in these tests may come free by the clock but the retry of a quarantine: the process that has the descriptors lives on.
    daemon = await DaemonProcess.start({
      config: "[limits]\nack_ms = 60000\nfirst_call_ms = 60000\nretry_min_ms = 50\nretry_max_ms = 50\n",
    });
    bench = await LeaseBench.at(daemon);
  });
  afterEach(async () => {
    RawChannel.closeAll();
    await bench.allFree([NVME, VF]);
    await daemon.isAsBefore();
  });
  after(async () => {
    bench.close();
    await daemon.stop();
  });

  /** Any descriptors will do: these are the test's own standard output. */
  function send(channel: RawChannel, bytes: Uint8Array, descriptors = 0): void {
    channel.send(
      bytes,
      Array.from({ length: descriptors }, () => 1),
    );
  }

  for (const { name, bytes, descriptors, goodbye } of VIOLATIONS) {
    it(`${name}: closed, and the process's other channel is not`, async () => {
      const { channel: other, id } = await RawChannel.attached(daemon.socket);
      const { channel } = await RawChannel.attached(daemon.socket);
      send(channel, bytes, descriptors);
      assert.equal(await channel.goodbye(), goodbye === false ? null : "PROTOCOL_VIOLATION");
      const { frame } = await bench.held(other, VF, { channel: id.toString() });
      other.drop();
      assert.equal((await bench.release(frame.leaseId)).code, "OK");
    });
  }

  it("ATTACH that is none: closed before it is attached", async () => {
    for (const { bytes, descriptors, goodbye } of VIOLATIONS.filter(({ name }) => name !== "a second ATTACH")) {
      const channel = await RawChannel.connect(daemon.socket);
      send(channel, bytes, descriptors);
      assert.equal(await channel.goodbye(), goodbye === false ? null : "PROTOCOL_VIOLATION");
      assert.equal((await bench.acquire(NVME)).reason, "NO_DESCRIPTOR_CHANNEL");
    }
  });

  for (const { name, bytes, descriptors, goodbye } of WRONG_ANSWERS) {
    it(`${name} in the place of ACK: the lease is undone, a lease held through another channel is not`, async () => {
      const { channel: other, id } = await RawChannel.attached(daemon.socket);
      const bystander = await bench.held(other, VF, { channel: id.toString() });
      const { channel } = await RawChannel.attached(daemon.socket);
      const offer = await bench.offered(channel, NVME);
      send(channel, bytes(offer), descriptors);
      assert.equal(await channel.goodbye(), goodbye === false ? null : "PROTOCOL_VIOLATION");
      assert.equal(await bench.endOf(offer.frame.leaseId), "NOT_ACKNOWLEDGED");
      channel.drop();
      await bench.becomes(NVME, "FREE");
      assert.equal(await bench.stateOf(VF), "HELD");
      other.drop();
      assert.equal((await bench.release(bystander.frame.leaseId)).code, "OK");
    });
  }

  /** Another process writes the frame to the socket that it has inherited. */
  async function sentByAnother(channel: RawChannel, bytes: Uint8Array): Promise<void> {
    const child = spawn("cat", [], { stdio: ["pipe", channel.fd, "inherit"] });
    child.stdin?.end(bytes);
    const [status] = await once(child, "close");
    assert.equal(status, 0);
  }

  it("ACK sent by another process over an inherited socket: FOREIGN_SENDER, and the lease is undone", async () => {
    const { channel } = await RawChannel.attached(daemon.socket);
    const offer = await bench.offered(channel, NVME);
    await sentByAnother(channel, encodeAck(offer.frame.leaseId, offer.descriptors.length));
    assert.equal(await channel.goodbye(), "FOREIGN_SENDER");
    assert.equal(await bench.endOf(offer.frame.leaseId), "NOT_ACKNOWLEDGED");
  });

  it("ATTACH sent by another process: FOREIGN_SENDER, and no channel", async () => {
    const channel = await RawChannel.connect(daemon.socket);
    await sentByAnother(channel, encodeAttach());
    assert.equal(await channel.goodbye(), "FOREIGN_SENDER");
    assert.equal((await bench.acquire(NVME)).reason, "NO_DESCRIPTOR_CHANNEL");
  });

  it("an empty frame, of a client in another language", async () => {
    const script = [
      "import socket, sys",
      "s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)",
      "s.connect(sys.argv[1])",
      "s.send(bytes.fromhex(sys.argv[2])); s.recv(4096)",
      "s.send(b'')",
      "print(s.recv(4096)[20:].rstrip(b'\\0').decode(), s.recv(4096))",
    ];
    const attach = Buffer.from(encodeAttach()).toString("hex");
    const child = spawn("python3", ["-c", script.join("\n"), `${daemon.socket}.channel`, attach], { stdio: ["ignore", "pipe", "inherit"] });
    assert.equal(await text(child.stdout), "PROTOCOL_VIOLATION b''\n");
  });

  it("closes what it is sent: 200 frames with 16 descriptors each", async () => {
    for (let i = 0; i < 200; i += 1) {
      const channel = await RawChannel.connect(daemon.socket);
      // Sent twice: what lies behind the frame that closes the channel is never read.
      for (let twice = 0; twice < 2; twice += 1) native.sendFrame(channel.fd, encodeAttach(), Array<number>(16).fill(1));
      await channel.goodbye();
      channel.close();
    }
  });

  it("has told each violation to its log and its metrics, and nothing of what was sent", async () => {
    const records = daemon.records().filter((record) => record.event === "peer.rejected");
    const reasons = new Set(records.map((record) => record.fields["reason"]));
    assert.deepEqual([...reasons].sort(), ["FOREIGN_SENDER", "PROTOCOL_VIOLATION"]);
    for (const record of records) assert.deepEqual(Object.keys(record.fields).sort(), ["peer", "reason"]);
    const line = (await daemon.metrics())
      .split("\n")
      .find((each) => each.startsWith('aperture_peer_rejections_total{reason="FOREIGN_SENDER"'));
    assert.equal(line, 'aperture_peer_rejections_total{reason="FOREIGN_SENDER"} 2');
  });
});
