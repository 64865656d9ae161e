// Every PCI function of the lab by name. machine.ts builds the QEMU command line from it and the tests in the guest look their devices up
// in it, so an address stands in one place (bind-devices.sh, which a person also runs by hand, repeats them; boot.test.ts compares).

export type World = "iommufd" | "legacy";

export const worlds: readonly World[] = ["iommufd", "legacy"];

export interface LabDevice {
  readonly address: string;
  /** "vendor:device" as in lspci -n. */
  readonly ids: string;
  /** The driver after bind-devices.sh, null for none. */
  readonly driver: Readonly<Record<World, string | null>>;
  /** What sysfs reset_method says, in the kernel's order; empty: the function cannot be reset at all. */
  readonly resetMethods: readonly string[];
  /** Bytes of each BAR that the hardware has, by BAR number. */
  readonly bars: Readonly<Record<number, number>>;
}

const KiB = 1024;
const MiB = 1024 * KiB;

const vfioPci = { iommufd: "vfio-pci", legacy: "vfio-pci" } as const;
const free = { iommufd: null, legacy: null } as const;

/** QEMU's teaching device: one 1 MiB BAR of registers, DMA, one interrupt. */
export const edu: LabDevice = {
  address: "0000:00:10.0",
  ids: "1234:11e8",
  driver: vfioPci,
  resetMethods: [],
  bars: { 0: 1 * MiB },
};

/** BAR 1 is an I/O port range; BAR 2 is 64-bit prefetchable. */
export const testdev: LabDevice = {
  address: "0000:00:11.0",
  ids: "1b36:0005",
  driver: vfioPci,
  resetMethods: [],
  bars: { 0: 4 * KiB, 1: 256, 2: 256 * MiB },
};

/** BAR 2 is plain memory that nothing clears: what one tenant leaves there, the next one reads. */
export const ivshmem: LabDevice = {
  address: "0000:00:12.0",
  ids: "1af4:1110",
  driver: vfioPci,
  resetMethods: [],
  bars: { 0: 256, 2: 64 * MiB },
};

/** In use by the host: the device that must not be leased before its driver gives it up. */
export const nvme: LabDevice = {
  address: "0000:00:13.0",
  ids: "1b36:0010",
  driver: { iommufd: "nvme", legacy: "nvme" },
  resetMethods: ["flr"],
  bars: { 0: 16 * KiB },
};

/** bochs-display in the place of a Grace Hopper GPU: see grace-hopper.ts. Debian's kernel has no driver for that. */
export const graceHopper: LabDevice = {
  address: "0000:00:14.0",
  ids: "1234:1111",
  driver: { iommufd: "nvgrace_gpu_vfio_pci", legacy: "vfio-pci" },
  resetMethods: [],
  bars: { 0: 16 * MiB, 2: 4 * KiB },
};

/** The SR-IOV physical function stays with its own driver, which has to own it for the virtual functions to exist. */
export const igb: LabDevice = {
  address: "0000:01:00.0",
  ids: "8086:10c9",
  driver: { iommufd: "igb", legacy: "igb" },
  resetMethods: ["flr", "pm", "bus"],
  bars: { 0: 128 * KiB, 1: 128 * KiB, 2: 32, 3: 16 * KiB },
};

function virtualFunction(address: string): LabDevice {
  return { address, ids: "8086:10ca", driver: vfioPci, resetMethods: ["flr"], bars: { 0: 16 * KiB, 3: 16 * KiB } };
}

export const igbVfs: readonly [LabDevice, LabDevice] = [virtualFunction("0000:01:10.0"), virtualFunction("0000:01:10.2")];

/**
 * Two functions of one slot share an IOMMU group, because nothing says they are isolated from each other. The edu beside an nvme that the
 * host uses is bound to vfio-pci and still nobody may have it: the group is not viable, and the nvme is the member that spoils it.
 */
export const groupSpoiler: LabDevice = { ...nvme, address: "0000:00:17.0" };
export const spoiledEdu: LabDevice = { ...edu, address: "0000:00:17.1" };

/** Q35's own south bridge functions: one shared group and no driver on any, so nothing of them is on VFIO. */
export const southBridge: readonly LabDevice[] = [
  { address: "0000:00:1f.0", ids: "8086:2918", driver: free, resetMethods: [], bars: {} },
  { address: "0000:00:1f.2", ids: "8086:2922", driver: free, resetMethods: [], bars: { 4: 32, 5: 4 * KiB } },
  { address: "0000:00:1f.3", ids: "8086:2930", driver: free, resetMethods: [], bars: { 4: 64 } },
];

/** An empty hot-plug slot. */
export interface Port {
  /** QEMU's: the bus name for device_add. */
  readonly id: string;
  readonly address: string;
  readonly deviceAddress: string;
}

export const hotplugPort: Port = { id: "empty-port", address: "0000:00:16.0", deviceAddress: "0000:02:00.0" };

/** What is plugged in here is reset by firmware, which takes as long as a test says: see held-reset.ts. */
export const heldResetPort: Port = { id: "held-reset-port", address: "0000:00:18.0", deviceAddress: "0000:03:00.0" };

/** Alone in their IOMMU group. */
export const isolatedDevices: readonly LabDevice[] = [edu, testdev, ivshmem, nvme, graceHopper, igb, ...igbVfs];

/** Sets that share one IOMMU group. */
export const sharedGroups: readonly (readonly LabDevice[])[] = [[groupSpoiler, spoiledEdu], southBridge];

export const allDevices: readonly LabDevice[] = [...isolatedDevices, ...sharedGroups.flat()];

/** "10.0" of "0000:00:10.0": how QEMU names a place on the root bus. */
export function slotOf(device: Pick<LabDevice, "address">): string {
  return device.address.slice("0000:00:".length);
}
