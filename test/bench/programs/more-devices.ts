// A host that shows more devices than it has: each further one with the facts and the probe of the first, an address and an IOMMU group of its own, and nothing behind it.

import { type DeviceFacts, parseAddress } from "../../../src/broker/device.js";
import type { Host } from "../../../src/broker/ports.js";
import { addressOf } from "./many-devices.js";

export function withMore(host: Host, there: number, shown: number): Host {
  let first: DeviceFacts | null = null;
  const scan = async (): Promise<readonly DeviceFacts[]> => {
    const real = await host.scan();
    first ??= real[0] ?? null;
    if (first === null) throw new Error("there is no device to show more of");
    const like = first;
    const more = Array.from({ length: shown - there }, (_, i): DeviceFacts => {
      const address = parseAddress(addressOf(there + i));
      if (address === null) throw new Error(`${addressOf(there + i)} is no PCI address`);
      const iommuGroup = like.iommuGroup && {
        ...like.iommuGroup,
        ...{ id: like.iommuGroup.id + there + i, members: like.iommuGroup.members.map((member) => ({ ...member, address })) },
      };
      return { ...like, address, iommuGroup };
    });
    return [...real, ...more];
  };
  const probe: Host["probe"] = (facts) => {
    const isThere = facts.iommuGroup !== null && first?.iommuGroup != null && facts.iommuGroup.id < first.iommuGroup.id + there;
    return host.probe(isThere || first === null ? facts : first);
  };
  if (shown === there) return host;
  return new Proxy(host, {
    get: (target, name) => {
      if (name === "scan") return scan;
      if (name === "probe") return probe;
      const part: unknown = Reflect.get(target, name, target);
      return typeof part === "function" ? part.bind(target) : part;
    },
  });
}
