// Devices as a probe finds them, for the tests of src/vmm.

import { type Address, parseAddress, type Region } from "../../../src/broker/device.js";
import type { NumaNode } from "../../../src/broker/facts.js";
import { NVGRACE } from "../../../src/broker/nvgrace.js";
import type { KnownDevice } from "../../../src/broker/ports.js";
import type { Vmm, VmmHost, VmmOptions } from "../../../src/broker/vmm.js";
import { initiatorsOf } from "../../../src/host/numa.js";
import { BARE_PROBE, UNKNOWN_FACTS } from "../../fakes/facts.js";

export function at(text: string): Address {
  const address = parseAddress(text);
  if (address === null) throw new Error(`${text} is no address`);
  return address;
}

export function bar(index: number, size: bigint, change: Partial<Region> = {}): Region {
  return {
    ...{
      index,
      bar: index,
      kind: "BAR",
      size,
      backedSize: size,
      areas: [{ offset: 0n, size }],
      memoryType: "DEVICE",
      memoryTypeSource: "",
    },
    ...{ prefetchable: false, is64bit: false, readable: true, writable: true, mappable: true, offset: BigInt(index) << 40n, type: null },
    ...change,
  };
}

export function device(
  address: string,
  regions: readonly Region[],
  facts: Partial<KnownDevice["facts"]> = {},
  probe: Partial<KnownDevice["probe"]> = {},
): KnownDevice {
  return {
    facts: {
      ...{ address: at(address), vendorId: 0x1234, deviceId: 0x11e8, classCode: 0x00ff00, driver: "vfio-pci", driverOverride: "" },
      ...{ iommuGroup: null, resetMethods: [], numaNode: null, physicalFunction: null, vfioBound: true, leaving: false, bindKey: "" },
      ...UNKNOWN_FACTS,
      ...facts,
    },
    probe: { ...BARE_PROBE, regions, ...probe },
  };
}

const WIDE = { is64bit: true, prefetchable: true } as const;
const MIB = 1n << 20n;
const GIB = 1n << 30n;

export const EDU = device("0000:00:10.0", [bar(0, MIB)]);

const VF_BARS = [bar(0, 16n * 1024n, WIDE), bar(3, 16n * 1024n, WIDE)];
const VF = { vendorId: 0x8086, deviceId: 0x10ca, numaNode: 0 } as const;
export const IGB_PAIR = [device("0000:01:10.0", VF_BARS, VF), device("0000:01:10.2", VF_BARS, VF)] as const;

/** 95 GiB behind a BAR of 128 GiB. */
const GH200_BARS = [bar(0, 16n * MIB, WIDE), bar(2, GIB, WIDE), bar(4, 128n * GIB, { ...WIDE, backedSize: 95n * GIB })];

const GRACE_IOMMU: NonNullable<KnownDevice["probe"]["iommuHardware"]> = {
  ...{ kind: "ARM_SMMUV3", rawKind: 2, dirtyTracking: false, pasidExecute: false, pasidPrivileged: false, pasidBits: 20 },
  ...{ inputAddressBits: 48, iommuPasidBits: 20, ats: null, rangeInvalidation: true, vendorData: new Uint8Array(0) },
};

/** So many processor nodes, then so many of GPUs, with the distances of a Grace Hopper. */
export function graceNodes(sockets: number, initiators: number): readonly NumaNode[] {
  const all = Array.from({ length: sockets + initiators }, (_, id) => id);
  const isSocket = (id: number): boolean => id < sockets;
  const distance = (from: number, to: number): number =>
    from === to ? 10 : isSocket(from) && isSocket(to) ? 40 : isSocket(from) || isSocket(to) ? 80 : 10;
  return all.map((id) => ({
    id,
    ...{ hasCpus: isSocket(id), hasMemory: isSocket(id), genericInitiator: !isSocket(id) },
    distances: all.map((node) => ({ node, distance: distance(id, node) })),
  }));
}

export const GRACE_HOST: VmmHost = { backend: "IOMMUFD", architecture: "arm64", numaNodes: graceNodes(1, 8) };
export const PC_HOST: VmmHost = { backend: "IOMMUFD", architecture: "x64", numaNodes: [] };

const GRACE_ADDRESS = at("0009:01:00.0");

export function gh200(
  address: Address = GRACE_ADDRESS,
  initiators = initiatorsOf(GRACE_HOST.numaNodes, [address]).get(address) ?? null,
): KnownDevice {
  return device(
    address,
    GH200_BARS,
    { vendorId: 0x10de, deviceId: 0x2342, driver: NVGRACE, numaNode: 0, genericInitiators: initiators },
    { iommuHardware: GRACE_IOMMU },
  );
}

export function options(vmm: Vmm, change: Partial<VmmOptions> = {}): VmmOptions {
  return { vmm, machine: null, guestMemory: null, guestNodes: [], resourceName: "", ...change };
}
