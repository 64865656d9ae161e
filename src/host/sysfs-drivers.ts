// Which driver has a PCI function, changed through sysfs: driver_override names the one that may have it, unbind takes it away, drivers_probe asks again. An unbind waits for the last
// holder of the device, and a driver's probe can take half a minute, so each write has a native thread of its own, and the promise settles when the kernel has finished.

import { readdir, readlink } from "node:fs/promises";
import { basename, join } from "node:path";
import { type Address, parseAddress } from "../broker/device.js";
import type { Binding, DriverControl, MoveOptions } from "../broker/driver-control.js";
import { granted, type Outcome, refuse } from "../broker/refusal.js";
import type { Native, SysError } from "../native.js";
import { DeviceUsers } from "./device-users.js";
import type { DriverOverrides } from "./driver-override.js";
import { text } from "./failed-call.js";
import { type LoadModule, loadModule } from "./module-loader.js";
import { devicesFolder, readAttribute, readDriver, readNames, readVfioDevices } from "./sysfs-device.js";

/** ENODEV: the function, or its driver, has gone meanwhile. */
const GONE: ReadonlySet<string> = new Set(["ENOENT", "ENODEV"]);
/** EROFS: ProtectKernelTunables= of systemd, and containers. */
const FORBIDDEN: ReadonlySet<string> = new Set(["EACCES", "EPERM", "EROFS"]);

export interface SysfsDriversOptions {
  readonly native: Pick<Native, "BlockingQueue">;
  readonly sysRoot: string;
  readonly devRoot: string;
  /** Normally /proc. */
  readonly procRoot?: string;
  readonly overrides: DriverOverrides;
  readonly loadModule?: LoadModule;
}

export class SysfsDrivers implements DriverControl {
  readonly #native: Pick<Native, "BlockingQueue">;
  readonly #sysRoot: string;
  readonly #overrides: DriverOverrides;
  readonly #users: DeviceUsers;
  readonly #loadModule: LoadModule;

  constructor({ native, sysRoot, devRoot, procRoot = "/proc", overrides, loadModule: load = loadModule }: SysfsDriversOptions) {
    this.#native = native;
    this.#sysRoot = sysRoot;
    this.#overrides = overrides;
    this.#users = new DeviceUsers(native, { sysRoot, devRoot, procRoot });
    this.#loadModule = load;
  }

