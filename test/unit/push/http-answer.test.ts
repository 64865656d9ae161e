import assert from "node:assert/strict";
import { test } from "node:test";
import { PushError } from "../../../src/push/errors.js";
import { type HttpAnswer, HttpAnswerReader } from "../../../src/push/http-answer.js";

/** As micro-http writes it. */
const PLAIN =
  'HTTP/1.1 200 \r\nServer: Cloud Hypervisor API\r\nConnection: keep-alive\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{"a":"ü"}';
const EMPTY = "HTTP/1.1 204 \r\nServer: Cloud Hypervisor API\r\nConnection: keep-alive\r\n\r\n";

const protocol = (error: unknown): boolean => error instanceof PushError && error.reason === "VMM_PROTOCOL";

test("answers come out whole, however their bytes are cut [pure]", () => {
  const text = PLAIN.replace("9", String(Buffer.byteLength('{"a":"ü"}')));
  const bytes = Buffer.from(text + EMPTY + text);
  for (let size = 1; size <= bytes.length; size++) {
    const reader = new HttpAnswerReader();
    const seen: HttpAnswer[] = [];
    for (let at = 0; at < bytes.length; at += size) {
      for (let answer = reader.push(bytes.subarray(at, at + size)); answer !== null; answer = reader.push(Buffer.alloc(0)))
        seen.push(answer);
    }
    assert.deepEqual(seen, [
      { status: 200, body: '{"a":"ü"}' },
      { status: 204, body: "" },
      { status: 200, body: '{"a":"ü"}' },
    ]);
  }
});

test("what is no answer of this API is refused as soon as it is seen [pure]", () => {
  for (const text of [
    "x",
    '{"QMP": {}}',
    "HTTP/2 200\r\n\r\n",
    "HTTP/1.1 20 OK\r\n\r\n",
    "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
    "HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    `HTTP/1.1 200 OK\r\nX: ${"a".repeat(20_000)}`,
    `HTTP/1.1 200 OK\r\nX: ${"a".repeat(20_000)}\r\n\r\n`,
  ])
    assert.throws(() => new HttpAnswerReader().push(Buffer.from(text)), protocol, text.slice(0, 60));
});
