// What `acquire` and `exec` lease: devices, or with --regions some regions of one.

import type { AcquireTarget, LeaseTerms, TicketOptions } from "../client/index.js";
import type { CommandCall } from "./command.js";
import { CliError } from "./exit-code.js";
import { printable } from "./printable.js";

/** Throws CliError (usage). */
export function leaseTarget(call: Pick<CommandCall, "operands" | "values">): AcquireTarget {
  if (call.operands.length === 0) throw new CliError("usage", "which devices? Name their addresses, or say --ticket");
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

const MODES: Readonly<Record<string, NonNullable<LeaseTerms["mode"]>>> = { hand_off: "HAND_OFF", retain: "RETAIN" };

/** --mode and --max-duration. Throws CliError (usage). */
export function leaseTerms({ values }: Pick<CommandCall, "values">): LeaseTerms {
  const text = values.get("mode");
  const mode = text === undefined ? undefined : MODES[text];
  if (text !== undefined && mode === undefined)
    throw new CliError("usage", `--mode: \`${printable(text)}\` is neither hand_off nor retain`);
  const maxDurationMs = seconds(values.get("max-duration"), "max-duration");
  return { ...(mode === undefined ? {} : { mode }), ...(maxDurationMs === undefined ? {} : { maxDurationMs }) };
}

/** --uid and --lifetime. Throws CliError (usage). */
export function ticketOptions({ values }: Pick<CommandCall, "values">): TicketOptions {
  const text = values.get("uid");
  if (text !== undefined && !/^\d{1,10}$/.test(text)) throw new CliError("usage", `--uid: \`${printable(text)}\` is no user's number`);
  const lifetimeMs = seconds(values.get("lifetime"), "lifetime");
  return { ...(text === undefined ? {} : { uid: Number(text) }), ...(lifetimeMs === undefined ? {} : { lifetimeMs }) };
}

/** Seconds of an option as milliseconds; undefined: not given. Throws CliError (usage). */
export function seconds(text: string | undefined, option: string): number | undefined {
  if (text === undefined) return undefined;
  if (!/^\d{1,8}(\.\d{1,3})?$/.test(text)) throw new CliError("usage", `--${option}: \`${printable(text)}\` is no number of seconds`);
  return Math.round(Number(text) * 1000);
}
