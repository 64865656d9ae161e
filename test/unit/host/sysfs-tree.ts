// A made-up /sys and /dev in a temporary folder, laid out as the kernel does.

import { mkdirSync, mkdtempSync, readlinkSync, renameSync, rmSync, symlinkSync, unlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { SystemFiles } from "../../../src/host/system-file.js";

export interface MadeUpDevice {
  readonly vendor?: string;
  readonly device?: string;
  readonly class?: string;
  readonly driver?: string;
  readonly driverOverride?: string;
  readonly group?: number;
  readonly resetMethod?: string;
  readonly numaNode?: string;
  readonly physfn?: string;
  /** N of vfioN. */
  readonly vfio?: number;
  /** major:minor of the character device. */
  readonly cdev?: string;
  readonly headerType?: number;
  readonly revision?: string;
  readonly subsystem?: readonly [string, string];
  /** `16.0 GT/s PCIe` and `4`, now and at most. */
  readonly link?: readonly [string, string, string, string];
  readonly totalVfs?: string;
  /** Where its folder is below /sys/devices, as `pci0000:00/0000:00:15.0`. Left out: it is no link. */
  readonly below?: string;
}

export class SysfsTree {
  readonly root = mkdtempSync(join(tmpdir(), "aperture-sysfs-"));
  readonly sysRoot = join(this.root, "sys");
  readonly devRoot = join(this.root, "dev");

  constructor() {
    mkdirSync(join(this.sysRoot, "bus/pci/devices"), { recursive: true });
    mkdirSync(this.devRoot, { recursive: true });
  }

  folder(address: string): string {
    return join(this.sysRoot, "bus/pci/devices", address);
  }

  add(address: string, facts: MadeUpDevice): void {
    const folder = this.folder(address);
    if (facts.below !== undefined) {
      mkdirSync(join(this.sysRoot, "devices", facts.below, address), { recursive: true });
      symlinkSync(`../../../devices/${facts.below}/${address}`, folder);
    }
    mkdirSync(folder, { recursive: true });
    this.write(address, "vendor", `${facts.vendor ?? "0x1234"}\n`);
    this.write(address, "device", `${facts.device ?? "0x11e8"}\n`);
    this.write(address, "class", `${facts.class ?? "0x00ff00"}\n`);
    this.write(address, "driver_override", `${facts.driverOverride ?? "(null)"}\n`);
    this.write(address, "numa_node", `${facts.numaNode ?? "-1"}\n`);
    if (facts.revision !== undefined) this.write(address, "revision", `${facts.revision}\n`);
    for (const [index, name] of ["subsystem_vendor", "subsystem_device"].entries()) {
      if (facts.subsystem !== undefined) this.write(address, name, `${facts.subsystem[index]}\n`);
    }
    for (const [index, name] of ["current_link_speed", "current_link_width", "max_link_speed", "max_link_width"].entries()) {
      if (facts.link !== undefined) this.write(address, name, `${facts.link[index]}\n`);
    }
    if (facts.totalVfs !== undefined) this.write(address, "sriov_totalvfs", `${facts.totalVfs}\n`);
    const config = Buffer.alloc(64);
    config[0x0e] = facts.headerType ?? 0;
    writeFileSync(join(folder, "config"), config);
    if (facts.resetMethod !== undefined) this.write(address, "reset_method", `${facts.resetMethod}\n`);
    if (facts.driver !== undefined) this.bind(address, facts.driver);
    if (facts.physfn !== undefined) symlinkSync(`../${facts.physfn}`, join(folder, "physfn"));
    if (facts.group !== undefined) {
      const group = join(this.sysRoot, "kernel/iommu_groups", String(facts.group), "devices");
      mkdirSync(group, { recursive: true });
      symlinkSync(folder, join(group, address));
      symlinkSync(`../../../../kernel/iommu_groups/${facts.group}`, join(folder, "iommu_group"));
    }
    if (facts.vfio !== undefined) {
      mkdirSync(join(folder, "vfio-dev", `vfio${facts.vfio}`), { recursive: true });
      if (facts.cdev !== undefined) writeFileSync(join(folder, "vfio-dev", `vfio${facts.vfio}`, "dev"), `${facts.cdev}\n`);
    }
  }

  bind(address: string, driver: string): void {
    symlinkSync(`../../../../bus/pci/drivers/${driver}`, join(this.folder(address), "driver"));
  }

  /** Gives the device to its driver again: a new link takes the old one's place, and so has another inode. */
  rebind(address: string): void {
    const link = join(this.folder(address), "driver");
    symlinkSync(readlinkSync(link), `${link}.new`);
    renameSync(`${link}.new`, link);
  }

  unbind(address: string): void {
    unlinkSync(join(this.folder(address), "driver"));
    rmSync(join(this.folder(address), "vfio-dev"), { recursive: true, force: true });
  }

  write(address: string, name: string, content: string | Uint8Array): void {
    writeFileSync(join(this.folder(address), name), content);
  }

  unplug(address: string): void {
    rmSync(this.folder(address), { recursive: true });
  }

  /** Where the lists of this machine would be. */
  systemFiles(): SystemFiles {
    return { pciIds: [join(this.root, "pci.ids")], modules: join(this.root, "modules") };
  }

  /** A node below /dev: an empty file, enough to be opened. */
  node(name: string, mode = 0o600): void {
    const path = join(this.devRoot, name);
    mkdirSync(join(path, ".."), { recursive: true });
    writeFileSync(path, "", { mode });
  }

  remove(): void {
    rmSync(this.root, { recursive: true, force: true });
  }
}
