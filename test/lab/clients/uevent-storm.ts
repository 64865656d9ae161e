// Makes the kernel say COUNT times that one of the devices has changed: uevent-storm COUNT ADDRESS...

import { openSync, writeSync } from "node:fs";
import { join } from "node:path";

const [count = "0", ...addresses] = process.argv.slice(2);
const files = addresses.map((address) => openSync(join("/sys/bus/pci/devices", address, "uevent"), "r+"));
for (let i = 0; i < Number(count); i += 1) writeSync(files[i % files.length] ?? -1, "change");
