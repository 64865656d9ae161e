// aperture/push: for orchestrators that give the devices of a lease to a VMM that runs already. docs/VMM-PUSH.md says how.

export { CloudHypervisor, type CloudHypervisorOptions } from "./cloud-hypervisor.js";
export { PushError, type PushReason } from "./errors.js";
export { IommufdSocket, type IommufdSocketOptions, type IommufdTaker } from "./iommufd-socket.js";
export { idOf, type Plugged, type PluggedDevice, type PlugOptions, type PushedLease, type VmEnd } from "./pushed-lease.js";
export { QemuMonitor, type QemuOptions, type QemuPlugOptions } from "./qemu.js";
