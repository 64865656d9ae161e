// A client process that stops at any point of docs/PROTOCOL.md, so that a test can let it die there. One word a line on stdin, one JSON line on stdout for each.
//
//   SOCKET is the only argument. First line out: {"ok":true}.
//
//   connect           opens the gRPC socket, says nothing
//   preface           begins HTTP/2
//   channel           opens and attaches a channel: {id}
//   acquire ADDRESS   sends AcquireLease, does not wait
//   offer             waits for the OFFER: {lease, count}
//   ack               acknowledges it
//   release           closes the descriptors, sends ReleaseLease, does not wait
//   child             starts a child that inherits both sockets and sleeps: {pid}
//   close             closes both sockets and all descriptors, and lives on
//   call PATH HEX     one unary call: {code, text, details, answer}

import { spawn } from "node:child_process";
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { createInterface } from "node:readline";
import { acquireMessage, callHeaders, callMessage, PREFACE, releaseMessage, SETTINGS } from "./http2-bytes.js";
import { type ArrivedOffer, RawChannel } from "./raw-channel.js";

const SERVICE = "/aperture.v1.LeaseService/";

class RawClient {
  readonly #path: string;
  #grpc: Socket | null = null;
  #channel: RawChannel | null = null;
  #offer: ArrivedOffer | null = null;
  #stream = 1;

  constructor(path: string) {
    this.#path = path;
  }

  async obey(line: string): Promise<object> {
    const [verb = "", word = "", hex = ""] = line.split(" ");
    switch (verb) {
      case "connect":
        this.#grpc = connect(this.#path);
        // The daemon may close it: what is then written fails, and no test asks for more.
        this.#grpc.on("error", () => undefined).resume();
        await once(this.#grpc, "connect");
        return {};
      case "preface":
        return await this.#write(Buffer.concat([PREFACE, SETTINGS]));
      case "channel": {
        const { channel, id } = await RawChannel.attached(this.#path);
        this.#channel = channel;
        return { id: id.toString() };
      }
      case "acquire":
        return await this.#call("AcquireLease", acquireMessage(word));
      case "offer":
        this.#offer = await this.#attached().offer();
        return { lease: this.#offer.frame.leaseId, count: this.#offer.descriptors.length };
      case "ack":
        this.#attached().acknowledge(this.#offered().frame.leaseId, this.#offered().descriptors.length);
        return {};
      case "release":
        this.#attached().drop();
        return await this.#call("ReleaseLease", releaseMessage(this.#offered().frame.leaseId));
      case "child":
        return { pid: spawn("sleep", ["1000"], { stdio: ["ignore", "ignore", "ignore", this.#grpc, this.#attached().fd] }).pid };
      case "close":
        this.#channel?.close();
        this.#grpc?.destroy();
        return {};
      case "call": {
        // Loaded when it is needed: the others are to start fast.
        const { Rpc } = await import("./rpc.js");
        const { code, text, details, answer } = await new Rpc(this.#path).bytes(word, Buffer.from(hex, "hex"), (bytes) => bytes);
        return { code, text, details: details.toString("hex"), answer: answer?.toString("hex") ?? null };
      }
      default:
        throw new RangeError(`what is \`${verb}\`?`);
    }
  }

  async #call(method: string, message: Uint8Array): Promise<object> {
    const stream = this.#stream;
    this.#stream += 2;
    return await this.#write(Buffer.concat([callHeaders(stream, SERVICE + method), callMessage(stream, message)]));
  }

  async #write(bytes: Uint8Array): Promise<object> {
    const socket = this.#grpc;
    if (socket === null) throw new RangeError("connect first");
    await new Promise<void>((resolve) => socket.write(bytes, () => resolve()));
    return {};
  }

  #attached(): RawChannel {
    if (this.#channel === null) throw new RangeError("channel first");
    return this.#channel;
  }

  #offered(): ArrivedOffer {
    if (this.#offer === null) throw new RangeError("offer first");
    return this.#offer;
  }
}

function answer(value: object): void {
  process.stdout.write(`${JSON.stringify(value)}\n`);
}

const client = new RawClient(process.argv[2] ?? "");
answer({ ok: true });
for await (const line of createInterface({ input: process.stdin })) {
  try {
    answer({ ok: true, ...(await client.obey(line)) });
  } catch (error) {
    answer({ ok: false, message: error instanceof Error ? error.message : String(error) });
  }
}
process.exit();
