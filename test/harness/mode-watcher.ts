// A thread that looks at one path as fast as it can and notes every mode that the file has had: for what must hold at every instant.
// workerData: path, and a flag in shared memory that ends it. Answers with the modes.

import { lstatSync } from "node:fs";
import { parentPort, workerData } from "node:worker_threads";

const { path, over } = workerData as { readonly path: string; readonly over: Int32Array };
const modes = new Set<number>();
parentPort?.postMessage("watching");
while (Atomics.load(over, 0) === 0) {
  const status = lstatSync(path, { throwIfNoEntry: false });
  if (status) modes.add(status.mode & 0o7777);
}
parentPort?.postMessage([...modes]);
