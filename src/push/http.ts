// HTTP/1.1 over a UNIX socket with descriptors beside a request, one request at a time on one connection. node:http cannot send descriptors.

import { DescriptorStream } from "./descriptor-stream.js";
import { PushError } from "./errors.js";
import { type HttpAnswer, HttpAnswerReader } from "./http-answer.js";

export interface HttpRequest {
  readonly method: "GET" | "PUT";
  readonly path: string;
  /** Sent as JSON; null: none. */
  readonly body: unknown;
  /** Sent with it (SCM_RIGHTS); stays the caller's. */
  readonly descriptors?: readonly number[];
  readonly timeoutMs: number;
}

interface Waiter {
  readonly resolve: (answer: HttpAnswer) => void;
  readonly reject: (error: PushError) => void;
  readonly timer: NodeJS.Timeout;
}

export class HttpConnection {
  readonly #path: string;
  readonly #stream: DescriptorStream;
  readonly #reader = new HttpAnswerReader();
  /** Settles when the connection is over, with why. Never rejects. */
  readonly closed: Promise<PushError>;
  #settleClosed: (why: PushError) => void = () => undefined;
  #why: PushError | null = null;
  #waiter: Waiter | null = null;

  /** Throws PushError VMM_UNREACHABLE, VMM_SILENT. */
  constructor(path: string) {
    this.#path = path;
    this.closed = new Promise((resolve) => {
      this.#settleClosed = resolve;
    });
    this.#stream = DescriptorStream.connect(path, {
      data: (bytes) => this.#received(bytes),
      closed: () => this.#end(new PushError("VMM_GONE", `the VMM closed its API socket ${path}`)),
    });
  }

  /** Any status is an answer. Throws PushError VMM_SILENT (the connection is then over), VMM_PROTOCOL, VMM_GONE. */
  ask(request: HttpRequest): Promise<HttpAnswer> {
    if (this.#waiter !== null) throw new Error(`${request.path} while another request waits for its answer`);
    if (this.#why !== null) return Promise.reject(this.#why);
    const answer = new Promise<HttpAnswer>((resolve, reject) => {
      const silent = (): void =>
        this.#end(new PushError("VMM_SILENT", `${this.#path} did not answer ${request.path} within ${request.timeoutMs / 1000} s`));
      this.#waiter = { resolve, reject, timer: setTimeout(silent, request.timeoutMs) };
    });
    try {
      this.#stream.send(textOf(request), request.descriptors ?? []);
    } catch (error) {
      this.#end(error instanceof PushError ? error : new PushError("VMM_GONE", String(error)));
    }
    return answer;
  }

  /** Twice is harmless. */
  close(): void {
    this.#end(new PushError("VMM_GONE", "the connection was closed on this side"));
  }

  #received(bytes: Buffer): void {
    try {
      const nothing = Buffer.alloc(0);
      for (let answer = this.#reader.push(bytes); answer !== null && this.#why === null; answer = this.#reader.push(nothing)) {
        const waiter = this.#waiter;
        if (waiter === null) throw new PushError("VMM_PROTOCOL", "the VMM's API socket answered what nobody asked");
        this.#waiter = null;
        clearTimeout(waiter.timer);
        waiter.resolve(answer);
      }
    } catch (error) {
      this.#end(error instanceof PushError ? error : new PushError("VMM_PROTOCOL", String(error)));
    }
  }

  #end(why: PushError): void {
    if (this.#why !== null) return;
    this.#why = why;
    const waiter = this.#waiter;
    this.#waiter = null;
    if (waiter !== null) {
      clearTimeout(waiter.timer);
      waiter.reject(why);
    }
    this.#stream.close();
    this.#settleClosed(why);
  }
}

function textOf({ method, path, body }: HttpRequest): string {
  const head = `${method} ${path} HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n`;
  if (body === null) return `${head}\r\n`;
  const text = JSON.stringify(body);
  return `${head}Content-Length: ${Buffer.byteLength(text)}\r\n\r\n${text}`;
}
