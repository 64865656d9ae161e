// Why a device can or cannot be leased, and what to do next: the answer as a value, from what the daemon says of the device and of the leases that the caller may see.

import type { Device, DriverCandidate, Lease, PolicyAnswer } from "../client/index.js";

/** YES: AcquireLease would succeed now. NOT_NOW: what is in the way passes by itself or with a lease. NO: somebody has to do something. DENIED: policy denies it to the caller. */
export type Verdict = "YES" | "NOT_NOW" | "NO" | "DENIED";

export interface Obstacle {
  /** A reason of docs/REASONS.md, or the device's state. */
  readonly reason: string;
  readonly message: string;
  readonly next: string;
  /** For root's shell; empty when there is nothing to type. */
  readonly commands: readonly string[];
}

export interface Explanation {
  readonly address: string;
  readonly verdict: Verdict;
  /** The device is made of memory: its commands are those for a real one. */
  readonly simulated: boolean;
  readonly obstacles: readonly Obstacle[];
  /** The lease that has it, when the caller may see it. */
  readonly lease: Lease | null;
  /** What policy says to a device lease of the caller. */
  readonly policy: PolicyAnswer;
  /** What a lease of it also means. */
  readonly notes: readonly string[];
}

const ADDRESS = /^[0-9a-f]{4,8}:[0-9a-f]{2}:[01][0-9a-f]\.[0-7]$/;
const DRIVER = /^[\w-]{1,64}$/;

/** leases: all that the caller may see. */
export function explain(device: Device, leases: readonly Lease[], policy: PolicyAnswer, simulated: boolean): Explanation {
  const lease = leases.find((candidate) => candidate.devices.some(({ address }) => address === device.address)) ?? null;
  const lasting = device.ineligibleReasons.map((reason) => ({ ...reason, commands: commandsFor(reason.reason, device) }));
  const passing = lasting.length > 0 || device.state === "FREE" ? [] : [occupied(device, lease)];
  return {
    address: device.address,
    verdict: !policy.allowed ? "DENIED" : lasting.length > 0 ? "NO" : passing.length > 0 ? "NOT_NOW" : "YES",
    simulated,
    obstacles: [...denied(policy), ...lasting, ...passing],
    lease,
    policy,
    notes: notesOn(device),
  };
}

function denied({ allowed, reason, message }: PolicyAnswer): readonly Obstacle[] {
  if (allowed) return [];
  const next = "ask the operator for a [[policy]] rule; `aperturectl policy test --device ADDRESS` shows each rule that was tried";
  return [{ reason: reason || "POLICY_DENIED", message, next, commands: [] }];
}

function occupied(device: Device, lease: Lease | null): Obstacle {
  const { address, state } = device;
  const watch = `wait for it: \`aperturectl watch ${address}\` tells each change`;
  const step = (message: string, next: string): Obstacle => ({ reason: state, message, next, commands: [] });
  switch (state) {
    case "HELD":
      return lease === null
        ? step("somebody else holds it; only that user, root and the daemon's user see who", watch)
        : step(
            `lease ${lease.id} of process ${lease.holderPid}, uid ${lease.holderUid}, holds it${lease.createTime === null ? "" : ` since ${lease.createTime.toISOString()}`}`,
            `end that process, or \`aperturectl release ${lease.id}\``,
          );
    case "RESERVED":
      return step("it is kept for whoever shows a ticket, until the ticket expires", watch);
    case "OPENING":
    case "OFFERED":
      return step("it is on its way to a client", watch);
    case "RELEASING":
    case "RESETTING":
      return step("its last lease has ended; the daemon proves that nothing of it is left and resets the device", watch);
    case "REMOVED":
      return step("it has left the machine", "choose another device: `aperturectl devices --leasable`");
    default:
      return step(device.stateDetail || `it is ${state}`, watch);
  }
}

function notesOn(device: Device): readonly string[] {
  const together = new Set<string>();
  if (device.resetSet?.leasedTogether === true) for (const address of device.resetSet.addresses) together.add(address);
  for (const { address } of device.iommuGroup?.members ?? []) together.add(address);
  for (const { addresses } of device.peerSets) for (const address of addresses) together.add(address);
  together.delete(device.address);
  const notes: string[] = [];
  if (together.size > 0) {
    notes.push(
      `a lease of it keeps ${[...together].sort().join(", ")} from everybody else too: one IOMMU group, one reset, or peers that the operator declares`,
    );
  }
  if (device.resetSupported === false) {
    notes.push("it cannot be reset: after a lease it is refused to other users (RESET_UNAVAILABLE) unless policy allows it");
  }
  return notes;
}

/** What root types to bring about what the reason asks for. Nothing of it comes from elsewhere unchecked: it will be pasted into a shell. */
function commandsFor(reason: string, device: Device): readonly string[] {
  if (reason === "NO_VFIO_DRIVER") return bind(device.address, device.driver, vfioDriver(device));
  if (reason === "DRIVER_NOT_READY" && ADDRESS.test(device.address)) return [`echo ${device.address} > /sys/bus/pci/drivers_probe`];
  if (reason === "GROUP_NOT_VIABLE") {
    const spoilers = (device.iommuGroup?.members ?? []).filter(({ spoils, address }) => spoils && address !== device.address);
    return spoilers.flatMap(({ address, driver }) => bind(address, driver, { driver: "vfio-pci", module: "vfio_pci" }));
  }
  return [];
}

function vfioDriver(device: Device): Pick<DriverCandidate, "driver" | "module"> {
  const [best] = device.driverCandidates.filter(({ kind }) => kind === "VFIO_VARIANT" || kind === "VFIO_GENERIC");
  return best ?? { driver: "vfio-pci", module: "vfio_pci" };
}

function bind(address: string, bound: string, to: Pick<DriverCandidate, "driver" | "module">): readonly string[] {
  if (!ADDRESS.test(address) || !DRIVER.test(to.driver)) return [];
  const folder = `/sys/bus/pci/devices/${address}`;
  return [
    ...(DRIVER.test(to.module) ? [`modprobe ${to.module}`] : []),
    `echo ${to.driver} > ${folder}/driver_override`,
    ...(bound === "" ? [] : [`echo ${address} > ${folder}/driver/unbind`]),
    `echo ${address} > /sys/bus/pci/drivers_probe`,
  ];
}
