// A Cloud Hypervisor as far as its API socket goes (vmm/src/api/http, micro-http). What it holds is told by inode.

import { native } from "../../src/native.js";
import { identity } from "./fake-qmp.js";
import { type StreamPeer, StreamServer } from "./stream-server.js";

export const PING = { build_version: "v53.0.0", version: "53.0.0", pid: 1, features: ["kvm"] };

export interface Request {
  readonly line: string;
  readonly body: string;
  readonly files: readonly string[];
}

/** Descriptors belong to the request whose bytes they came with, and a second one is an error, as there. */
export class FakeCloudHypervisor {
  readonly requests: Request[] = [];
  /** Answers by command; the default is success. */
  readonly answers = new Map<string, string>();
  readonly inside = new Map<string, number>();
  /** How often vm.info still shows a device after it was removed. */
  lingering = 0;
  closed = 0;
  readonly #server: StreamServer;
  readonly #leaving = new Map<string, number>();
  #bytes = Buffer.alloc(0);
  #files: number[] = [];
  #peer: StreamPeer | null = null;

  constructor() {
    this.#server = new StreamServer({
      connected: (peer) => {
        this.#peer = peer;
      },
      received: (peer, bytes, descriptors) => {
        this.#files.push(...descriptors);
        this.#bytes = Buffer.concat([this.#bytes, bytes]);
        this.#serve(peer);
      },
      closed: () => {
        this.closed += 1;
      },
    });
  }

  get path(): string {
    return this.#server.path;
  }

  get holds(): Readonly<Record<string, string>> {
    return Object.fromEntries([...this.inside].map(([id, fd]) => [id, identity(fd)]));
  }

  exit(): void {
    this.#peer?.close();
  }

  stop(): void {
    for (const fd of [...this.inside.values(), ...this.#files]) native.closeDescriptor(fd);
    this.#server.stop();
  }

  #serve(peer: StreamPeer): void {
    const end = this.#bytes.indexOf("\r\n\r\n");
    if (end < 0) return;
    const head = this.#bytes.subarray(0, end).toString();
    const length = Number(/Content-Length: (\d+)/.exec(head)?.[1] ?? 0);
    if (this.#bytes.length < end + 4 + length) return;
    const body = this.#bytes.subarray(end + 4, end + 4 + length).toString();
    this.#bytes = this.#bytes.subarray(end + 4 + length);
    const files = this.#files;
    this.#files = [];
    const line = head.split("\r\n")[0] ?? "";
    this.requests.push({ line, body, files: files.map(identity) });
    const command = /^(?:GET|PUT) \/api\/v1\/(\S+) HTTP\/1\.1$/.exec(line)?.[1] ?? "";
    const answer = this.answers.get(command) ?? this.#answer(command, body, files);
    for (const fd of files) if (![...this.inside.values()].includes(fd)) native.closeDescriptor(fd);
    void peer.write(answer);
  }

  #answer(command: string, body: string, files: readonly number[]): string {
    const { id = "" } = body === "" ? {} : (JSON.parse(body) as { readonly id?: string });
    const [file] = files;
    switch (command) {
      case "vmm.ping":
        return answer(200, PING);
      case "vm.add-device":
        if (files.length > 1 || file === undefined) return answer(400, ["Bad Request"]);
        this.inside.set(id, file);
        return answer(200, { id, bdf: "0000:00:06.0" });
      case "vm.remove-device":
        if (!this.inside.has(id)) return answer(404, ["Error from API", "The device could not be removed", `Unknown device id: ${id}`]);
        this.#leaving.set(id, this.lingering);
        return answer(204);
      case "vm.info":
        for (const [leaving, times] of this.#leaving) {
          this.#leaving.set(leaving, times - 1);
          const fd = this.inside.get(leaving);
          if (times > 0 || fd === undefined) continue;
          native.closeDescriptor(fd);
          this.inside.delete(leaving);
        }
        return answer(200, {
          state: "Running",
          device_tree: Object.fromEntries([...this.inside.keys()].map((each) => [each, { id: each }])),
        });
      default:
        return answer(404, ["Not Found"]);
    }
  }
}

export function answer(status: number, body?: object): string {
  const text = body === undefined ? "" : JSON.stringify(body);
  const length = body === undefined ? "" : `Content-Type: application/json\r\nContent-Length: ${Buffer.byteLength(text)}\r\n`;
  return `HTTP/1.1 ${status} \r\nServer: Cloud Hypervisor API\r\nConnection: keep-alive\r\n${length}\r\n${text}`;
}
