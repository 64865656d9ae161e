// A VFIO driver that is letting a device go waits until the last descriptor and mapping of it is closed (drivers/vfio/vfio_main.c vfio_unregister_group_dev). By then
// the driver link (drivers/base/dd.c __device_release_driver: driver_sysfs_remove comes first) and vfio-dev are gone, so sysfs looks as if nobody had the device. What
// still names the driver is the attribute uevent, until the wait is over (seen on 6.12 and 7.3.4, through a group, a bound and an unbound cdev).

import { join } from "node:path";
import type { Native } from "../native.js";
import { LockedAttribute } from "./locked-attribute.js";
import { devicesFolder, readDriver } from "./sysfs-device.js";

/**
 * A driver's link is there while its probe still runs (drivers/base/dd.c really_probe), which is 30 s for a Grace Hopper that is not ready, and the device is not bound
 * before it ends. What tells is vfio-dev; but that a driver is *going to be* a VFIO driver only its name can tell. All that the kernel has are named so.
 */
export function isVfioName(driver: string): boolean {
  return driver.includes("vfio");
}

export class LeavingDrivers {
  readonly #sysRoot: string;
  readonly #attribute: LockedAttribute;
  /** The driver of each device that was last seen with a VFIO device below it. */
  readonly #had = new Map<string, string>();

  constructor(native: Pick<Native, "BlockingQueue">, sysRoot: string, patienceMs = 500) {
    this.#sysRoot = sysRoot;
    this.#attribute = new LockedAttribute(native, sysRoot, "uevent", patienceMs);
  }

  /** A VFIO driver has the device. */
  has(address: string, driver: string): void {
    // Empty in the moment between the end of the link and the end of vfio-dev.
    if (driver !== "") this.#had.set(address, driver);
  }

  /** The driver that is letting go of a device without driver link and vfio-dev; empty when none is. */
  async read(address: string): Promise<string> {
    const had = this.#had.get(address) ?? "";
    const text = await this.#attribute.read(address);
    // Its lock is held: by the unbind that waits, as far as we know.
    if (text === null) return had;
    const driver = /^DRIVER=([\x21-\x7e]{1,64})$/m.exec(text)?.[1] ?? "";
    if (driver !== "" && (driver === had || isVfioName(driver))) {
      // Between the two reads another bind may have begun: the new driver is named a moment before its link is made.
      if ((await readDriver(join(devicesFolder(this.#sysRoot), address))) === null) return driver;
    }
    this.#had.delete(address);
    return "";
  }

  /** Forgets devices that have gone. */
  keepOnly(addresses: ReadonlySet<string>): void {
    for (const address of this.#had.keys()) if (!addresses.has(address)) this.#had.delete(address);
  }
}
