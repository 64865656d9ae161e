// Makes a daemon's simulated host hand out what a host with iommufd does: an iommufd and unbound devices, as far as their kinds and identities go (they are memfds).

import { describe, describeDevice } from "../../src/host/host-lease.js";
import { native } from "../../src/native.js";
import { identity } from "./fake-qmp.js";
import type { AlteredHost } from "./own-daemon.js";

export interface VmmLeases {
  /** Of the last lease: "device:inode" of `iommufd` and of each address. */
  readonly files: Record<string, string>;
}

export function giveVmmLeases(host: AlteredHost): VmmLeases {
  const leases: VmmLeases = { files: {} };
  host.opening = async (request) => {
    if (request.kind !== "DEVICE") return null;
    const made = [null, ...request.addresses].map((address) => {
      const name = address ?? "iommufd";
      const { value, error } = native.memfdCreate(name, 4096n);
      if (error !== null) throw new Error(error.code);
      leases.files[name] = identity(value);
      return { address, fd: value };
    });
    const close = async (): Promise<void> => {
      for (const { fd } of made.splice(0)) native.closeDescriptor(fd);
    };
    const descriptors = made.map(({ address, fd }) => ({
      info: address === null ? describe("IOMMUFD") : describeDevice("DEVICE_UNBOUND", address),
      borrow: () => fd,
    }));
    return { value: { descriptors, closeHandedOff: close, close }, refusal: null };
  };
  return leases;
}
