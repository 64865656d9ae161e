// The part of the kernel's driver core that sysfs shows, over a made-up tree: unbind, drivers_probe, driver_override and sriov_numvfs do what they do in drivers/base/bus.c and
// drivers/pci. Everything else is the real file. The lab's tests are what shows that the kernel does the same.

import { existsSync, mkdirSync, readFileSync, readlinkSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import type { KernelCalls } from "../../../src/host/machine.js";
import { type BlockingQueue, native, type SysResult } from "../../../src/native.js";
import { sysError } from "./fake-kernel.js";
import type { SysfsTree } from "./sysfs-tree.js";

const INTERCEPTED: ReadonlySet<string> = new Set(["unbind", "drivers_probe", "sriov_numvfs"]);

export class FakeDriverCore {
  readonly tree: SysfsTree;
  /** Every write so far: the attribute and what was written. */
  readonly writes: string[] = [];
  /** Of a device that no driver_override names a driver for: the one whose ids match. */
  readonly matching = new Map<string, string>();
  /** A driver whose probe fails, with its errno. */
  readonly failing = new Map<string, string>();
  /** Goes on with an unbind. */
  unbinding: () => Promise<void> = async () => {};
  readonly BlockingQueue: KernelCalls["BlockingQueue"];
  readonly #open = new Map<number, string>();
  #nextVfio = 0;

  constructor(tree: SysfsTree) {
    this.tree = tree;
    const core = this;
    // Everything that this test does not make up is the real queue's.
    this.BlockingQueue = class {
      readonly #real: BlockingQueue;

      constructor(name: string) {
        this.#real = new native.BlockingQueue(name);
        // biome-ignore lint/correctness/noConstructorReturn: a queue with two of its calls replaced
        return new Proxy(this.#real, {
          get: (real, key) => {
            if (key === "open") return (path: string, access: "read" | "write" | "readwrite") => core.#openPath(real, path, access);
            if (key === "pwrite")
              return (fd: number, offset: bigint, data: Uint8Array, subject: string) => core.#write(real, fd, offset, data, subject);
            const value: unknown = Reflect.get(real, key);
            return typeof value === "function" ? value.bind(real) : value;
          },
        }) as never;
      }
    } as unknown as KernelCalls["BlockingQueue"];
    for (const name of ["bus/pci/drivers_probe"]) {
      mkdirSync(dirname(join(tree.sysRoot, name)), { recursive: true });
      writeFileSync(join(tree.sysRoot, name), "");
    }
  }

  /** A driver that the kernel has. */
  register(driver: string): void {
    const folder = join(this.tree.sysRoot, "bus/pci/drivers", driver);
    mkdirSync(folder, { recursive: true });
    writeFileSync(join(folder, "unbind"), "");
  }

  driverOf(address: string): string | null {
    const link = join(this.tree.folder(address), "driver");
    return existsSync(link) ? basename(readlinkSync(link)) : null;
  }

  overrideOf(address: string): string {
    return readFileSync(join(this.tree.folder(address), "driver_override"), "latin1").trim();
  }

  async #openPath(real: BlockingQueue, path: string, access: "read" | "write" | "readwrite"): Promise<SysResult<number>> {
    const opened = await real.open(path, access);
    if (opened.error === null && access === "write") this.#open.set(opened.value, path);
    return opened;
  }

  async #write(real: BlockingQueue, fd: number, offset: bigint, data: Uint8Array, subject: string): Promise<SysResult<number>> {
    const path = this.#open.get(fd) ?? "";
    this.#open.delete(fd);
    const text = Buffer.from(data).toString("latin1");
    const name = basename(path);
    this.writes.push(`${name} ${text.trim()}`);
    if (!INTERCEPTED.has(name)) {
      writeFileSync(path, "");
      return await real.pwrite(fd, offset, data, subject);
    }
    const code = await this.#act(name, path, text.trim());
    return code === null ? { value: data.length, error: null } : { value: null, error: sysError("pwrite", code, subject) };
  }

  async #act(name: string, path: string, text: string): Promise<string | null> {
    if (name === "unbind") {
      if (this.driverOf(text) === null) return "ENODEV";
      this.tree.unbind(text);
      await this.unbinding();
      return null;
    }
    if (name === "drivers_probe") {
      if (this.driverOf(text) !== null) return null;
      const only = this.overrideOf(text);
      const driver = only === "" || only === "(null)" ? this.matching.get(text) : only;
      if (driver === undefined || !existsSync(join(this.tree.sysRoot, "bus/pci/drivers", driver))) return null;
      const errno = this.failing.get(driver);
      if (errno !== undefined) return errno;
      this.tree.bind(text, driver);
      if (driver.includes("vfio")) {
        mkdirSync(join(this.tree.folder(text), "vfio-dev", `vfio${this.#nextVfio}`), { recursive: true });
        this.#nextVfio += 1;
      }
      return null;
    }
    return this.#setVirtualFunctions(dirname(path), Number(text));
  }

  #setVirtualFunctions(folder: string, count: number): string | null {
    const now = Number(readFileSync(join(folder, "sriov_numvfs"), "latin1"));
    if (now > 0 && count > 0) return "EBUSY";
    if (this.driverOf(basename(folder)) === null) return "ENOENT";
    for (let n = 0; n < Math.max(now, count); n += 1) {
      const address = `${basename(folder).slice(0, -4)}10.${n}`;
      rmSync(join(folder, `virtfn${n}`), { force: true });
      if (n < count) {
        this.tree.add(address, { physfn: basename(folder), group: 100 + n });
        symlinkSync(`../${address}`, join(folder, `virtfn${n}`));
        if (readFileSync(join(folder, "sriov_drivers_autoprobe"), "latin1").trim() === "1") this.tree.bind(address, "igbvf");
      } else this.tree.unplug(address);
    }
    writeFileSync(join(folder, "sriov_numvfs"), String(count));
    return null;
  }
}
