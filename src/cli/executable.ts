// Whether a command can be started at all, found out before a device is taken and reset for it.

import { accessSync, constants, statSync } from "node:fs";
import { join } from "node:path";
import { CliError } from "./exit-code.js";
import { printable } from "./printable.js";

/** Throws CliError (commandNotFound, notExecutable) as a shell would say it. */
export function checkExecutable(program: string, path: string | undefined): void {
  // As execvp(3) looks for it; an empty entry is this folder.
  const places = program.includes("/") ? [program] : (path ?? "/bin:/usr/bin").split(":").map((folder) => join(folder || ".", program));
  const answers = places.map(answer);
  if (answers.includes("yes")) return;
  if (answers.includes("no")) throw notExecutable(program, "nobody may execute it, or it is no file");
  throw notFound(program);
}

/** The same for what spawn() has found out. */
export function cannotStart(program: string, error: NodeJS.ErrnoException): CliError {
  return error.code === "ENOENT" ? notFound(program) : notExecutable(program, error.message);
}

function notFound(program: string): CliError {
  return new CliError("commandNotFound", `there is no command \`${printable(program)}\` (ENOENT)`, "no lease is held");
}

function notExecutable(program: string, why: string): CliError {
  return new CliError("notExecutable", `\`${printable(program)}\` cannot be executed: ${why}`, "no lease is held");
}

function answer(file: string): "yes" | "no" | "absent" {
  try {
    if (!statSync(file).isFile()) return "no";
    accessSync(file, constants.X_OK);
    return "yes";
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EACCES" ? "no" : "absent";
  }
}
