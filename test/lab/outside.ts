// What a guest asks of the outside of its machine: lines of JSON in a file of the results share, each a QMP command; each answer is a file of its own, renamed into place.
// QEMU's control socket itself cannot be reached from inside.

import { rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { Qmp } from "./qmp.js";

/** Files in the results share. */
export const requestsFile = "outside-requests.jsonl";

export function answerFile(id: number): string {
  return `outside-answer-${id}.json`;
}

export interface OutsideRequest {
  readonly id: number;
  readonly execute: string;
  readonly arguments: Readonly<Record<string, unknown>>;
}

export type OutsideAnswer = { readonly value: unknown; readonly error: null } | { readonly value: null; readonly error: string };

/** Carries out one line of the requests file. */
export async function answerRequest(results: string, qmpSocket: string, line: string): Promise<void> {
  const request = JSON.parse(line) as OutsideRequest;
  const answer = await execute(qmpSocket, request);
  const file = join(results, answerFile(request.id));
  await writeFile(`${file}.new`, JSON.stringify(answer));
  await rename(`${file}.new`, file);
}

async function execute(qmpSocket: string, request: OutsideRequest): Promise<OutsideAnswer> {
  try {
    // QEMU serves one client of this socket at a time, and --keep leaves it to a person.
    const qmp = await Qmp.connect(qmpSocket);
    try {
      return { value: await qmp.execute(request.execute, request.arguments), error: null };
    } finally {
      qmp.close();
    }
  } catch (error) {
    return { value: null, error: error instanceof Error ? error.message : String(error) };
  }
}
