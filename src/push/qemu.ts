// A QEMU that runs already: devices of a lease in by QMP, and out again. The order is QEMU's own (hw/vfio, backends/iommufd.c): the iommufd becomes an object, each device
// names it. A QEMU that has an iommufd gets no second one: every iommufd pins the guest's memory anew, against the same RLIMIT_MEMLOCK, and a hot reset wants all devices in one.
// QEMU binds the device itself, so it must come unbound. What a failed device_add was given is closed: another attempt needs another lease.

import { PushError } from "./errors.js";
import {
  ANSWER_MS,
  forVmm,
  PLUG_MS,
  type Plugged,
  type PluggedDevice,
  type PlugOptions,
  type PushedLease,
  UNPLUG_MS,
  type VmEnd,
} from "./pushed-lease.js";
import { QmpConnection, type QmpEvent } from "./qmp.js";

export interface QemuOptions {
  /** Path of a QMP socket that nobody else is connected to (-qmp unix:PATH,server=on,wait=off). */
  readonly socket: string;
  /** Milliseconds for the greeting and for each command that only takes QEMU itself. Default 10,000. */
  readonly answerMs?: number;
}

export interface QemuPlugOptions extends PlugOptions {
  /** QEMU's bus for each device in the order of the lease: a PCI Express port takes one. Default: QEMU chooses. */
  readonly buses?: readonly string[];
  /** Further properties of every vfio-pci, for instance { rombar: 0 }. */
  readonly properties?: Readonly<Record<string, string | number | boolean>>;
}

/** One connection to one QEMU. It is kept for as long as devices are in: QEMU tells here that it has let go of one. */
export class QemuMonitor {
  readonly #qmp: QmpConnection;

  private constructor(qmp: QmpConnection) {
    this.#qmp = qmp;
  }

  /** Throws PushError VMM_UNREACHABLE, VMM_SILENT, VMM_PROTOCOL, VMM_TOO_OLD, VMM_GONE. */
  static async connect(options: QemuOptions): Promise<QemuMonitor> {
    return new QemuMonitor(await QmpConnection.open(options.socket, options.answerMs ?? ANSWER_MS));
  }

  /**
   * Gives QEMU the devices of a lease, all or none, and closes this process's own descriptors. The lease stays this process's: release it when `gone` settles or unplug() is done.
   * Throws PushError LEASE_NOT_FOR_VMM, VMM_REFUSED, VMM_SILENT, VMM_PROTOCOL, VMM_GONE, after having undone what it did; release the lease then. RangeError as ids and buses.
   */
  async plug(lease: PushedLease, options: QemuPlugOptions = {}): Promise<Plugged> {
    const { iommufd, devices } = forVmm(lease, options.ids);
    const { buses } = options;
    if (buses !== undefined && buses.length !== devices.length) throw new RangeError(`${buses.length} buses for ${devices.length} devices`);
    const own = `aperture-${lease.id.slice(0, 8)}`;
    const plugged = new QemuPlugged(this.#qmp);
    try {
      const found = await this.#iommufdOfVm();
      const object = found ?? own;
      if (found === null) {
        await this.#give(`${own}-iommufd`, iommufd.borrow());
        await this.#qmp.execute("object-add", { "qom-type": "iommufd", id: own, fd: `${own}-iommufd` });
        plugged.ownIommufd = own;
      }
      for (const [index, { address, id, descriptor }] of devices.entries()) {
        await this.#give(`${own}-device`, descriptor.borrow());
        const bus = buses?.[index];
        const place = bus === undefined ? {} : { bus };
        const properties = { ...options.properties, driver: "vfio-pci", id, ...place, iommufd: object, fd: `${own}-device` };
        await this.#qmp.execute("device_add", properties, { timeoutMs: options.plugMs ?? PLUG_MS });
        plugged.add({ address, id });
      }
      await lease.closeDescriptors();
      plugged.begin();
      return plugged;
    } catch (error) {
      await this.#undo(plugged, own);
      throw withAdvice(error);
    }
  }

  /** Ends the connection; what is plugged in stays in the VM. Twice is harmless. */
  close(): void {
    this.#qmp.close();
  }

  /** Name of an iommufd that QEMU has already; null: none. */
  async #iommufdOfVm(): Promise<string | null> {
    const listed = await this.#qmp.execute("qom-list", { path: "/objects" });
    if (!Array.isArray(listed)) throw new PushError("VMM_PROTOCOL", "the VMM's socket answered qom-list with something else than a list");
    const found = (listed as readonly unknown[]).find(
      (each): each is { readonly name: string } =>
        typeof each === "object" &&
        each !== null &&
        "type" in each &&
        each.type === "child<iommufd>" &&
        "name" in each &&
        typeof each.name === "string",
    );
    return found?.name ?? null;
  }

