// A made-up VFIO kernel behind the BlockingQueue interface, for what the lab's kernels cannot be made to do: fail at the n-th call, have a dma-buf that maps, check VF
// tokens, refuse RLIMIT_MODE. Its rules are those of drivers/vfio (7.3); the lab's contract test is what shows that they are. Its descriptors are real (empty memfds), so
// that a leak is a number in /proc/self/fd.

import { join } from "node:path";
import type { KernelCalls } from "../../../src/host/machine.js";
import {
  type BlockingQueue,
  type IommuInfo,
  native,
  type ResetFunction,
  type SysError,
  type SysResult,
  type VfioDeviceInfo,
  type VfioIrqInfo,
  type VfioRegionInfo,
} from "../../../src/native.js";

export interface FakeDevice {
  readonly address: string;
  readonly group: number;
  readonly vfio: number;
  readonly flags: number;
  readonly regions: readonly VfioRegionInfo[];
  /** The first bytes of config space from the first BAR register on. */
  readonly registers: Uint8Array;
  /** All of config space but those registers. Left out: zeros. */
  readonly config?: Uint8Array;
  /** Vectors of each interrupt index; null: EINVAL. Left out: none has any. */
  readonly interrupts?: readonly (number | null)[];
  /** Left out: ENODEV. */
  readonly hotReset?: readonly ResetFunction[];
  readonly migration?: bigint;
  /** Of a virtual function. */
  readonly physical?: string;
  /** It can have virtual functions. */
  readonly sriov?: boolean;
  /** Features that a probe finds, as `set 3`. Left out: DMA_BUF. */
  readonly features?: readonly string[];
}

type File =
  | { readonly kind: "iommufd" | "container" | "dmabuf" | "plain" }
  | { readonly kind: "group"; readonly group: number; container: boolean }
  | { readonly kind: "device"; readonly device: FakeDevice; bound: boolean; readonly group: number | null };

const ERRNO: Readonly<Record<string, number>> = {
  EPERM: 1,
  ENOENT: 2,
  EIO: 5,
  ENXIO: 6,
  EBADF: 9,
  EAGAIN: 11,
  ENOMEM: 12,
  EACCES: 13,
  EBUSY: 16,
  ENODEV: 19,
  EINVAL: 22,
  EMFILE: 24,
  ENOTTY: 25,
  EOPNOTSUPP: 95,
  ETIME: 62,
};

export function sysError(operation: string, code: string, subject: string): SysError {
  return { operation, errno: ERRNO[code] ?? 0, code, subject };
}

/** Answer of an interference: an errno name makes the call fail, null lets it go on. */
export type Interference = (operation: string, subject: string) => string | null;

export class FakeKernel implements KernelCalls {
  readonly BlockingQueue: KernelCalls["BlockingQueue"];
  readonly mapRegion: KernelCalls["mapRegion"];
  readonly devRoot: string;
  readonly devices: readonly FakeDevice[];
  readonly files = new Map<number, File>();
  /** Every call so far, as `operation subject`. */
  readonly calls: string[] = [];
  interfere: Interference = () => null;
  /** Whether mmap of a dma-buf works. */
  dmaBufMmap = false;
  /** The token of each physical function. One that nobody has set is one that nobody knows. */
  readonly tokens = new Map<string, string>();
  /** Devices that were opened, or tried to be, with a token, in order. */
  readonly shownTo: string[] = [];
  /** Whether BIND looks at tokens (6.17), and whether drivers look into a name for one. */
  bindTokens = true;
  nameTokens = true;
  /** What IOMMU_GET_HW_INFO says; null: EOPNOTSUPP. */
  iommu: IommuInfo | null = null;

  constructor(devRoot: string, devices: readonly FakeDevice[]) {
    this.devRoot = devRoot;
    this.devices = devices;
    const kernel = this;
    this.BlockingQueue = class extends FakeQueue {
      constructor(name: string) {
        super(kernel, new native.BlockingQueue(name));
      }
    };
    this.mapRegion = async (fd, _offset, size, _areas, _write, subject) => {
      const failed = await kernel.enter("mmap", subject);
      if (failed !== null) return { value: null, error: failed };
      if (kernel.files.get(fd)?.kind === "dmabuf" && !kernel.dmaBufMmap) return { value: null, error: sysError("mmap", "EINVAL", subject) };
      const memory = must(native.memfdCreate("mapped", size));
      const mapping = await native.mapRegion(memory, 0n, size, [{ offset: 0n, size }], false, subject);
      must(native.closeDescriptor(memory));
      return mapping;
    };
  }

