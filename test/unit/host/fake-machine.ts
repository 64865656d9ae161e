// A made-up machine: sysfs tree and kernel that agree with each other, with the devices that the host tests need.

import assert from "node:assert/strict";
import type { Host, KnownDevice } from "../../../src/broker/ports.js";
import type { HostOptions } from "../../../src/host/machine.js";
import type { VfioRegionInfo } from "../../../src/native.js";
import { type FakeDevice, FakeKernel } from "./fake-kernel.js";
import { SysfsTree } from "./sysfs-tree.js";

export const EDU = "0000:00:10.0";
export const GRACE = "0000:00:14.0";
/** A physical function with a VFIO driver, and its virtual function. */
export const PF = "0000:01:00.0";
export const VF = "0000:01:10.0";
/** Two functions of one group. */
export const TWIN_A = "0000:02:00.0";
export const TWIN_B = "0000:02:00.1";

function region(index: number, size: bigint, rest: Partial<VfioRegionInfo> = {}): VfioRegionInfo {
  return { index, size, flags: 7, offset: BigInt(index) << 40n, sparse: null, type: null, msixMappable: false, ...rest };
}

const CONFIG = region(7, 0x1000n, { flags: 3 });

function device(address: string, group: number, vfio: number, flags: number, regions: readonly VfioRegionInfo[]): FakeDevice {
  return { address, group, vfio, flags, regions: [...regions, CONFIG], registers: new Uint8Array(24) };
}

export class FakeMachine {
  readonly tree = new SysfsTree();
  readonly kernel: FakeKernel;
  readonly faults: string[] = [];

  /** change: what is different from the usual about a device. */
  constructor(change: (device: FakeDevice) => FakeDevice = (device) => device) {
    const devices = [
      device(EDU, 3, 0, 2, [region(0, 0x100000n)]),
      device(GRACE, 7, 3, 3, [
        region(0, 0x1000000n),
        region(2, 0x80000000n, { sparse: [{ offset: 0n, size: 0x50000000n }], flags: 15 }),
        region(4, 0x40000000n, { sparse: [{ offset: 0n, size: 0x20000000n }], flags: 15 }),
      ]),
      { ...device(PF, 11, 4, 3, [region(0, 0x20000n)]), sriov: true },
      { ...device(VF, 12, 5, 3, [region(0, 0x4000n)]), physical: PF },
      device(TWIN_A, 13, 6, 3, [region(0, 0x10000n)]),
      device(TWIN_B, 13, 7, 3, [region(0, 0x10000n)]),
    ];
    this.kernel = new FakeKernel(this.tree.devRoot, devices.map(change));
    for (const { address, group, vfio } of this.kernel.devices) {
      const driver = address === GRACE ? "nvgrace_gpu_vfio_pci" : "vfio-pci";
      // An empty memfd, which stands for every descriptor here, has no device number.
      this.tree.add(address, { driver, group, vfio, cdev: "0:0", ...(address === VF ? { physfn: PF } : {}) });
    }
    this.tree.write(PF, "sriov_totalvfs", "7\n");
  }

  options(): HostOptions {
    const { tree, kernel } = this;
    const fault = (where: string, error: unknown): void => {
      this.faults.push(`${where}: ${error instanceof Error ? error.message : String(error)}`);
    };
    return { sysRoot: tree.sysRoot, devRoot: tree.devRoot, observer: { fault }, kernel, systemFiles: tree.systemFiles() };
  }

  remove(): void {
    this.tree.remove();
  }
}

/** Scans and probes devices as the broker does. */
export async function knownDevices(host: Host, ...addresses: readonly string[]): Promise<readonly KnownDevice[]> {
  const all = await host.scan();
  const known: KnownDevice[] = [];
  for (const address of addresses) {
    const facts = all.find((candidate) => candidate.address === address);
    assert.ok(facts !== undefined, address);
    const probe = await host.probe(facts);
    assert.equal(probe.refusal, null, probe.refusal?.message);
    known.push({ facts, probe: probe.value });
  }
  return known;
}
