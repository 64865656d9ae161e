// [[peers]] tables: each key checked, each mistake told at its line.

import { type Address, parseAddress } from "../broker/address.js";
import type { PeerSet } from "../broker/peer-set.js";

/** Each key of a set, with the words of docs/CONFIG.md. */
export const PEER_KEYS = {
  name: { form: "text", missing: "an error", help: "named in refusals; each set needs its own" },
  devices: {
    form: "list of addresses, two or more",
    missing: "an error",
    help: "devices that are locked together; they need not be in the machine",
  },
} as const satisfies Record<string, { readonly form: string; readonly missing: string; readonly help: string }>;

export const PEER_KEY_NAMES = Object.keys(PEER_KEYS);

const LONGEST_NAME = 1_024;
/** A lease takes 16 devices, and an NVLink domain of one host has fewer; more is another file. */
const MOST_DEVICES = 64;

/** wrong: says what is wrong with a key. */
export function readPeerSet(table: Readonly<Record<string, unknown>>, wrong: (key: string, what: string) => void): PeerSet {
  const { name, devices } = table;
  if (typeof name !== "string" || name === "" || name.length > LONGEST_NAME)
    wrong("name", `expected a string of 1 to ${LONGEST_NAME} characters`);
  return { name: String(name), devices: addresses(devices, wrong) };
}

function addresses(value: unknown, wrong: (key: string, what: string) => void): readonly Address[] {
  const found = new Set<Address>();
  const list: readonly unknown[] = Array.isArray(value) ? value : [];
  for (const item of list) {
    const address = typeof item === "string" ? parseAddress(item) : null;
    if (address === null) wrong("devices", `${JSON.stringify(item)} is no PCI address, for example "0009:01:00.0"`);
    else if (found.has(address)) wrong("devices", `${address} is named twice`);
    else found.add(address);
  }
  if (list.length < 2 || list.length > MOST_DEVICES) wrong("devices", `expected a list of 2 to ${MOST_DEVICES} addresses`);
  return [...found];
}
