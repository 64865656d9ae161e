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
//   show HEX          shows a ticket, does not wait
//   frame             waits for the next frame that is no OFFER: {type, ...}
//   end               waits for the end of the channel: {reason}
//   release           closes the descriptors, sends ReleaseLease, does not wait
//   child             starts a child that inherits both sockets and sleeps: {pid}
//   close             closes both sockets and all descriptors, and lives on
//   watch             starts WatchLeases, and waits for SYNCED
//   told              {events}: each [kind, lease, state, cause, holder's pid]
//   call PATH HEX     one unary call: {code, text, details, answer}

import { spawn } from "node:child_process";
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { createInterface } from "node:readline";
import type { WatchLeasesResponse__Output } from "../../src/generated/aperture/v1/WatchLeasesResponse.js";
import { acquireMessage, callHeaders, callMessage, PREFACE, releaseMessage, SETTINGS } from "./http2-bytes.js";
import { type ArrivedOffer, RawChannel } from "./raw-channel.js";

const SERVICE = "/aperture.v1.LeaseService/";

class RawClient {
  readonly #path: string;
  #grpc: Socket | null = null;
  #channel: RawChannel | null = null;
  #offer: ArrivedOffer | null = null;
  readonly #told: unknown[] = [];
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
      case "show":
        this.#attached().show(Buffer.from(word, "hex"));
        return {};
      case "frame":
        return { ...(await this.#attached().next())?.frame };
      case "end":
        return { reason: await this.#attached().goodbye() };
      case "release":
        this.#attached().drop();
        return await this.#call("ReleaseLease", releaseMessage(this.#offered().frame.leaseId));
      case "child":
        return { pid: spawn("sleep", ["1000"], { stdio: ["ignore", "ignore", "ignore", this.#grpc, this.#attached().fd] }).pid };
      case "close":
        this.#channel?.close();
        this.#grpc?.destroy();
        return {};
      case "watch":
        await this.#watch();
        return {};
      case "told":
        return { events: this.#told };
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

  async #watch(): Promise<void> {
    const { LeaseService, Rpc } = await import("./rpc.js");
    const { path, requestSerialize, responseDeserialize } = LeaseService.service.WatchLeases;
    const stream = new Rpc(this.#path).stream(path, requestSerialize({} as never), responseDeserialize);
    await new Promise<void>((resolve, reject) => {
      stream.once("error", reject);
      stream.on("data", ({ events }: WatchLeasesResponse__Output) => {
        for (const { kind, lease } of events) {
          const bare = (text: string | undefined, prefix: string): string => text?.replace(prefix, "") ?? "";
          const words = [bare(kind, "LEASE_EVENT_KIND_"), lease?.id ?? "", bare(lease?.state, "LEASE_STATE_")];
          this.#told.push([...words, bare(lease?.endCause, "END_CAUSE_"), lease?.holderPid ?? 0]);
          if (kind === "LEASE_EVENT_KIND_SYNCED") resolve();
        }
      });
    });
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
