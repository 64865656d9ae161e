// Log lines on their way: together, in order, and never waited for.

import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { type LineSink, TurnLines } from "../../../src/telemetry/turn-lines.js";
import { until } from "../../harness/until.js";

class FakeSink implements LineSink {
  /** Bytes that there is room for. */
  room = Number.POSITIVE_INFINITY;
  error: string | null = null;
  readonly writes: string[] = [];

  isWritable(): boolean {
    return this.room > 0;
  }

  write(bytes: Buffer): number {
    if (this.error !== null) throw Object.assign(new Error(this.error), { code: this.error });
    const taken = bytes.subarray(0, this.room);
    this.room -= taken.length;
    this.writes.push(taken.toString());
    return taken.length;
  }
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

describe("[pure] log lines of a turn", () => {
  it("go out together at its end", async () => {
    const sink = new FakeSink();
    const lines = new TurnLines(sink);
    lines.write("one\n");
    lines.write("two\n");
    assert.deepEqual(sink.writes, []);
    await turn();
    assert.deepEqual(sink.writes, ["one\ntwo\n"]);
    lines.write("three\n");
    await turn();
    assert.deepEqual(sink.writes, ["one\ntwo\n", "three\n"]);
  });

  it("are made at its end too, in order, also what is asked for while they are made", async () => {
    const sink = new FakeSink();
    const lines = new TurnLines(sink);
    const made: number[] = [];
    const later = (n: number, then = (): void => {}): void =>
      lines.later(() => {
        made.push(n);
        lines.write(`${n}\n`);
        then();
      });
    later(1, () => later(3));
    later(2);
    assert.deepEqual([made, sink.writes], [[], []]);
    await turn();
    await until(
      "the third",
      () => sink.writes.join(""),
      (written) => written === "1\n2\n3\n",
    );
    later(4);
    lines.flush();
    assert.deepEqual(made, [1, 2, 3, 4]);
    assert.equal(sink.writes.join(""), "1\n2\n3\n4\n");
  });

  it("are written in pieces for which a pipe has room when it says so", async () => {
    const sink = new FakeSink();
    const lines = new TurnLines(sink);
    lines.write("x".repeat(10_000));
    await turn();
    assert.deepEqual(
      sink.writes.map((each) => each.length),
      [4096, 4096, 1808],
    );
  });

  it("wait while there is no room, in order, and are lost and counted beyond a mebibyte", async () => {
    const sink = new FakeSink();
    const lines = new TurnLines(sink);
    sink.room = 2;
    lines.write("one\n");
    await turn();
    lines.write("two\n");
    await turn();
    assert.deepEqual(sink.writes, ["on"]);
    lines.write("y".repeat(1024 * 1024 - 6));
    assert.equal(lines.dropped, 0);
    lines.write("z");
    assert.equal(lines.dropped, 1);
    sink.room = Number.POSITIVE_INFINITY;
    await until(
      "the rest",
      () => sink.writes.join(""),
      (written) => written === `one\ntwo\n${"y".repeat(1024 * 1024 - 6)}`,
    );
    assert.equal(lines.dropped, 1);
  });

  it("are given up when nobody will ever read them, and kept when the room was taken by somebody else", async () => {
    const sink = new FakeSink();
    const lines = new TurnLines(sink);
    sink.error = "EPIPE";
    lines.write("lost\n");
    await turn();
    sink.error = "EAGAIN";
    lines.write("kept\n");
    await turn();
    sink.error = null;
    lines.flush();
    assert.deepEqual(sink.writes, ["kept\n"]);
  });
});
