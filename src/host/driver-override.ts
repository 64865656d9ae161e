// driver_override is read apart from the other attributes: before 7.x its show function takes the device's lock (drivers/pci/pci-sysfs.c
// driver_override_show), and a probe that polls for 30 s (nvgrace), or an unbind that waits for a client to let go, holds that lock all the time. On libuv's
// pool four such devices would stop every file operation of the daemon; here each read has a native thread of its own and a time limit.

import { join } from "node:path";
import type { Native } from "../native.js";
import { devicesFolder } from "./sysfs-device.js";

/** The kernel's bound for the attribute is a page; a driver's name is far shorter. */
const BYTES = 256;

export class DriverOverrides {
  readonly #native: Pick<Native, "BlockingQueue">;
  readonly #sysRoot: string;
  readonly #patienceMs: number;
  /** Last answer of each device, for the time in which the kernel gives none. */
  readonly #last = new Map<string, string>();
  readonly #running = new Map<string, Promise<string>>();

  constructor(native: Pick<Native, "BlockingQueue">, sysRoot: string, patienceMs = 500) {
    this.#native = native;
    this.#sysRoot = sysRoot;
    this.#patienceMs = patienceMs;
  }

  /** The value; empty when not set. While the device is locked: what it was before. */
  async read(address: string): Promise<string> {
    // One that still waits for the lock is not joined by a second.
    const running = this.#running.get(address);
    if (running !== undefined) return this.#last.get(address) ?? "";
    const reading = this.#read(address)
      .then((value) => {
        this.#last.set(address, value);
        return value;
      })
      .finally(() => this.#running.delete(address));
    this.#running.set(address, reading);
    let timer: NodeJS.Timeout | undefined;
    const patience = new Promise<null>((resolve) => {
      timer = setTimeout(resolve, this.#patienceMs, null);
    });
    const value = await Promise.race([reading, patience]);
    clearTimeout(timer);
    return value ?? this.#last.get(address) ?? "";
  }

  /** Forgets devices that have gone. */
  keepOnly(addresses: ReadonlySet<string>): void {
    for (const address of this.#last.keys()) if (!addresses.has(address)) this.#last.delete(address);
  }

  async #read(address: string): Promise<string> {
    const path = join(devicesFolder(this.#sysRoot), address, "driver_override");
    const queue = new this.#native.BlockingQueue(`driver_override ${address}`);
    const opened = await queue.open(path, "read");
    if (opened.error !== null) return "";
    const bytes = await queue.pread(opened.value, 0n, BYTES, path);
    await queue.close(opened.value);
    await queue.finish();
    if (bytes.error !== null) return "";
    const value = Buffer.from(bytes.value).toString("latin1").trim();
    // The kernel prints a null pointer as "(null)".
    return value === "(null)" || !/^[\x20-\x7e]*$/.test(value) ? "" : value;
  }
}
