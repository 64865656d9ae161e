// One message of the kernel's about a device (lib/kobject_uevent.c), and which PCI functions it is about. A message is a hint and nothing more: whoever is named is read
// again from sysfs, so that a wrong or missing one can cost time but never tells an untruth.

import { type Address, parseAddress } from "../broker/device.js";

export interface Uevent {
  readonly action: string;
  /** Below /sys. */
  readonly path: string;
  readonly subsystem: string;
}

/** lib/kobject_uevent.c kobject_actions[]. */
const ACTIONS: ReadonlySet<string> = new Set(["add", "remove", "change", "move", "online", "offline", "bind", "unbind"]);

/** The message in words, or null when it is none of the kernel's. */
export function parseUevent(message: Uint8Array): Uevent | null {
  const parts = Buffer.from(message.buffer, message.byteOffset, message.byteLength).toString("latin1").split("\0");
  const header = /^([a-z]{3,10})@(\/.*)$/.exec(parts[0] ?? "");
  const [, action = "", path = ""] = header ?? [];
  if (!ACTIONS.has(action)) return null;
  const subsystem = parts.find((part) => part.startsWith("SUBSYSTEM="))?.slice("SUBSYSTEM=".length) ?? "";
  return { action, path, subsystem };
}

/** The functions whose facts may be others now; ALL: any may; empty: none of ours. */
export function touchedBy({ action, path, subsystem }: Uevent): readonly Address[] | "ALL" {
  const steps = path.split("/");
  switch (subsystem) {
    case "pci": {
      const address = parseAddress(steps.at(-1) ?? "");
      return address === null ? [] : [address];
    }
    case "vfio-dev": {
      // /devices/pci0000:00/0000:00:10.0/vfio-dev/vfio0; a device of another bus has no PCI address there.
      const address = parseAddress(steps.at(-3) ?? "");
      return address === null ? [] : [address];
    }
    case "drivers":
      // A PCI driver has come or gone: which ones could have a device is another answer.
      return action !== "change" && steps[2] === "pci" ? "ALL" : [];
    default:
      return [];
  }
}
