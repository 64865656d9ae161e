// Holds resets of what is plugged into the port for it (see ../held-reset.ts), and sees whether the kernel is waiting to take a device away.

import { closeSync, openSync, readdirSync, readFileSync, readSync, writeSync } from "node:fs";
import { join } from "node:path";
import { until } from "../../harness/until.js";
import { Mail, mailbox } from "../held-reset.js";

const config = join("/sys/bus/pci/devices", mailbox.address, "config");

function withMailbox<T>(use: (fd: number) => T): T {
  const fd = openSync(config, "r+");
  try {
    return use(fd);
  } finally {
    closeSync(fd);
  }
}

function put(value: number): void {
  withMailbox((fd) => writeSync(fd, Uint8Array.of(value), 0, 1, mailbox.offset));
}

function isHeld(): boolean {
  const byte = new Uint8Array(1);
  withMailbox((fd) => readSync(fd, byte, 0, 1, mailbox.offset));
  return byte[0] === Mail.held;
}

/** From now on the next reset is held. One that is being held goes on. */
export function holdNextReset(): void {
  put(Mail.hold);
}

export function letResetsPass(): void {
  put(Mail.pass);
}

/** Lets resets go one after the other until one is held of which this is true. The reset is under way, and goes on only when it is told to. */
export async function heldResetWhere(what: string, ask: () => Promise<boolean>): Promise<void> {
  for (let n = 0; n < 10; n += 1) {
    await until(`a reset that is held (${what})`, isHeld, (held) => held, 60_000);
    if (await ask()) return;
    holdNextReset();
  }
  throw new Error(`ten resets were held, and none of them where ${what}`);
}

/** The kernel's worker that takes a device out of the machine, when it sleeps in doing so: for the device's lock, or for its last holder. */
function ejectSleeps(): boolean {
  const names = readdirSync("/proc").filter((name) => /^\d+$/.test(name));
  return names.some((name) => {
    try {
      // kernel/workqueue.c wq_worker_comm: `+` and the queue's name while it works for that.
      return /\(kworker\/\S*\+kacpi_hotplug\) D /.test(readFileSync(`/proc/${name}/stat`, "latin1"));
    } catch {
      return false;
    }
  });
}

export async function ejectIsWaiting(): Promise<void> {
  await until("the kernel waits for the device", ejectSleeps, (sleeps) => sleeps, 60_000);
}