  /** One descriptor a message. The next may come only when QEMU has taken this one: it drops what it has not. */
  async #give(name: string, descriptor: number): Promise<void> {
    await this.#qmp.execute("getfd", { fdname: name }, { descriptor });
  }

  /** As far as QEMU answers. What was never made is refused, which is as good. */
  async #undo(plugged: QemuPlugged, object: string): Promise<void> {
    try {
      await plugged.unplug();
    } catch {
      // The error that led here is the one to tell.
    }
    for (const [command, args] of [
      ["object-del", { id: object }],
      ["closefd", { fdname: `${object}-iommufd` }],
      ["closefd", { fdname: `${object}-device` }],
    ] as const) {
      await this.#qmp.execute(command, args).catch(() => undefined);
    }
  }
}

class QemuPlugged implements Plugged {
  readonly devices: PluggedDevice[] = [];
  readonly gone: Promise<VmEnd>;
  readonly #qmp: QmpConnection;
  /** The iommufd that came with these devices; null: the VM had one. */
  ownIommufd: string | null = null;
  readonly #inside = new Set<string>();
  readonly #stopListening: () => void;
  #changed: (event: QmpEvent) => void = () => undefined;
  #settleGone: (end: VmEnd) => void = () => undefined;
  #began = false;
  #leaving = false;

  constructor(qmp: QmpConnection) {
    this.#qmp = qmp;
    this.gone = new Promise((resolve) => {
      this.#settleGone = resolve;
    });
    this.#stopListening = qmp.onEvent((event) => this.#heard(event));
  }

  add(device: PluggedDevice): void {
    this.devices.push(device);
    this.#inside.add(device.id);
  }

  /** From here on the VM can end by itself. */
  begin(): void {
    this.#began = true;
    void this.#qmp.closed.then(() => this.#end("VMM_GONE"));
    if (this.#inside.size === 0) this.#end("UNPLUGGED");
  }

  async unplug({ timeoutMs = UNPLUG_MS }: { readonly timeoutMs?: number } = {}): Promise<void> {
    this.#leaving = true;
    try {
      for (const id of [...this.#inside].reverse()) await this.#takeOut(id, timeoutMs);
    } finally {
      this.#stopListening();
    }
    if (this.#began && this.ownIommufd !== null) await this.#removeIommufd(this.ownIommufd);
  }

  /** QEMU 10 keeps the descriptor of an iommufd it was given until it ends; the object with all its mappings goes, unless devices that came later are in it. */
  async #removeIommufd(object: string): Promise<void> {
    try {
      await this.#qmp.execute("object-del", { id: object });
    } catch (error) {
      if (!(error instanceof PushError) || error.reason !== "VMM_REFUSED" || !/in use/.test(error.message)) throw error;
    }
  }

  async #takeOut(id: string, timeoutMs: number): Promise<void> {
    const out = this.#untilOut(id, timeoutMs);
    // A guest can answer faster than QEMU its command.
    out.promise.catch(() => undefined);
    try {
      await this.#qmp.execute("device_del", { id });
    } catch (error) {
      // QEMU has asked the guest already, because the device is leaving the host (hw/vfio/pci.c, vfio_req_notifier_handler).
      const asked = error instanceof PushError && error.message.includes("already in the process of unplug");
      if (this.#inside.has(id) && !asked) {
        out.cancel();
        throw error;
      }
    }
    if (this.#inside.has(id)) await out.promise;
    else out.cancel();
  }

  #untilOut(id: string, timeoutMs: number): { readonly promise: Promise<void>; readonly cancel: () => void } {
    let timer: NodeJS.Timeout | undefined;
    const promise = new Promise<void>((resolve, reject) => {
      timer = setTimeout(
        () =>
          reject(
            new PushError(
              "GUEST_SILENT",
              `the guest has not let go of ${id} within ${timeoutMs / 1000} s`,
              "the guest's system must be up, and handle hot-unplug; or end the VM",
            ),
          ),
        timeoutMs,
      );
      this.#changed = (event) => {
        if (!this.#inside.has(id)) resolve();
        else if (event.name === "DEVICE_UNPLUG_GUEST_ERROR" && event.data["device"] === id)
          reject(
            new PushError("GUEST_REFUSED", `the guest refuses to let go of ${id}`, "end what uses the device in the guest, then try again"),
          );
      };
      void this.#qmp.closed.then(reject);
    });
    return { promise: promise.finally(() => clearTimeout(timer)), cancel: () => clearTimeout(timer) };
  }

  #heard(event: QmpEvent): void {
    if (event.name === "DEVICE_DELETED" && typeof event.data["device"] === "string") this.#inside.delete(event.data["device"]);
    this.#changed(event);
    if (this.#began && this.#inside.size === 0) this.#end("UNPLUGGED");
  }

  #end(end: VmEnd): void {
    if (!this.#leaving) this.#settleGone(end);
  }
}

function withAdvice(error: unknown): unknown {
  if (!(error instanceof PushError) || error.reason !== "VMM_REFUSED" || error.next !== null) return error;
  const next = /Cannot allocate memory/.test(error.message)
    ? "the VMM must be allowed to lock its guest's memory: raise RLIMIT_MEMLOCK of its process (prlimit) to that and a tenth more"
    : /bus/i.test(error.message)
      ? "name an empty port that allows hot-plug, for example one of -device pcie-root-port,id=rp1"
      : null;
  return next === null ? error : new PushError("VMM_REFUSED", error.message, next);
}
