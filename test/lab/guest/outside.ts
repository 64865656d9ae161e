// Asks the outside of this machine for what only it can do: plug a device in, pull one out (see ../outside.ts).

import { appendFileSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { until } from "../../harness/until.js";
import { hotplugPort, type Port } from "../devices.js";
import { answerFile, type OutsideAnswer, type OutsideRequest, requestsFile } from "../outside.js";

const results = "/results";
let lastId = 0;

async function ask(execute: string, args: OutsideRequest["arguments"]): Promise<void> {
  lastId += 1;
  const request: OutsideRequest = { id: lastId, execute, arguments: args };
  appendFileSync(join(results, requestsFile), `${JSON.stringify(request)}\n`);
  const read = (): OutsideAnswer | null => {
    try {
      return JSON.parse(readFileSync(join(results, answerFile(request.id)), "utf8")) as OutsideAnswer;
    } catch {
      return null;
    }
  };
  const answer = await until(`answer of QEMU to ${execute}`, read, (found) => found !== null, 60_000);
  if (answer?.error !== null) throw new Error(`QEMU: ${execute}: ${answer?.error}`);
}

/** Puts a device of QEMU's into an empty port. */
export async function plugIn(driver: string, more: Readonly<Record<string, unknown>> = {}, port: Port = hotplugPort): Promise<void> {
  await ask("device_add", { driver, bus: port.id, id: `extra-${port.id}`, ...more });
}

/** Asks for the device to be let go, as an unplug button does: firmware tells the kernel, which takes the driver away and then ejects (acpiphp). */
export async function pullOut(port: Port = hotplugPort): Promise<void> {
  await ask("device_del", { id: `extra-${port.id}` });
}
