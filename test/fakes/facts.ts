// Facts of a device of which little is known, for tests that are about something else.

import type { DeviceFacts, DeviceProbe } from "../../src/broker/device.js";
import type { DeviceFacts as ClientFacts } from "../../src/client/index.js";

/** What a scan may leave open. */
export const UNKNOWN_FACTS = {
  revisionId: null,
  subsystem: null,
  names: null,
  driverCandidates: [],
  place: null,
  virtualFunctions: null,
  vfIndex: null,
  genericInitiators: null,
  extendedMemory: null,
  resetSet: null,
} as const satisfies Partial<DeviceFacts>;

/** A probe of a device without regions that can be reset. */
export const BARE_PROBE: DeviceProbe = {
  resetSupported: true,
  regions: [],
  notReady: null,
  readiness: "",
  resetSet: null,
  interrupts: [],
  msix: null,
  dmaBufExport: { supported: false, regions: [] },
  migration: null,
  lowPower: { entry: false, entryWithWakeup: false, exit: false },
  addressTranslation: null,
  iommuHardware: null,
};

/** The same as a client sees it, not probed. */
export const UNKNOWN_TO_CLIENT: ClientFacts = {
  revisionId: null,
  subsystemVendorId: null,
  subsystemDeviceId: null,
  names: null,
  driverOverride: "",
  driverCandidates: [],
  place: null,
  virtualFunctions: null,
  vfIndex: null,
  genericInitiators: null,
  extendedMemory: null,
  resetSet: null,
  interrupts: [],
  msix: null,
  dmaBufExport: null,
  migration: null,
  lowPower: null,
  addressTranslation: null,
  iommuHardware: null,
  readiness: "UNSPECIFIED",
  readinessDetail: "",
};