  async enter(operation: string, subject: string): Promise<SysError | null> {
    // Every call comes back in a later turn of the loop, as from a thread.
    await new Promise((resolve) => setImmediate(resolve));
    this.calls.push(`${operation} ${subject}`);
    const code = this.interfere(operation, subject);
    return code === null ? null : sysError(operation, code, subject);
  }

  add(file: File): number {
    const descriptor = must(native.memfdCreate(`fake ${file.kind}`, 0n));
    this.files.set(descriptor, file);
    return descriptor;
  }

  /** vfio_pci_validate_vf_token(); null: it may be opened, and a token that it sets is set. */
  refusesToken({ address, physical, sriov }: FakeDevice, token: string | null): string | null {
    if (physical !== undefined) return token !== null && token === this.tokens.get(physical) ? null : "EACCES";
    if (sriov !== true) return token === null ? null : "EINVAL";
    if (this.devices.some((each) => each.physical === address && this.isOpen(each)))
      return token === this.tokens.get(address) ? null : "EACCES";
    if (token !== null) this.tokens.set(address, token);
    return null;
  }

  /** For a descriptor that add() made. */
  close(descriptor: number): void {
    this.files.delete(descriptor);
    must(native.closeDescriptor(descriptor));
  }

  isOpen(device: FakeDevice): boolean {
    return [...this.files.values()].some((file) => file.kind === "device" && file.device === device && file.bound);
  }

  groupIsOpen(group: number): boolean {
    return [...this.files.values()].some(
      (file) => (file.kind === "group" && file.group === group) || (file.kind === "device" && file.group === group),
    );
  }
}

function must<T>(result: SysResult<T>): T {
  if (result.error !== null) throw new Error(`${result.error.operation}: ${result.error.code}`);
  return result.value;
}

function good<T>(value: T): { readonly value: T; readonly error: null } {
  return { value, error: null };
}

class FakeQueue implements BlockingQueue {
  readonly #kernel: FakeKernel;
  readonly #real: BlockingQueue;

  constructor(kernel: FakeKernel, real: BlockingQueue) {
    this.#kernel = kernel;
    this.#real = real;
  }

