// The C programs of the tests, built by the same make as the C tests: test/lab/clients/*.c and docs/examples/*.c with native/client.

import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

const REPOSITORY = fileURLToPath(new URL("../../../", import.meta.url));

/** Builds what is stale. Not inside a guest of the lab: a compiler would take minutes there. */
export async function buildCPrograms(): Promise<void> {
  await promisify(execFile)("make", ["--silent", "-C", `${REPOSITORY}native/test`, "clients"]);
}

export function cProgram(name: "receive" | "tenant"): string {
  return `${REPOSITORY}native/build/test/clients/${name}`;
}

/** The programs that docs/VMM-AUTHORS.md quotes, to be run with SOCKET TICKET REGION; each prints LEASE REGION SIZE BACKED WORD. */
export const EXAMPLES: readonly { readonly language: string; readonly command: readonly string[] }[] = [
  { language: "C", command: [cProgram("receive")] },
  { language: "Python", command: ["python3", `${REPOSITORY}docs/examples/receive.py`] },
];
