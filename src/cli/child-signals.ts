// Signals of this process that are meant for its child. The child shares this process's group, so what a terminal sends it sends to both: passing that on too would be
// taken for impatience. Node does not tell who sent a signal, therefore the rule is by the terminal's foreground group.

import type { ChildProcess } from "node:child_process";
import { readFileSync } from "node:fs";

const PASSED_ON = ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGALRM", "SIGWINCH", "SIGCONT"] as const;

/** What a terminal sends to its whole foreground group. */
const FROM_TERMINAL: ReadonlySet<NodeJS.Signals> = new Set(["SIGINT", "SIGQUIT", "SIGTSTP", "SIGWINCH"]);

/** Passes signals on until the returned function is called. SIGTSTP stops this process after the child, so that the shell sees the job stopped. */
export function forwardSignals(child: ChildProcess): () => void {
  const forward = (signal: NodeJS.Signals): void => {
    if (!(FROM_TERMINAL.has(signal) && inForeground())) child.kill(signal);
  };
  let stopping: NodeJS.Immediate | undefined;
  const stop = (): void => {
    forward("SIGTSTP");
    // The default action, which does nothing in an orphaned group: nobody could continue it.
    process.off("SIGTSTP", stop);
    process.kill(process.pid, "SIGTSTP");
    stopping = setImmediate(() => process.on("SIGTSTP", stop));
  };
  for (const signal of PASSED_ON) process.on(signal, forward);
  process.on("SIGTSTP", stop);
  return () => {
    clearImmediate(stopping);
    for (const signal of PASSED_ON) process.off(signal, forward);
    process.off("SIGTSTP", stop);
  };
}

/** This process's group is the one that its controlling terminal sends signals to (proc_pid_stat(5): pgrp and tpgid). */
function inForeground(): boolean {
  const stat = readFileSync("/proc/self/stat", "latin1");
  // The name in parentheses may hold anything, also spaces and parentheses.
  const [, , group, , , foreground] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return group === foreground;
}
