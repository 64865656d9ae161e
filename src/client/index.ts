// aperture/client: everything a VMM or an orchestrator written in TypeScript needs. docs/PROTOCOL.md is what it speaks.

export { type ApertureClient, type ConnectOptions, connect } from "./client.js";
export type { BindDriverOptions, DriverOptions, DriverOutcome, DriverStep } from "./driver.js";
export {
  ApertureConnectionError,
  ApertureError,
  type FieldViolation,
  HandoverError,
  type HandoverReason,
  type StatusName,
  SystemCallError,
} from "./errors.js";
export type * from "./facts.js";
export type { HeldLease, LeaseEnd, LeaseTicket, Recalled } from "./held-lease.js";
export type { AcquireOptions } from "./lease-acquirer.js";
export type { LeaseSession } from "./lease-session.js";
export type { LeasedDescriptor } from "./leased-device.js";
export type * from "./model.js";
export type { PolicyAnswer, PolicyQuestion, PolicyStep, ReloadAnswer, RescanAnswer, SettingChange } from "./operator.js";
export type { RegionMapping } from "./region-mapping.js";
export type { AcquireTarget, LeaseTerms, TicketOptions } from "./requests.js";
export { defaultSocketPath } from "./socket-path.js";
export type { Vmm, VmmArguments, VmmDevice, VmmDevices, VmmForm, VmmFragment, VmmNote, VmmOptions, VmmValue } from "./vmm.js";
