// The processes that call. A pid is not an identity (it is reused) and the end of a connection is not a death (a child may hold the socket), so each process is known by the
// pidfd that the kernel gave at accept, and its end is the end of that pidfd.
//
// Two connections belong to one process when their pids are equal and the process of the first is alive when the second is accepted with a live pidfd: a live process
// keeps its pid. That holds on every kernel with SO_PEERPIDFD, also before pidfds had inode numbers of their own (6.9).

import type { Peer } from "../broker/ports.js";
import { OwnedDescriptor } from "../descriptor.js";
import { native } from "../native.js";
import type { Accepted, PollSet } from "../poll-set.js";
import { groupsOf } from "./groups.js";
import { ProgramReader } from "./program.js";

interface Process {
  readonly processId: number;
  readonly pid: number;
  readonly pidfd: OwnedDescriptor;
  readonly watchId: number;
  readonly program: ProgramReader;
  alive: boolean;
  references: number;
}

export type PeerRefusal = "INVISIBLE_PID" | "NO_PIDFD" | "EXITED" | "WATCH_FAILED";

/** A peer of one connection; forget() when the connection is closed. */
export interface ConnectedPeer extends Peer {
  /** For PollSet.channel: valid while the process lives. */
  pidfd(): number;
  forget(): void;
}

export class Processes {
  readonly #pollSet: PollSet;
  readonly #byPid = new Map<number, Process>();
  readonly #onExit: (processId: number) => void;
  readonly #identity: "pidfd" | "pid";
  #nextId = 1;

  /** identity "pid": on kernels without SO_PEERPIDFD open the pid's pidfd at once, and accept that a pid reused in between goes unnoticed. */
  constructor(pollSet: PollSet, identity: "pidfd" | "pid", onExit: (processId: number) => void) {
    this.#pollSet = pollSet;
    this.#identity = identity;
    this.#onExit = onExit;
  }

  get count(): number {
    return this.#byPid.size;
  }

  /** Takes the connection's pidfd (never its socket). */
  identify({
    fd,
    pid,
    uid,
    gid,
    pidfd,
  }: Accepted): { readonly peer: ConnectedPeer; readonly refusal: null } | { readonly peer: null; readonly refusal: PeerRefusal } {
    let number = pidfd;
    if (number < 0 && this.#identity === "pid" && pid > 0) number = native.pidfdOpen(pid).value ?? -1;
    if (number < 0) return { peer: null, refusal: "NO_PIDFD" };
    const owned = new OwnedDescriptor(number, `process ${pid}`);
    const refuse = (refusal: PeerRefusal): { readonly peer: null; readonly refusal: PeerRefusal } => {
      owned.close();
      return { peer: null, refusal };
    };
    // A caller of a pid namespace that we cannot see into: nothing could be said of it later.
    if (pid <= 0) return refuse("INVISIBLE_PID");
    if (!native.isAlive(number)) return refuse("EXITED");
    const known = this.#byPid.get(pid);
    if (known && native.isAlive(known.pidfd.borrow())) {
      owned.close();
      return { peer: this.#peer(known, uid, gid, groupsOf(fd)), refusal: null };
    }
    // The number of a process whose exit has not been delivered yet: that one is over now.
    if (known) this.#exited(known);
    const process = this.#watch(pid, owned);
    return process ? { peer: this.#peer(process, uid, gid, groupsOf(fd)), refusal: null } : refuse("WATCH_FAILED");
  }

  close(): void {
    for (const process of this.#byPid.values()) this.#drop(process);
  }

  #watch(pid: number, pidfd: OwnedDescriptor): Process | null {
    const holder: { process: Process | null } = { process: null };
    const watch = this.#pollSet.watchExit(pidfd.borrow(), () => {
      if (holder.process) this.#exited(holder.process);
    });
    if (watch.error) return null;
    const program = new ProgramReader(pid);
    const process: Process = { processId: this.#nextId, pid, pidfd, watchId: watch.value, program, alive: true, references: 0 };
    this.#nextId += 1;
    holder.process = process;
    this.#byPid.set(pid, process);
    return process;
  }

  #peer(process: Process, uid: number, gid: number, groups: readonly number[] | null): ConnectedPeer {
    const reference = (): (() => void) => {
      process.references += 1;
      let held = true;
      return () => {
        if (!held) return;
        held = false;
        process.references -= 1;
        if (process.references === 0) this.#drop(process);
      };
    };
    return {
      processId: process.processId,
      pid: process.pid,
      uid,
      gid,
      groups,
      program: (named) => process.program.read(named),
      isAlive: () => process.alive && native.isAlive(process.pidfd.borrow()),
      watch: reference,
      pidfd: () => process.pidfd.borrow(),
      forget: reference(),
    };
  }

  #exited(process: Process): void {
    if (!process.alive) return;
    this.#drop(process);
    this.#onExit(process.processId);
  }

  #drop(process: Process): void {
    if (!process.alive) return;
    process.alive = false;
    this.#pollSet.remove(process.watchId);
    if (this.#byPid.get(process.pid) === process) this.#byPid.delete(process.pid);
    process.pidfd.close();
  }
}
