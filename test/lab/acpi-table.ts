// What the lab adds to QEMU's firmware: one table for QEMU's -acpitable.

import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { graceHopperAsl } from "./grace-hopper.js";
import { heldResetAsl } from "./held-reset.js";
import { run } from "./process.js";

function ssdt(): string {
  return `DefinitionBlock ("", "SSDT", 2, "APERTR", "APERTLAB", 1)\n{${graceHopperAsl()}${heldResetAsl()}}\n`;
}

export async function compileAcpiTable(): Promise<Uint8Array> {
  const folder = await mkdtemp(join(tmpdir(), "aperture-acpi-"));
  try {
    await writeFile(join(folder, "lab.asl"), ssdt());
    await run("iasl", ["-p", join(folder, "lab"), join(folder, "lab.asl")]);
    return await readFile(join(folder, "lab.aml"));
  } finally {
    await rm(folder, { recursive: true });
  }
}
