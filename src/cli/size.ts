// Sizes as people compare them (binary units) and as the kernel and the VMM's command line write them (hexadecimal).

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"] as const;

/** `0x40000000`. */
export function hex(value: bigint | number, digits = 1): string {
  return `0x${value.toString(16).padStart(digits, "0")}`;
}

/** `1 GiB`, `188.02 GiB`: in the largest unit that leaves at least 1, two decimals where it is not whole. */
export function humanSize(bytes: bigint): string {
  let unit = 0;
  let divisor = 1n;
  while (unit < UNITS.length - 1 && bytes >= divisor * 1024n) {
    unit++;
    divisor *= 1024n;
  }
  const hundredths = (bytes * 100n + divisor / 2n) / divisor;
  const whole = hundredths / 100n;
  const rest = hundredths % 100n;
  const decimals = rest === 0n ? "" : `.${rest.toString().padStart(2, "0").replace(/0$/, "")}`;
  return `${whole}${decimals} ${UNITS[unit]}`;
}

/** `0x40000000 1 GiB`. */
export function hexAndHuman(bytes: bigint): string {
  return `${hex(bytes)} ${humanSize(bytes)}`;
}