  async binding(address: Address): Promise<(Binding & { readonly vfio: boolean }) | null> {
    const folder = this.#folder(address);
    if ((await readNames(folder)).length === 0) return null;
    const [driver, vfio, override] = await Promise.all([readDriver(folder), readVfioDevices(folder), this.#overrides.read(address)]);
    return { driver: driver?.name ?? "", override, vfio: vfio.length > 0 };
  }

  async load(driver: string, module: string, limitMs: number): Promise<Outcome<null>> {
    if (await this.#isRegistered(driver)) return granted(null);
    const why = await this.#loadModule(module, limitMs);
    if (await this.#isRegistered(driver)) return granted(null);
    const message = `the kernel has no PCI driver ${driver}, and loading its module did not bring it: ${why ?? `modprobe ${module} succeeded`}`;
    return refuse("DRIVER_UNAVAILABLE", message, { driver });
  }

  users(address: Address): Promise<readonly string[]> {
    return this.#users.of(address);
  }

  async move(address: Address, to: Binding, vfio: boolean, { onStep, wanted }: MoveOptions): Promise<Outcome<null>> {
    const folder = this.#folder(address);
    // First: no other driver takes it in between, whatever is loaded meanwhile.
    const only = to.driver === "" ? to.override : to.driver;
    const named = await this.#write(join(folder, "driver_override"), `${only}\n`);
    if (named !== null) return this.#failed(address, `driver_override could not be set to "${only}"`, named);

    const before = await readDriver(folder);
    if (before !== null && before.name !== to.driver) {
      onStep("UNBINDING");
      const unbound = await this.#write(join(folder, "driver/unbind"), address);
      // Somebody else may have taken it from its driver in the same moment.
      if (unbound !== null && !(GONE.has(unbound.code) && (await readDriver(folder)) === null)) {
        return this.#failed(address, `it could not be taken from ${before.name}`, unbound);
      }
    }
    if (!wanted()) return refuse("DRIVER_CHANGE_FAILED", `${address}: nobody waits for it any more`, { address });
    let probed: SysError | null = null;
    if (to.driver !== "" && before?.name !== to.driver) {
      onStep("BINDING");
      probed = await this.#write(join(this.#sysRoot, "bus/pci/drivers_probe"), address);
    }
    const [now, vfioDevices] = await Promise.all([readDriver(folder), readVfioDevices(folder)]);
    if ((now?.name ?? "") !== to.driver) {
      const instead = now === null ? "" : `, ${now.name} has it`;
      return this.#failed(address, to.driver === "" ? `it still has a driver${instead}` : `${to.driver} did not take it${instead}`, probed);
    }
    if (vfio && vfioDevices.length === 0) return this.#failed(address, `${to.driver} took it, and made no VFIO device of it`, probed);
    if (to.override !== only) {
      const restored = await this.#write(join(folder, "driver_override"), `${to.override}\n`);
      if (restored !== null) return this.#failed(address, `driver_override could not be set to "${to.override}"`, restored);
    }
    return granted(null);
  }

  async setVirtualFunctions(address: Address, count: number): Promise<Outcome<readonly Address[]>> {
    const folder = this.#folder(address);
    const switchOf = join(folder, "sriov_drivers_autoprobe");
    // No driver of the host's sees them for a moment on their way to VFIO (drivers/pci/pci-driver.c pci_device_can_probe: one that driver_override names still may).
    const probes = count > 0 && (await readAttribute(switchOf)) === "1";
    if (probes) await this.#write(switchOf, "0");
    const failed = await this.#write(join(folder, "sriov_numvfs"), String(count));
    if (probes) await this.#write(switchOf, "1");
    if (failed !== null) {
      const driver = (await readDriver(folder))?.name ?? "";
      const hint = driver === "" ? "it has no driver" : `its driver ${driver} decides; vfio-pci does it only with enable_sriov=1`;
      return this.#failed(address, `${count} virtual functions could not be made (${hint})`, failed);
    }
    return granted(await this.#virtualFunctions(folder));
  }

  async #virtualFunctions(folder: string): Promise<readonly Address[]> {
    const links = (await readdir(folder)).filter((name) => /^virtfn\d{1,5}$/.test(name));
    const found = await Promise.all(links.map(async (name) => parseAddress(basename(await readlink(join(folder, name)).catch(() => "")))));
    return found.filter((each) => each !== null).sort();
  }

  #folder(address: Address): string {
    return join(devicesFolder(this.#sysRoot), address);
  }

  async #isRegistered(driver: string): Promise<boolean> {
    return (await readNames(join(this.#sysRoot, "bus/pci/drivers", driver))).length > 0;
  }

  async #failed(address: Address, what: string, error: SysError | null): Promise<Outcome<never>> {
    if ((await readNames(this.#folder(address))).length === 0) {
      return refuse("DEVICE_REMOVED", `${address}: it has left the machine`, { address });
    }
    const forbidden =
      error !== null && FORBIDDEN.has(error.code)
        ? "; the daemon may not write to sysfs: it needs root, and a service unit that lets it"
        : "";
    return refuse("DRIVER_CHANGE_FAILED", `${address}: ${what}${error === null ? "" : ` (${text(error)})`}${forbidden}`, { address });
  }

  /** null: written. */
  async #write(path: string, value: string): Promise<SysError | null> {
    const queue = new this.#native.BlockingQueue(`driver ${basename(path)}`);
    const opened = await queue.open(path, "write");
    if (opened.error !== null) return opened.error;
    const written = await queue.pwrite(opened.value, 0n, Buffer.from(value, "latin1"), path);
    await queue.close(opened.value);
    await queue.finish();
    return written.error;
  }
}
