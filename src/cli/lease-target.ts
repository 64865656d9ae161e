// What `acquire` and `exec` lease: devices, or with --regions some regions of one.

import type { AcquireTarget } from "../client/index.js";
import type { CommandCall } from "./command.js";
import { CliError } from "./exit-code.js";
import { printable } from "./printable.js";

/** Throws CliError (usage). */
export function leaseTarget(call: Pick<CommandCall, "operands" | "values">): AcquireTarget {
  const list = call.values.get("regions");
  if (list === undefined) return { kind: "device", addresses: call.operands };
  const [address, ...more] = call.operands;
  if (address === undefined || more.length > 0) throw new CliError("usage", "--regions leases regions of exactly one device");
  return { kind: "region", address, regions: list.split(",").map(regionIndex) };
}

function regionIndex(text: string): number {
  if (/^\d{1,9}$/.test(text)) return Number(text);
  throw new CliError("usage", `\`${printable(text)}\` is not a region index`, "for example --regions 2,4");
}