  async #call<T>(operation: string, subject: string, work: () => T | string): Promise<SysResult<T>> {
    const failed = await this.#kernel.enter(operation, subject);
    if (failed !== null) return { value: null, error: failed };
    const value = work();
    return typeof value === "string" ? { value: null, error: sysError(operation, value, subject) } : good(value);
  }

  #device(fd: number): FakeDevice {
    const file = this.#kernel.files.get(fd);
    if (file?.kind !== "device") throw new Error(`descriptor ${fd} is no device`);
    if (!file.bound) throw new Error(`descriptor ${fd} is asked before it is bound`);
    return file.device;
  }

  open(path: string, access: "read" | "write" | "readwrite"): Promise<SysResult<number>> {
    const { devRoot, devices } = this.#kernel;
    // sysfs files are real files of the made-up tree.
    if (!path.startsWith(devRoot)) return this.#real.open(path, access);
    return this.#call("open", path, () => {
      if (path === join(devRoot, "iommu")) return this.#kernel.add({ kind: "iommufd" });
      if (path === join(devRoot, "vfio/vfio")) return this.#kernel.add({ kind: "container" });
      const device = devices.find((candidate) => path === join(devRoot, `vfio/devices/vfio${candidate.vfio}`));
      if (device !== undefined) return this.#kernel.add({ kind: "device", device, bound: false, group: null });
      const group = devices.find((candidate) => path === join(devRoot, `vfio/${candidate.group}`))?.group;
      if (group === undefined) return "ENOENT";
      return this.#kernel.groupIsOpen(group) ? "EBUSY" : this.#kernel.add({ kind: "group", group, container: false });
    });
  }

  async close(fd: number): Promise<SysResult<null>> {
    if (!this.#kernel.files.has(fd)) return this.#real.close(fd);
    // Linux frees the number even when close(2) fails.
    const failed = await this.#kernel.enter("close", String(fd));
    this.#kernel.files.delete(fd);
    must(native.closeDescriptor(fd));
    return failed === null ? good(null) : { value: null, error: failed };
  }

  async closeAll(fds: readonly number[]): Promise<SysResult<null>> {
    let first: SysResult<null> = good(null);
    for (const fd of fds) {
      const closed = await this.close(fd);
      if (first.error === null) first = closed;
    }
    return first;
  }

  bindIommufd(deviceFd: number, iommufd: number, token: string | null, subject: string): Promise<SysResult<number>> {
    if (token !== null) this.#kernel.shownTo.push(subject);
    return this.#call("VFIO_DEVICE_BIND_IOMMUFD", subject, () => {
      const file = this.#kernel.files.get(deviceFd);
      if (file?.kind !== "device" || this.#kernel.files.get(iommufd)?.kind !== "iommufd") return "EBADF";
      if (token !== null && !this.#kernel.bindTokens) return "EINVAL";
      if (file.bound) return "EINVAL";
      const refused = this.#kernel.bindTokens ? this.#kernel.refusesToken(file.device, token) : null;
      if (refused !== null) return refused;
      if (this.#kernel.isOpen(file.device)) return "EINVAL";
      if (this.#kernel.groupIsOpen(file.device.group)) return "EBUSY";
      file.bound = true;
      return 1;
    });
  }

  iommufdSetRlimitMode(iommufd: number): Promise<SysResult<null>> {
    return this.#call<null>("IOMMU_OPTION", "iommufd", () => (this.#kernel.files.get(iommufd)?.kind === "iommufd" ? null : "EBADF"));
  }

  deviceInfo(deviceFd: number, subject: string): Promise<SysResult<VfioDeviceInfo>> {
    return this.#call("VFIO_DEVICE_GET_INFO", subject, () => ({ flags: this.#device(deviceFd).flags, numRegions: 9, numIrqs: 5 }));
  }

  regionInfo(deviceFd: number, index: number, subject: string): Promise<SysResult<VfioRegionInfo>> {
    return this.#call("VFIO_DEVICE_GET_REGION_INFO", subject, () => {
      const region = this.#device(deviceFd).regions.find((candidate) => candidate.index === index);
      if (region !== undefined) return region;
      return index === 8
        ? "EINVAL"
        : { index, flags: 0, size: 0n, offset: BigInt(index) << 40n, sparse: null, type: null, msixMappable: false };
    });
  }

  irqInfo(deviceFd: number, index: number, subject: string): Promise<SysResult<VfioIrqInfo>> {
    return this.#call("VFIO_DEVICE_GET_IRQ_INFO", subject, () => {
      const count = this.#device(deviceFd).interrupts?.[index] ?? 0;
      return count === null ? "EINVAL" : { index, flags: index === 0 ? 7 : 9, count };
    });
  }

  iommuInfo(iommufd: number, device: number, subject: string): Promise<SysResult<IommuInfo>> {
    return this.#call("IOMMU_GET_HW_INFO", subject, () => {
      if (this.#kernel.files.get(iommufd)?.kind !== "iommufd" || device !== 1) return "EBADF";
      return this.#kernel.iommu ?? "EOPNOTSUPP";
    });
  }

  hotResetInfo(deviceFd: number, subject: string): Promise<SysResult<readonly ResetFunction[]>> {
    return this.#call("VFIO_DEVICE_GET_PCI_HOT_RESET_INFO", subject, () => this.#device(deviceFd).hotReset ?? "ENODEV");
  }

  migrationFlags(deviceFd: number, subject: string): Promise<SysResult<bigint>> {
    return this.#call("VFIO_DEVICE_FEATURE_MIGRATION", subject, () => this.#device(deviceFd).migration ?? 0n);
  }

  reset(deviceFd: number, subject: string): Promise<SysResult<null>> {
    return this.#call<null>("VFIO_DEVICE_RESET", subject, () => ((this.#device(deviceFd).flags & 1) === 0 ? "EINVAL" : null));
  }

  featureProbe(deviceFd: number, feature: number, direction: "get" | "set", subject: string): Promise<SysResult<boolean>> {
    return this.#call("VFIO_DEVICE_FEATURE", subject, () =>
      (this.#device(deviceFd).features ?? ["get 11"]).includes(`${direction} ${feature}`),
    );
  }

  dmaBufExport(deviceFd: number, region: number, _offset: bigint, _length: bigint, subject: string): Promise<SysResult<number>> {
    return this.#call("VFIO_DEVICE_FEATURE_DMA_BUF", subject, () =>
      this.#device(deviceFd).regions.some((candidate) => candidate.index === region) ? this.#kernel.add({ kind: "dmabuf" }) : "ENODEV",
    );
  }

  containerApiVersion(_containerFd: number): Promise<SysResult<number>> {
    return this.#call("VFIO_GET_API_VERSION", "container", () => 0);
  }

  containerCheckExtension(_containerFd: number, extension: number): Promise<SysResult<boolean>> {
    return this.#call("VFIO_CHECK_EXTENSION", "container", () => extension === 3);
  }

  containerSetIommu(_containerFd: number, _type: number): Promise<SysResult<null>> {
    return this.#call<null>("VFIO_SET_IOMMU", "container", () => null);
  }

  groupStatus(_groupFd: number, subject: string): Promise<SysResult<number>> {
    return this.#call("VFIO_GROUP_GET_STATUS", subject, () => 1);
  }

  groupSetContainer(groupFd: number, _containerFd: number, subject: string): Promise<SysResult<null>> {
    return this.#call<null>("VFIO_GROUP_SET_CONTAINER", subject, () => {
      const file = this.#kernel.files.get(groupFd);
      if (file?.kind !== "group" || file.container) return "EINVAL";
      file.container = true;
      return null;
    });
  }

  groupGetDevice(groupFd: number, name: string): Promise<SysResult<number>> {
    const [address = "", token = null] = name.split(" vf_token=");
    if (token !== null) this.#kernel.shownTo.push(address);
    return this.#call("VFIO_GROUP_GET_DEVICE_FD", address, () => {
      const file = this.#kernel.files.get(groupFd);
      const device = this.#kernel.devices.find((candidate) => candidate.address === address);
      if (file?.kind !== "group" || !file.container) return "EINVAL";
      if (device === undefined || device.group !== file.group || (token !== null && !this.#kernel.nameTokens)) return "ENODEV";
      const refused = this.#kernel.nameTokens ? this.#kernel.refusesToken(device, token) : null;
      if (refused !== null) return refused;
      return this.#kernel.add({ kind: "device", device, bound: true, group: device.group });
    });
  }

  async pread(fd: number, offset: bigint, length: number, subject: string): Promise<SysResult<Uint8Array>> {
    if (!this.#kernel.files.has(fd)) return this.#real.pread(fd, offset, length, subject);
    return this.#call<Uint8Array>("pread", subject, () => {
      const device = this.#device(fd);
      const config = device.regions.find((region) => region.index === 7);
      const at = config === undefined ? -1 : Number(offset - config.offset);
      if (at < 0 || at >= 0x1000) return new Uint8Array(length);
      // As nvgrace: no more than one register a read.
      const bytes = new Uint8Array(0x1000);
      bytes.set(device.config ?? []);
      bytes.set(device.registers, 0x10);
      return bytes.slice(at, at + Math.min(length, 4));
    });
  }

  pwrite(_fd: number, _offset: bigint, data: Uint8Array, subject: string): Promise<SysResult<number>> {
    return this.#call("pwrite", subject, () => data.length);
  }

  program(pid: number): ReturnType<BlockingQueue["program"]> {
    return this.#real.program(pid);
  }

  isFile(path: string, device: bigint, inode: bigint): Promise<SysResult<boolean>> {
    return this.#real.isFile(path, device, inode);
  }

  readFolders(...what: Parameters<BlockingQueue["readFolders"]>): ReturnType<BlockingQueue["readFolders"]> {
    return this.#real.readFolders(...what);
  }

  async finish(): Promise<null> {
    return this.#real.finish();
  }
}
