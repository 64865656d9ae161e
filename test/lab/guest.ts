// One guest from its start to its end: prepares the folder that it shares with the guest, starts QEMU, follows the results while they come,
// and ends a guest that does not end by itself.

import { spawn } from "node:child_process";
import { createReadStream, watch } from "node:fs";
import { copyFile, mkdir, readFile, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import type { World } from "./devices.js";
import type { LabEvent } from "./event.js";
import { type Machine, qemuArguments } from "./machine.js";
import { answerRequest, requestsFile } from "./outside.js";
import { quoted } from "./process.js";
import { repository } from "./repository.js";

export interface GuestPlan {
  readonly world: World;
  readonly kernel: string;
  readonly initrd: Uint8Array;
  readonly acpiTable: Uint8Array;
  /** A folder of this run, made here. */
  readonly folder: string;
  /** The shell command that runs in the checkout once the devices are bound. */
  readonly command: string;
  /** Gives the guest this process's terminal. */
  readonly interactive: boolean;
  readonly cpus: number;
  readonly deadlineMs: number;
  readonly onEvent: (event: LabEvent) => void;
}

export interface GuestEnd {
  /** Of the command; null when the guest did not get as far. The other results are complete when it is there. */
  readonly status: number | null;
  /** Why the guest did not end as it should. */
  readonly trouble: string | null;
  readonly seconds: number;
  readonly output: string;
  readonly console: string;
  readonly kernelLog: string;
}

export const eventsInGuest = "/results/events.jsonl";

/** The QMP socket of a running guest (qmp.ts). */
export function qmpSocket(folder: string): string {
  return join(folder, "qmp");
}

/** The folder and all above it. */
function withParents(folder: string): string[] {
  return folder === "/" ? [] : [...withParents(dirname(folder)), folder];
}

async function writeResultsFolder(results: string, plan: GuestPlan): Promise<void> {
  await mkdir(results, { recursive: true });
  const settings = {
    checkout: repository,
    interactive: plan.interactive ? "yes" : "no",
    rows: String(process.stdout.rows ?? 24),
    columns: String(process.stdout.columns ?? 80),
  };
  const environment = {
    PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    HOME: "/root",
    TERM: process.env.TERM ?? "linux",
    APERTURE_LAB_WORLD: plan.world,
    // For a machine inside the machine. A copy: what lies below /tmp is not seen from inside.
    APERTURE_LAB_KERNEL: "/results/kernel",
  };
  const assignments = (values: Readonly<Record<string, string>>) =>
    Object.entries(values).map(([name, value]) => `${name}=${quoted(value)}`);
  const command = [
    ...assignments(environment).map((line) => `export ${line}`),
    `cd ${quoted(repository)}`,
    "sh test/lab/bind-devices.sh || exit",
    plan.command,
  ];
  const reachable = new Set([...withParents(repository), ...withParents(dirname(process.execPath))]);
  await copyFile(plan.kernel, join(results, "kernel"));
  await writeFile(join(results, "settings"), `${assignments(settings).join("\n")}\n`);
  await writeFile(join(results, "reachable"), `${[...reachable].join("\n")}\n`);
  await writeFile(join(results, "command"), `${command.join("\n")}\n`);
  for (const name of ["events.jsonl", requestsFile]) await writeFile(join(results, name), "");
}

/** Hands over the lines of a growing file as they come. `finish` reads what is left. */
function follow(path: string, onLine: (line: string) => void): { finish: () => Promise<void> } {
  let offset = 0;
  let partial = "";
  async function readOn(): Promise<void> {
    for await (const chunk of createReadStream(path, { start: offset }) as AsyncIterable<Buffer>) {
      offset += chunk.length;
      const lines = (partial + chunk.toString("latin1")).split("\n");
      partial = lines.pop() ?? "";
      for (const line of lines) onLine(Buffer.from(line, "latin1").toString("utf8"));
    }
  }
  let reading = Promise.resolve();
  const readSoon = () => {
    reading = reading.then(readOn);
  };
  const watcher = watch(path, readSoon);
  return {
    async finish() {
      watcher.close();
      readSoon();
      await reading;
    },
  };
}

/** Returns what went wrong, null when the guest powered itself off. */
async function runQemu(machine: Machine, deadlineMs: number): Promise<string | null> {
  const terminal = machine.console === "terminal";
  // setpriv makes the kernel end QEMU when this process ends, however it does.
  const args = ["--pdeathsig", "KILL", "qemu-system-x86_64", ...qemuArguments(machine)];
  const qemu = spawn("setpriv", args, { stdio: terminal ? "inherit" : ["ignore", "pipe", "pipe"] });
  let printed = "";
  for (const stream of [qemu.stdout, qemu.stderr]) stream?.on("data", (chunk: Buffer) => (printed += chunk));
  let timedOut = false;
  const end = () => {
    timedOut = true;
    qemu.kill("SIGKILL");
  };
  const timer = terminal ? undefined : setTimeout(end, deadlineMs);
  const ended = await new Promise<string | null>((resolve) => {
    qemu.on("error", (error) => resolve(`QEMU could not be started: ${error.message}`));
    qemu.on("close", (code, signal) => resolve(code === 0 ? null : `QEMU ended with ${signal ?? `status ${code}`}: ${printed.trim()}`));
  });
  clearTimeout(timer);
  return timedOut ? `the guest was not done after ${deadlineMs / 1000} s and was ended` : ended;
}

async function textOf(path: string): Promise<string> {
  return readFile(path, "utf8").catch(() => "");
}

export async function runGuest(plan: GuestPlan): Promise<GuestEnd> {
  const begin = performance.now();
  const results = join(plan.folder, "results");
  await writeResultsFolder(results, plan);
  const machine: Machine = {
    world: plan.world,
    kernel: plan.kernel,
    initrd: join(plan.folder, "initrd"),
    acpiTable: join(plan.folder, "acpi-table"),
    results,
    qmpSocket: qmpSocket(plan.folder),
    console: plan.interactive ? "terminal" : { file: join(plan.folder, "console") },
    cpus: plan.cpus,
  };
  await writeFile(machine.initrd, plan.initrd);
  await writeFile(machine.acpiTable, plan.acpiTable);

  const events = follow(join(results, "events.jsonl"), (line) => plan.onEvent(JSON.parse(line) as LabEvent));
  // One after the other: QEMU's socket has one client at a time.
  let answered = Promise.resolve();
  const requests = follow(join(results, requestsFile), (line) => {
    answered = answered.then(() => answerRequest(results, machine.qmpSocket, line));
  });
  const ended = await runQemu(machine, plan.deadlineMs);
  await events.finish();
  await requests.finish();
  await answered;

  const status = Number.parseInt(await textOf(join(results, "status")), 10);
  const unfinished = Number.isNaN(status) ? "the guest ended before its command did" : null;
  return {
    status: Number.isNaN(status) ? null : status,
    trouble: ended ?? unfinished,
    seconds: (performance.now() - begin) / 1000,
    output: await textOf(join(results, "output")),
    console: await textOf(join(plan.folder, "console")),
    kernelLog: await textOf(join(results, "kernel-log")),
  };
}
