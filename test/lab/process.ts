// Runs the host's tools: one way to start them, one way to say that they failed.

import { spawn } from "node:child_process";
import { access, constants } from "node:fs/promises";
import { delimiter, join } from "node:path";

export interface RunOptions {
  readonly cwd?: string;
  readonly env?: NodeJS.ProcessEnv;
}

/** The standard output. A tool that cannot start or fails is an error that carries the end of what it printed. */
export async function runForBytes(command: string, args: readonly string[], options: RunOptions = {}): Promise<Buffer> {
  const child = spawn(command, args, { ...options, stdio: ["ignore", "pipe", "pipe"] });
  const out: Buffer[] = [];
  const err: Buffer[] = [];
  child.stdout.on("data", (chunk: Buffer) => out.push(chunk));
  child.stderr.on("data", (chunk: Buffer) => err.push(chunk));
  const status = await new Promise<number | NodeJS.Signals | null>((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code, signal) => resolve(code ?? signal));
  });
  if (status !== 0) {
    const printed = `${Buffer.concat(out)}${Buffer.concat(err)}`.trimEnd().split("\n").slice(-20).join("\n");
    throw new Error(`${[command, ...args].join(" ")}: exit status ${status}\n${printed}`);
  }
  return Buffer.concat(out);
}

export async function run(command: string, args: readonly string[], options: RunOptions = {}): Promise<string> {
  return (await runForBytes(command, args, options)).toString("utf8");
}

/** The path of a command, looked for in PATH and the system administrator's folders; null when it is not installed. */
export async function which(command: string): Promise<string | null> {
  const folders = [...(process.env.PATH ?? "").split(delimiter), "/usr/sbin", "/sbin"];
  for (const folder of folders.filter((name) => name !== "")) {
    const path = join(folder, command);
    if (await isExecutable(path)) return path;
  }
  return null;
}

async function isExecutable(path: string): Promise<boolean> {
  try {
    await access(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/** A word for a shell, whatever is in it. */
export function quoted(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

/** One line about something that takes a while. */
export function say(line: string): void {
  process.stderr.write(`lab: ${line}\n`);
}
