// What an administrator does by hand: gives a device to vfio-pci, and takes it away.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";

export const folderOf = (address: string): string => join("/sys/bus/pci/devices", address);

export function bind(address: string): void {
  writeFileSync(join(folderOf(address), "driver_override"), "vfio-pci");
  if (existsSync(join(folderOf(address), "driver"))) writeFileSync(join(folderOf(address), "driver/unbind"), address);
  writeFileSync("/sys/bus/pci/drivers_probe", address);
}

/** Unbinds in a process of its own: the write returns when the last holder has let go. */
export function unbind(address: string): { readonly done: Promise<unknown> } {
  const child = spawn("sh", ["-c", `echo ${address} >${folderOf(address)}/driver/unbind`], { stdio: "ignore" });
  return { done: once(child, "exit") };
}
