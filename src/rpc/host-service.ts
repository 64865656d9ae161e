// HostService: what the daemon found at start, the limits it enforces, its policy asked in advance, and what the operator may tell it.

import type { Inventory } from "../broker/inventory.js";
import type { Leases } from "../broker/leases.js";
import { explain } from "../broker/policy-explain.js";
import type { Host, Peer } from "../broker/ports.js";
import { granted, type Outcome, refuse } from "../broker/refusal.js";
import type { HostServiceHandlers } from "../generated/aperture/v1/HostService.js";
import type { ReloadConfigResponse } from "../generated/aperture/v1/ReloadConfigResponse.js";
import { readPolicyQuery, toPolicyAnswer } from "./policy-query.js";
import { toTimestamp } from "./translate.js";
import { toNumaNode } from "./translate-facts.js";
import { requirePeer, type Unary } from "./unary.js";

export interface HostFacts {
  readonly version: string;
  readonly kernelRelease: string;
  readonly backendReason: string;
  /** As they are now. */
  readonly limits: () => readonly { readonly name: string; readonly value: bigint; readonly unit: string }[];
  readonly instanceId: string;
  readonly startTime: number;
  readonly channelPath: string;
  /** Capabilities that are not the host's: of the peer layer. */
  readonly capabilities: ReturnType<Host["capabilities"]>;
}

/** What a reload came to. */
export interface ReloadReport {
  /** Not empty: nothing was applied. */
  readonly problems: readonly string[];
  readonly changed: readonly SettingChange[];
  readonly needsRestart: readonly SettingChange[];
  readonly policyRules: number;
  readonly policyChanged: boolean;
}

export interface SettingChange {
  readonly name: string;
  readonly from: string;
  readonly to: string;
}

export interface HostServiceDeps {
  readonly host: Host;
  readonly facts: HostFacts;
  readonly inventory: Inventory;
  readonly leases: Leases;
  readonly reload: () => ReloadReport;
  readonly unary: Unary;
}

export function hostService({ host, facts, inventory, leases, reload, unary }: HostServiceDeps): HostServiceHandlers {
  const operator = (caller: Peer | null, what: string): Outcome<Peer> => {
    const peer = requirePeer(caller);
    if (peer.refusal || leases.isOperator(peer.value)) return peer;
    return refuse("NOT_OPERATOR", `uid ${peer.value.uid} may not ${what}: that is for root and the daemon's user`);
  };
  return {
    GetHostInfo: unary(() => {
      const capabilities = [...host.capabilities(), ...facts.capabilities].sort((a, b) => (a.name < b.name ? -1 : 1));
      return granted({
        version: facts.version,
        kernelRelease: facts.kernelRelease,
        backend: `BACKEND_${host.backend}` as const,
        simulated: host.backend === "SIMULATED",
        backendReason: facts.backendReason,
        capabilities: capabilities.map(({ name, availability, detail }) => ({
          name,
          availability: `AVAILABILITY_${availability}` as const,
          detail,
        })),
        limits: facts.limits().map(({ name, value, unit }) => ({ name, value: value.toString(), unit })),
        instanceId: facts.instanceId,
        startTime: toTimestamp(facts.startTime),
        channelPath: facts.channelPath,
        numaNodes: host.numaNodes().map(toNumaNode),
      });
    }),
    TestPolicy: unary((request, caller) => {
      const peer = requirePeer(caller);
      if (peer.refusal) return peer;
      if (request.uid !== peer.value.uid) {
        const may = operator(caller, `ask about uid ${request.uid}`);
        if (may.refusal) return may;
      }
      const query = readPolicyQuery(request);
      if (query.refusal) return query;
      const { address } = query.value;
      const view = inventory.get(address);
      if (view === null) return refuse("DEVICE_NOT_FOUND", `there is no device ${address} on this host`, { address });
      return granted(toPolicyAnswer(explain(leases.policy, query.value.caller, view.facts, query.value.asked), query.value));
    }),
    ReloadConfig: unary((_request, caller) => {
      const peer = operator(caller, "reload the configuration");
      if (peer.refusal) return peer;
      return granted(toReloadAnswer(reload()));
    }),
    Rescan: unary(async (_request, caller) => {
      const peer = operator(caller, "start a scan");
      if (peer.refusal) return peer;
      await inventory.refresh();
      return granted({ revision: inventory.revision.toString(), devices: inventory.list().length });
    }),
  };
}

function toReloadAnswer({ problems, changed, needsRestart, policyRules, policyChanged }: ReloadReport): ReloadConfigResponse {
  return {
    applied: problems.length === 0,
    problems: [...problems],
    changed: changed.map((change) => ({ ...change })),
    needsRestart: needsRestart.map((change) => ({ ...change })),
    policyRules,
    policyChanged,
  };
}
