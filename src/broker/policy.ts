// Who may lease what. First match wins; without a match the answer is no. Pure: a decision is a function of the peer, the device and the rules.

import type { DeviceFacts } from "./device.js";
import type { Peer } from "./ports.js";
import { granted, type Outcome, refuse } from "./refusal.js";

export type LeaseKind = "DEVICE" | "REGION";

/** Which devices a rule covers: an address, vendor:device in hexadecimal (10de:2342), or * for all. */
export type DeviceSelector =
  | { readonly by: "any" }
  | { readonly by: "address"; readonly address: string }
  | { readonly by: "id"; readonly vendorId: number; readonly deviceId: number };

export interface PolicyRule {
  /** Named in every denial and log line. */
  readonly name: string;
  /** null: any user. */
  readonly uids: readonly number[] | null;
  /** Primary group at connect time. null: any. */
  readonly gids: readonly number[] | null;
  readonly devices: readonly DeviceSelector[];
  /** Kinds that are allowed; empty: the rule denies. */
  readonly kinds: readonly LeaseKind[];
  /** A region lease may be given a descriptor of the whole device when the kernel has nothing narrower. */
  readonly allowDeviceScope: boolean;
  /** A device that cannot be reset may pass from another user to this one, with whatever it still holds. */
  readonly allowUnreset: boolean;
  /** Leases a user may hold at once under this rule. null: the general limit only. */
  readonly maxLeases: number | null;
}

/** The safe default: the daemon's own user, everything but the two permissions that weaken isolation. */
export function defaultPolicy(daemonUid: number): readonly PolicyRule[] {
  const rule = {
    name: "default: the daemon's own user",
    uids: [daemonUid],
    gids: null,
    devices: [{ by: "any" as const }],
    maxLeases: null,
  };
  return [{ ...rule, kinds: ["DEVICE", "REGION"], allowDeviceScope: false, allowUnreset: false }];
}

export function parseDeviceSelector(text: string): DeviceSelector | null {
  if (text === "*") return { by: "any" };
  const id = /^([0-9a-f]{4}):([0-9a-f]{4})$/.exec(text);
  if (id?.[1] && id[2]) return { by: "id", vendorId: Number.parseInt(id[1], 16), deviceId: Number.parseInt(id[2], 16) };
  return /^[0-9a-f]{4,8}:[0-9a-f]{2}:[01][0-9a-f]\.[0-7]$/.test(text) ? { by: "address", address: text } : null;
}

function covers(selector: DeviceSelector, device: DeviceFacts): boolean {
  switch (selector.by) {
    case "any":
      return true;
    case "address":
      return selector.address === device.address;
    case "id":
      return selector.vendorId === device.vendorId && selector.deviceId === device.deviceId;
  }
}

/** The rule that allows it, or POLICY_DENIED naming the rule that denies it. */
export function decide(rules: readonly PolicyRule[], peer: Peer, device: DeviceFacts, kind: LeaseKind): Outcome<PolicyRule> {
  const rule = rules.find(
    (candidate) =>
      (candidate.uids === null || candidate.uids.includes(peer.uid)) &&
      (candidate.gids === null || candidate.gids.includes(peer.gid)) &&
      candidate.devices.some((selector) => covers(selector, device)),
  );
  const who = `uid ${peer.uid} may not take a ${kind.toLowerCase()} lease of ${device.address}`;
  if (!rule) return refuse("POLICY_DENIED", `${who}: no policy rule covers it`, { address: device.address, uid: String(peer.uid) });
  if (!rule.kinds.includes(kind)) {
    return refuse("POLICY_DENIED", `${who}: denied by policy rule "${rule.name}"`, {
      address: device.address,
      uid: String(peer.uid),
      rule: rule.name,
    });
  }
  return granted(rule);
}
