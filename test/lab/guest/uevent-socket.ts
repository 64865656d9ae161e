// What the kernel says of a process's uevent socket from outside: messages that it had no room for.

import { readdirSync, readFileSync, readlinkSync } from "node:fs";

const KOBJECT_UEVENT = "15";

/** Column Drops of /proc/net/netlink (net/netlink/af_netlink.c netlink_native_seq_show) for the socket of this process. */
export function dropsOf(pid: number): number {
  const folder = `/proc/${pid}/fd`;
  const inodes = new Set(readdirSync(folder).map((fd) => /^socket:\[(\d+)\]$/.exec(readlinkOrNothing(`${folder}/${fd}`))?.[1]));
  const rows = readFileSync("/proc/net/netlink", "utf8").split("\n").slice(1);
  const drops = rows.flatMap((row) => {
    const [, protocol, , , , , , , dropped, inode] = row.trim().split(/\s+/);
    return protocol === KOBJECT_UEVENT && inodes.has(inode) ? Number(dropped) : [];
  });
  const [only] = drops;
  if (only === undefined || drops.length > 1) throw new Error(`process ${pid} has ${drops.length} uevent sockets`);
  return only;
}

function readlinkOrNothing(path: string): string {
  try {
    return readlinkSync(path);
  } catch {
    return "";
  }
}
