// Simulated devices in number. baselines/lease_caller.cc makes the same addresses from the same numbers.

import { parseAddress } from "../../../src/broker/device.js";
import { RegionFlag } from "../../../src/host/region.js";
import { SIMULATED_DEVICES, type SimulatedDevice, type SimulatedRegion } from "../../../src/host/simulated-devices.js";

/** Descriptors and regions of each lease of one of them. */
export const DESCRIPTORS = 2;
export const REGIONS = 6;

const MIB = 1n << 20n;

function hex(value: number, digits: number): string {
  return value.toString(16).padStart(digits, "0");
}

export function addressOf(index: number): string {
  return `${hex(0x1000 + (index >> 16), 4)}:${hex((index >> 8) & 0xff, 2)}:${hex((index >> 3) & 0x1f, 2)}.${index & 7}`;
}

/** Of six: two BARs that a client gets a descriptor of, and four that can only be written, and so give none. */
function regions(template: SimulatedRegion, count: number): readonly SimulatedRegion[] {
  return Array.from({ length: count }, (_, index) => ({
    ...{ ...template, index, size: MIB, backedSize: MIB },
    flags: index < DESCRIPTORS ? RegionFlag.read | RegionFlag.write | RegionFlag.mmap : RegionFlag.write,
  }));
}

/** Devices alone in their IOMMU groups, with facts of the simulated host's NVMe drive. */
export function manyDevices(count: number, regionsEach = REGIONS): readonly SimulatedDevice[] {
  const template = SIMULATED_DEVICES.find((device) => device.vfioBound && device.driver === "vfio-pci" && device.classCode === 0x010802);
  const [bar] = template?.regions ?? [];
  if (template === undefined || bar === undefined) throw new Error("the simulated host has no NVMe drive on vfio-pci any more");
  const layout = regions({ ...bar, barBits: 0 }, regionsEach);
  return Array.from({ length: count }, (_, index) => {
    const address = parseAddress(addressOf(index));
    if (address === null) throw new Error(`${addressOf(index)} is no PCI address`);
    return { ...template, address, group: 1000 + index, ports: [], regions: layout };
  });
}
