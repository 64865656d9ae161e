// A daemon that is expected to end by itself: what it said, and how it ended.

import { spawn } from "node:child_process";
import { text } from "node:stream/consumers";
import { DAEMON, daemonEnvironment } from "./daemon.js";

export interface Run {
  readonly status: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface RunOptions {
  /** Runs it under this command, as DaemonOptions.under. */
  readonly under?: readonly string[];
  /** Needs root. */
  readonly uid?: number;
}

/** Runs the daemon's program with these arguments until it ends; ended by force after 20 s. */
export async function runDaemon(args: readonly string[], options: RunOptions = {}): Promise<Run> {
  const [command = "", ...rest] = [...(options.under ?? []), ...DAEMON, ...args];
  const identity = options.uid === undefined ? {} : { uid: options.uid, gid: options.uid };
  const child = spawn(command, rest, {
    stdio: ["ignore", "pipe", "pipe"],
    env: daemonEnvironment(),
    timeout: 20_000,
    killSignal: "SIGKILL",
    ...identity,
  });
  const [stdout, stderr, [status, signal]] = await Promise.all([
    text(child.stdout),
    text(child.stderr),
    new Promise<[number | null, NodeJS.Signals | null]>((resolve, reject) => {
      child.once("error", reject);
      child.once("close", (...end) => resolve(end));
    }),
  ]);
  return { status, signal, stdout, stderr };
}
