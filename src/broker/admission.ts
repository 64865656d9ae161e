// Whether a request may become a lease: existence, policy, eligibility, tenant, quota, in this order, without an await and without a side effect.

import type { Book } from "./book.js";
import type { Address, Region } from "./device.js";
import type { Inventory } from "./inventory.js";
import type { AcquireRequest, Lease, LeaseTerms } from "./lease.js";
import { type Caller, decide, type PolicyRule } from "./policy.js";
import type { KnownDevice, Peer } from "./ports.js";
import { granted, type Outcome, refuse } from "./refusal.js";
import type { TenantMemory } from "./tenant.js";
import { tieBetween } from "./ties.js";

export interface Admission {
  readonly devices: readonly { readonly known: KnownDevice; readonly regions: readonly Region[] }[];
  /** Atomic sets to lock, each with the requested devices in it. */
  readonly sets: readonly { readonly members: readonly Address[]; readonly leased: readonly KnownDevice[] }[];
  readonly terms: LeaseTerms;
}

export interface AdmissionContext {
  readonly inventory: Inventory;
  readonly book: Book;
  readonly tenants: TenantMemory;
  readonly rules: readonly PolicyRule[];
  /** The peer, as policy knows it. */
  readonly caller: Caller;
  /** The leases of the peer's user that have not ended. */
  readonly own: ReadonlySet<Lease>;
  readonly leasesPerUid: number;
}

export function admit(context: AdmissionContext, peer: Peer, request: AcquireRequest): Outcome<Admission> {
  const devices: { known: KnownDevice; regions: readonly Region[] }[] = [];
  const allowing: PolicyRule[] = [];
  const asked = { kind: request.kind, mode: request.mode, delegate: request.ticket !== null };
  // Whose eyes the devices come under. A ticket without a user tells that only when it is shown (leases.ts).
  const tenantUid = request.ticket === null ? peer.uid : request.ticket.uid;
  for (const { address, regions: indexes } of request.devices) {
    const view = context.inventory.get(address);
    if (view === null) return refuse("DEVICE_NOT_FOUND", `there is no device ${address} on this host`, { address });
    const rule = decide(context.rules, context.caller, view.facts, asked);
    if (rule.refusal) return rule;
    allowing.push(rule.value);
    const [reason] = view.ineligibleReasons;
    if (reason) return refuse(reason.reason, reason.message, { address });
    const known = context.inventory.known(address);
    if (known === null) return refuse("DEVICE_NOT_PROBED", `${address} has not been read yet`, { address });
    const tenant = tenantUid === null ? null : context.tenants.check(address, tenantUid, rule.value.allowUnreset);
    if (tenant?.refusal) return tenant;
    const regions = select(known, indexes);
    if (regions.refusal) return regions;
    devices.push({ known, regions: regions.value });
  }
  const room = quota(context, peer, allowing);
  if (room.refusal) return room;
  const sets = atomicSets(context, devices);
  return sets.refusal ? sets : granted({ devices, sets: sets.value, terms: termsOf(allowing) });
}

/** The user's leases in all, and those under each rule that has a limit of its own. A lease over devices of several rules counts for every rule. */
function quota({ own, leasesPerUid }: AdmissionContext, peer: Peer, rules: readonly PolicyRule[]): Outcome<null> {
  const refused = (held: number, limit: number, under: string): ReturnType<typeof refuse> =>
    refuse("LEASE_QUOTA", `uid ${peer.uid} has ${held} leases${under}, and ${limit} is the most it may hold at once`, {
      limit: String(limit),
    });
  if (own.size >= leasesPerUid) return refused(own.size, leasesPerUid, "");
  for (const { name, maxLeases } of rules) {
    if (maxLeases === null) continue;
    let held = 0;
    for (const { terms } of own) if (terms.policyRule === name || terms.policyRule === "") held += 1;
    if (held >= maxLeases) return refused(held, maxLeases, ` under policy rule "${name}"`);
  }
  return granted(null);
}

/** A lease over devices of several rules may do what all of them allow. */
function termsOf(rules: readonly PolicyRule[]): LeaseTerms {
  const durations = rules.flatMap((rule) => rule.maxDurationMs ?? []);
  const [first] = rules;
  return {
    allowDeviceScope: rules.every((rule) => rule.allowDeviceScope),
    allowUnreset: rules.every((rule) => rule.allowUnreset),
    mayDelegate: rules.every((rule) => rule.delegate),
    policyRule: first !== undefined && rules.every((rule) => rule === first) ? first.name : "",
    maxDurationMs: durations.length === 0 ? null : Math.min(...durations),
  };
}

function select({ facts, probe }: KnownDevice, indexes: readonly number[]): Outcome<readonly Region[]> {
  if (indexes.length === 0) return granted(probe.regions);
  const chosen: Region[] = [];
  for (const index of [...indexes].sort((a, b) => a - b)) {
    const region = probe.regions.find((candidate) => candidate.index === index);
    if (!region)
      return refuse("REGION_NOT_FOUND", `${facts.address} has no region ${index}`, { address: facts.address, region: String(index) });
    chosen.push(region);
  }
  return granted(chosen);
}

function atomicSets(context: AdmissionContext, devices: Admission["devices"]): Outcome<Admission["sets"]> {
  const sets: { members: readonly Address[]; leased: KnownDevice[] }[] = [];
  for (const { known } of devices) {
    const { address } = known.facts;
    const there = sets.find((set) => set.members.includes(address));
    if (there) {
      there.leased.push(known);
      continue;
    }
    const members = context.book.atomicSet(known.facts);
    for (const member of members) {
      const claim = context.book.claimOf(member);
      if (!claim) continue;
      const tied = { ...known, peerSets: context.inventory.get(address)?.peerSets ?? [] };
      const what = member === address ? address : `${address} (through ${member}, which ${tieBetween(tied, member)})`;
      return refuse("DEVICE_BUSY", `${what} is ${claim.state.toLowerCase()}`, { address, member, state: claim.state });
    }
    sets.push({ members, leased: [known] });
  }
  return granted(sets);
}
