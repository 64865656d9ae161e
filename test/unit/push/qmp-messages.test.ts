import assert from "node:assert/strict";
import { test } from "node:test";
import { PushError } from "../../../src/push/errors.js";
import { parseQmp, QmpSplitter } from "../../../src/push/qmp-messages.js";

const MESSAGES = [
  '{"QMP": {"version": {"qemu": {"micro": 2, "minor": 0, "major": 10}, "package": "Debian"}, "capabilities": ["oob"]}}',
  '{"return": {}, "id": 1}',
  '{"event": "DEVICE_DELETED", "data": {"device": "a}\\"{b\\\\", "path": "/ü"}, "timestamp": {"seconds": 1, "microseconds": 2}}',
  '{"error": {"class": "GenericError", "desc": "Bus \'rp9\' not found"}, "id": 2}',
  '{\n    "return": {\n        "a": [ {} ]\n    }\n}',
];

const protocol = (error: unknown): boolean => error instanceof PushError && error.reason === "VMM_PROTOCOL";

test("messages come out whole, however their bytes are cut [pure]", () => {
  const bytes = Buffer.from(`${MESSAGES.join("\r\n")}\r\n`);
  for (let size = 1; size <= bytes.length; size++) {
    const splitter = new QmpSplitter();
    const seen: string[] = [];
    for (let at = 0; at < bytes.length; at += size) seen.push(...splitter.push(bytes.subarray(at, at + size)));
    assert.deepEqual(seen, MESSAGES, `${size} bytes at a time`);
  }
});

test("what begins as no object is refused at its first byte, also after a good one [pure]", () => {
  for (const bytes of ["x", "[1]", '"QMP"', "SSH-2.0-OpenSSH\r\n", "HTTP/1.1 400 Bad Request\r\n\r\n", "\0", "\r\n}"])
    assert.throws(() => new QmpSplitter().push(Buffer.from(bytes)), protocol, bytes);
  assert.throws(() => new QmpSplitter().push(Buffer.from('{"return": {}}\r\nx')), protocol);
});

test("an object that never ends is refused at 1 MiB, in one piece or in many [pure]", () => {
  const begin = Buffer.from('{"return": "');
  const long = Buffer.alloc(1 << 20, "a");
  assert.throws(() => new QmpSplitter().push(Buffer.concat([begin, long])), protocol);
  const splitter = new QmpSplitter();
  splitter.push(begin);
  assert.throws(() => {
    for (let at = 0; at < long.length; at += 4096) splitter.push(long.subarray(at, at + 4096));
  }, protocol);
  const most = (1 << 20) - begin.length - 2;
  assert.equal(new QmpSplitter().push(Buffer.concat([begin, long.subarray(0, most), Buffer.from('"}')])).length, 1);
});

test("each kind of message is read [pure]", () => {
  assert.deepEqual(MESSAGES.map(parseQmp), [
    { type: "greeting", version: { major: 10, minor: 0, micro: 2 } },
    { type: "return", id: 1, value: {} },
    { type: "event", name: "DEVICE_DELETED", data: { device: 'a}"{b\\', path: "/ü" } },
    { type: "error", id: 2, class: "GenericError", description: "Bus 'rp9' not found" },
    { type: "return", id: undefined, value: { a: [{}] } },
  ]);
});

test("objects that QMP has not are refused, and none takes the reader down [pure]", () => {
  for (const text of [
    "{}",
    "{",
    '{"QMP": null}',
    '{"QMP": {"version": {}}}',
    '{"QMP": {"version": {"qemu": {"major": "10", "minor": 0, "micro": 0}}}}',
    '{"event": 3}',
    '{"error": "no"}',
    '{"error": null}',
    '{"hello": 1}',
    '{"return" 1}',
  ])
    assert.throws(() => parseQmp(text), protocol, text);
  assert.deepEqual(parseQmp('{"event": "STOP", "data": [1]}'), { type: "event", name: "STOP", data: {} });
});
