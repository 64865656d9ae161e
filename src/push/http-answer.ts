// An HTTP/1.1 response as bytes, as far as Cloud Hypervisor's server (micro-http) makes them: a status line, headers, a body of Content-Length bytes. Pure.

import { PushError } from "./errors.js";

const LONGEST_HEAD = 16 << 10;
/** vm.info of a VM with hundreds of devices is some hundred KiB. */
const LONGEST_BODY = 4 << 20;

export interface HttpAnswer {
  readonly status: number;
  /** Empty: none. */
  readonly body: string;
}

/** Reads one response after the other. */
export class HttpAnswerReader {
  #bytes: Buffer = Buffer.alloc(0);

  /** The response that these bytes complete; null: more have to come. Throws PushError VMM_PROTOCOL. */
  push(bytes: Buffer): HttpAnswer | null {
    this.#bytes = Buffer.concat([this.#bytes, bytes]);
    const end = this.#bytes.indexOf("\r\n\r\n");
    if (end < 0) {
      if (this.#bytes.length > LONGEST_HEAD || !"HTTP/1.".startsWith(this.#bytes.subarray(0, 7).toString("latin1"))) throw this.#notHttp();
      return null;
    }
    const [line = "", ...headers] = this.#bytes.subarray(0, end).toString("latin1").split("\r\n");
    const status = /^HTTP\/1\.[01] (\d{3})(?: |$)/.exec(line)?.[1];
    if (status === undefined || end > LONGEST_HEAD) throw this.#notHttp();
    const length = this.#length(headers);
    const begin = end + 4;
    if (this.#bytes.length < begin + length) return null;
    const body = this.#bytes.subarray(begin, begin + length).toString("utf8");
    this.#bytes = this.#bytes.subarray(begin + length);
    return { status: Number(status), body };
  }

  #length(headers: readonly string[]): number {
    const named = headers.map((header) => /^([^:\s]+):\s*(.*?)\s*$/.exec(header));
    const value = (name: string): string | undefined => named.find((header) => header?.[1]?.toLowerCase() === name)?.[2];
    const text = value("content-length") ?? "0";
    if (value("transfer-encoding") !== undefined || !/^\d{1,8}$/.test(text) || Number(text) > LONGEST_BODY) throw this.#notHttp();
    return Number(text);
  }

  #notHttp(): PushError {
    const seen = JSON.stringify(this.#bytes.subarray(0, 40).toString("latin1"));
    return new PushError(
      "VMM_PROTOCOL",
      `what the VMM's socket sent is no answer of Cloud Hypervisor's API: ${seen}`,
      "name the socket that Cloud Hypervisor was given with --api-socket",
    );
  }
}
