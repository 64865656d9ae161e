// What `doctor` looks at: the way to the daemon, what this process may, and what the host can. Each check is a value with what to do; the facts come from outside, so
// that every answer can be tested.

import type { ApertureError, Device, HostInfo } from "../client/index.js";

export type CheckResult = "OK" | "NOTE" | "PROBLEM";

export interface Check {
  readonly name: string;
  readonly result: CheckResult;
  readonly detail: string;
  /** Empty: nothing to do. */
  readonly next: string;
}

/** Soft limits of this process; null: unlimited. */
export interface ProcessLimits {
  readonly lockedMemory: bigint | null;
  readonly openFiles: bigint | null;
}

/** A VMM locks all of its guest's memory; under this much there is no guest. */
const LEAST_LOCKED = 1n << 30n;
const LEAST_FILES = 256n;

export function unreachable(error: ApertureError): readonly Check[] {
  return [check("daemon", "PROBLEM", error.message, error.next ?? "")];
}

export function diagnose(host: HostInfo, devices: readonly Device[], limits: ProcessLimits, ownVersion: string): readonly Check[] {
  return [
    check("daemon", "OK", `apertured ${host.version} answers`),
    versionCheck(host, ownVersion),
    backendCheck(host),
    ...capabilityChecks(host),
    deviceCheck(devices),
    ...quarantineChecks(devices),
    lockedMemoryCheck(limits.lockedMemory),
    openFilesCheck(limits.openFiles),
  ];
}

function versionCheck(host: HostInfo, own: string): Check {
  if (host.version === own) return check("version", "OK", `aperturectl and the daemon are ${own}`);
  return check("version", "NOTE", `aperturectl is ${own}, the daemon ${host.version}`, "use the aperturectl that came with the daemon");
}

function backendCheck(host: HostInfo): Check {
  if (!host.simulated) return check("back end", "OK", `${host.backend}: ${host.backendReason}`);
  return check(
    "back end",
    "NOTE",
    `simulated, nothing here is real hardware: ${host.backendReason}`,
    'for real devices: switch the IOMMU on, bind a device to vfio-pci or its variant driver, and start the daemon with host = "auto"',
  );
}

/** What the kernel has not, one line for all: most of it is no fault. */
function capabilityChecks(host: HostInfo): readonly Check[] {
  const missing = host.capabilities.filter(({ availability }) => availability !== "AVAILABLE");
  const all = host.capabilities.length;
  if (all === 0) return [];
  if (missing.length === 0) return [check("kernel", "OK", `${host.kernelRelease} has all ${all} features that were asked for`)];
  const names = missing.map(({ name, availability }) => (availability === "UNKNOWN" ? `${name} (not known)` : name)).join(", ");
  return [
    check(
      "kernel",
      "NOTE",
      `${host.kernelRelease} has ${all - missing.length} of ${all} features that were asked for; not ${names}`,
      "`aperturectl host` says how each was asked",
    ),
  ];
}

function deviceCheck(devices: readonly Device[]): Check {
  const free = devices.filter(({ state, ineligibleReasons }) => state === "FREE" && ineligibleReasons.length === 0).length;
  const detail = `${free} of ${devices.length} can be leased now`;
  if (free > 0) return check("devices", "OK", detail);
  const [first] = devices.filter(({ ineligibleReasons }) => ineligibleReasons.length > 0);
  return check("devices", "PROBLEM", detail, `\`aperturectl explain ${first?.address ?? "ADDRESS"}\` says why`);
}

function quarantineChecks(devices: readonly Device[]): readonly Check[] {
  return devices
    .filter(({ state }) => state === "QUARANTINED")
    .map(({ address, stateDetail }) => check("quarantine", "PROBLEM", `${address}: ${stateDetail}`, `\`aperturectl explain ${address}\``));
}

function lockedMemoryCheck(limit: bigint | null): Check {
  if (limit === null) return check("locked memory", "OK", "RLIMIT_MEMLOCK is unlimited");
  const detail = `RLIMIT_MEMLOCK of this process is ${limit / 1024n} KiB`;
  if (limit >= LEAST_LOCKED) return check("locked memory", "OK", `${detail}: enough for a guest of less than that`);
  return check(
    "locked memory",
    "NOTE",
    `${detail}: a VMM started from here cannot lock its guest's memory`,
    "as root `prlimit --memlock=unlimited --pid $$`, LimitMEMLOCK=infinity in the VMM's unit, or memlock in /etc/security/limits.conf",
  );
}

function openFilesCheck(limit: bigint | null): Check {
  if (limit === null || limit >= LEAST_FILES) return check("open files", "OK", `RLIMIT_NOFILE of this process is ${limit ?? "unlimited"}`);
  return check("open files", "NOTE", `RLIMIT_NOFILE of this process is ${limit}: a lease brings up to 32 descriptors`, "`ulimit -n 1024`");
}

function check(name: string, result: CheckResult, detail: string, next = ""): Check {
  return { name, result, detail, next };
}

/** The soft limits of /proc/PID/limits (proc_pid_limits(5)). */
export function readLimits(text: string): ProcessLimits {
  const soft = (name: string): bigint | null => {
    const value = new RegExp(`^${name} +(\\d+|unlimited) `, "m").exec(text)?.[1];
    return value === undefined || value === "unlimited" ? null : BigInt(value);
  };
  return { lockedMemory: soft("Max locked memory"), openFiles: soft("Max open files") };
}
