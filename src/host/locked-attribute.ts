// One sysfs attribute whose show function takes the device's lock, as driver_override does before 7.x (drivers/pci/pci-sysfs.c driver_override_show) and uevent did in
// some 6.6 and 6.10 kernels (drivers/base/core.c uevent_show). A probe that polls for 30 s (nvgrace), or an unbind that waits for a client to let go, holds that lock
// all the time. On libuv's pool four such devices would stop every file operation of the daemon; here each read has a native thread of its own and a time limit.

import { join } from "node:path";
import type { Native } from "../native.js";
import { devicesFolder } from "./sysfs-device.js";

/** The kernel's bound for an attribute is a page; what is read here is far shorter. */
const BYTES = 1024;

export class LockedAttribute {
  readonly #native: Pick<Native, "BlockingQueue">;
  readonly #sysRoot: string;
  readonly #name: string;
  readonly #patienceMs: number;
  readonly #running = new Map<string, Promise<unknown>>();

  constructor(native: Pick<Native, "BlockingQueue">, sysRoot: string, name: string, patienceMs: number) {
    this.#native = native;
    this.#sysRoot = sysRoot;
    this.#name = name;
    this.#patienceMs = patienceMs;
  }

  /**
   * The text; empty when there is none; null when the kernel does not answer in time. Reads of one device take turns: one thread waits for the lock and not many, and no
   * answer is older than the question.
   */
  async read(address: string): Promise<string | null> {
    let expired = false;
    const before = this.#running.get(address) ?? Promise.resolve();
    const reading = before.then(() => (expired ? "" : this.#read(address)));
    this.#running.set(address, reading);
    void reading.finally(() => {
      if (this.#running.get(address) === reading) this.#running.delete(address);
    });
    let timer: NodeJS.Timeout | undefined;
    const patience = new Promise<null>((resolve) => {
      timer = setTimeout(resolve, this.#patienceMs, null);
    });
    const value = await Promise.race([reading, patience]);
    expired = true;
    clearTimeout(timer);
    return value;
  }

  async #read(address: string): Promise<string> {
    const path = join(devicesFolder(this.#sysRoot), address, this.#name);
    const queue = new this.#native.BlockingQueue(`${this.#name} ${address}`);
    const opened = await queue.open(path, "read");
    if (opened.error !== null) return "";
    const bytes = await queue.pread(opened.value, 0n, BYTES, path);
    await queue.close(opened.value);
    await queue.finish();
    return bytes.error === null ? Buffer.from(bytes.value).toString("latin1") : "";
  }
}
