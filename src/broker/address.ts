/** DOMAIN:BUS:DEVICE.FUNCTION, lower case, checked by parseAddress: the only form in which an address lives inside the daemon. */
export type Address = string & { readonly __brand: "Address" };

// Domains of more than 16 bits are real: VMD and some arm64 hosts number them from 0x10000.
const ADDRESS = /^[0-9a-f]{4,8}:[0-9a-f]{2}:[01][0-9a-f]\.[0-7]$/;

/** The address in text, or null when text is not one. Upper case is not accepted: sysfs never writes it. */
export function parseAddress(text: string): Address | null {
  return ADDRESS.test(text) ? (text as Address) : null;
}
