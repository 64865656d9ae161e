/** QEMU's DSDT names the object of a root-bus function S and its devfn, two hexadecimal digits. */
export function acpiName(slot: string): string {
  const [device, fn] = slot.split(".").map((part) => Number.parseInt(part, 16));
  const devfn = ((device ?? 0) << 3) | (fn ?? 0);
  return `S${devfn.toString(16).toUpperCase().padStart(2, "0")}`;
}
