// Who is calling, with real processes and pidfds behind a poll set that the test turns by hand.

import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { afterEach, beforeEach, describe, it } from "node:test";
import { native } from "../../../src/native.js";
import { type ConnectedPeer, Processes } from "../../../src/peer/processes.js";
import type { Accepted, PollSet } from "../../../src/poll-set.js";
import { descriptorsOf } from "../../harness/descriptors.js";

/** Keeps the watches; exits() tells one as the kernel would. */
class HandTurned {
  readonly watches = new Map<number, () => void>();
  fail = false;
  #next = 1;

  watchExit(_pidfd: number, to: () => void): ReturnType<PollSet["watchExit"]> {
    if (this.fail) return { value: null, error: { operation: "epoll_ctl", errno: 28, code: "ENOSPC", subject: "" } };
    const id = this.#next;
    this.#next += 1;
    this.watches.set(id, to);
    return { value: id, error: null };
  }

  remove(id: number): void {
    this.watches.delete(id);
  }
}

describe("[real pidfds] Processes", () => {
  let poll: HandTurned;
  let exits: number[];
  let processes: Processes;
  let before: readonly string[];
  const children: ChildProcess[] = [];

  function make(identity: "pidfd" | "pid" = "pidfd"): Processes {
    return new Processes(poll as unknown as PollSet, identity, (id) => exits.push(id));
  }
  beforeEach(() => {
    poll = new HandTurned();
    exits = [];
    processes = make();
    before = descriptorsOf(process.pid);
  });
  afterEach(async () => {
    for (const child of children.splice(0)) await kill(child);
    processes.close();
  });

  /** The pidfds that this process has. */
  function left(): readonly string[] {
    return descriptorsOf(process.pid).filter((target) => target.includes("pidfd"));
  }

  async function child(): Promise<{ readonly pid: number; readonly end: () => Promise<void> }> {
    const started = spawn("sleep", ["1000"], { stdio: "ignore" });
    children.push(started);
    await once(started, "spawn");
    return { pid: started.pid ?? -1, end: () => kill(started) };
  }

  async function kill(started: ChildProcess): Promise<void> {
    if (started.exitCode !== null || started.signalCode !== null) return;
    started.kill("SIGKILL");
    await once(started, "exit");
  }

  function connection(pid: number, pidfd = native.pidfdOpen(pid).value ?? -1): Accepted {
    // fd 0 is no socket here, so its groups stay unknown.
    return { fd: 0, pid, uid: 1000, gid: 1000, pidfd };
  }

  function peerOf(accepted: Accepted): ConnectedPeer {
    const identified = processes.identify(accepted);
    if (identified.refusal !== null) assert.fail(identified.refusal);
    return identified.peer;
  }

  it("knows two connections of one process as one, and watches it once", async () => {
    const { pid } = await child();
    const [first, second] = [peerOf(connection(pid)), peerOf({ ...connection(pid), uid: 2000 })];
    assert.equal(first.processId, second.processId);
    assert.deepEqual([first.uid, second.uid], [1000, 2000], "the user is the connection's");
    assert.deepEqual([processes.count, poll.watches.size, left().length], [1, 1, 1]);
    first.forget();
    first.forget();
    assert.equal(processes.count, 1);
    second.forget();
    assert.deepEqual([processes.count, poll.watches.size, left()], [0, 0, []]);
  });

  it("keeps a process watched while somebody asks for it, without any connection", async () => {
    const { pid, end } = await child();
    const peer = peerOf(connection(pid));
    const unwatch = peer.watch();
    peer.forget();
    assert.equal(processes.count, 1);
    await end();
    assert.equal(peer.isAlive(), false);
    for (const exited of [...poll.watches.values()]) exited();
    assert.deepEqual(exits, [peer.processId]);
    unwatch();
    assert.deepEqual([processes.count, poll.watches.size, left()], [0, 0, []]);
  });

  it("takes a reused pid for another process, and ends the first one at once", async () => {
    const [old, successor] = [await child(), await child()];
    const first = peerOf(connection(old.pid));
    await old.end();
    // The number is the same, the process behind the pidfd is another: what reuse looks like at accept.
    const second = peerOf(connection(old.pid, native.pidfdOpen(successor.pid).value ?? -1));
    assert.notEqual(first.processId, second.processId);
    assert.deepEqual([first.isAlive(), second.isAlive()], [false, true]);
    assert.deepEqual(exits, [first.processId]);
    // The late news of the first one must not touch the second.
    first.forget();
    assert.equal(second.isAlive(), true);
    assert.deepEqual(exits, [first.processId]);
    second.forget();
    assert.deepEqual([processes.count, poll.watches.size, left()], [0, 0, []]);
  });

  it("refuses who has exited, who cannot be seen, and who cannot be watched, and closes their pidfds", async () => {
    const { pid, end } = await child();
    const gone = native.pidfdOpen(pid).value ?? -1;
    await end();
    assert.equal(processes.identify(connection(pid, gone)).refusal, "EXITED");
    const self = (): number => native.pidfdOpen(process.pid).value ?? -1;
    for (const hidden of [0, -1]) assert.equal(processes.identify(connection(hidden, self())).refusal, "INVISIBLE_PID");
    assert.equal(processes.identify(connection(process.pid, -1)).refusal, "NO_PIDFD");
    poll.fail = true;
    assert.equal(processes.identify(connection(process.pid)).refusal, "WATCH_FAILED");
    assert.deepEqual([processes.count, left(), exits], [0, [], []]);
    assert.deepEqual(descriptorsOf(process.pid), before);
  });

  it("opens the pidfd by itself only when it was told that this will do", () => {
    processes = make("pid");
    const peer = peerOf(connection(process.pid, -1));
    assert.equal(peer.isAlive(), true);
    for (const hidden of [0, -1]) assert.equal(processes.identify(connection(hidden, -1)).refusal, "NO_PIDFD");
    peer.forget();
    assert.deepEqual(left(), []);
  });

  it("tells an exit once, though it is forgotten, closed and told again", async () => {
    const { pid, end } = await child();
    const peer = peerOf(connection(pid));
    const watches = [...poll.watches.values()];
    await end();
    for (const exited of [...watches, ...watches]) exited();
    peer.forget();
    processes.close();
    assert.deepEqual(exits, [peer.processId]);
    assert.deepEqual(left(), []);
  });
});
