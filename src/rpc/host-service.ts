// HostService: what the daemon found at start, and the limits it enforces.

import type { Host } from "../broker/ports.js";
import { granted } from "../broker/refusal.js";
import type { HostServiceHandlers } from "../generated/aperture/v1/HostService.js";
import { toTimestamp } from "./translate.js";
import type { Unary } from "./unary.js";

export interface HostFacts {
  readonly version: string;
  readonly kernelRelease: string;
  readonly backendReason: string;
  readonly limits: readonly { readonly name: string; readonly value: bigint; readonly unit: string }[];
  readonly instanceId: string;
  readonly startTime: number;
  readonly channelPath: string;
  /** Capabilities that are not the host's: of the peer layer. */
  readonly capabilities: ReturnType<Host["capabilities"]>;
}

export function hostService(deps: { readonly host: Host; readonly facts: HostFacts; readonly unary: Unary }): HostServiceHandlers {
  const { host, facts, unary } = deps;
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
        limits: facts.limits.map(({ name, value, unit }) => ({ name, value: value.toString(), unit })),
        instanceId: facts.instanceId,
        startTime: toTimestamp(facts.startTime),
        channelPath: facts.channelPath,
      });
    }),
  };
}
