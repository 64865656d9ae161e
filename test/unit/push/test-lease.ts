// A lease as the push layer sees one, made of memfds: what arrives at the other side is known by its inode.

import { OwnedDescriptor } from "../../../src/descriptor.js";
import { native } from "../../../src/native.js";
import type { PushedLease } from "../../../src/push/index.js";
import { identity } from "../../harness/fake-qmp.js";

function file(name: string): OwnedDescriptor {
  const { value, error } = native.memfdCreate(name, 4096n);
  if (error !== null) throw new Error(error.code);
  return new OwnedDescriptor(value, name);
}

type Info = PushedLease["descriptors"][number]["info"];

function info(kind: Info["kind"], address: string | null): Info {
  return { kind, scope: kind === "IOMMUFD" ? "IOMMU" : "DEVICE", address, region: null, group: null, offset: 0n, size: 0n };
}

export class TestLease implements PushedLease {
  readonly id = "6f9619ff-8b86-4d01-b42d-00cf4fc964ff";
  readonly succeeded: boolean;
  readonly descriptors: PushedLease["descriptors"];
  /** By kind, or address: "device:inode". */
  readonly files: Readonly<Record<string, string>>;
  closed = 0;

  constructor(addresses: readonly string[], options: { readonly succeeded?: boolean; readonly iommufd?: boolean } = {}) {
    this.succeeded = options.succeeded ?? false;
    const iommufd = (options.iommufd ?? true) ? [{ info: info("IOMMUFD", null), descriptor: file("iommufd") }] : [];
    this.descriptors = [...iommufd, ...addresses.map((address) => ({ info: info("DEVICE_UNBOUND", address), descriptor: file(address) }))];
    this.files = Object.fromEntries(
      this.descriptors.map(({ info: { address }, descriptor }) => [address ?? "iommufd", identity(descriptor.borrow())]),
    );
  }

  async closeDescriptors(): Promise<void> {
    this.closed += 1;
    for (const { descriptor } of this.descriptors) descriptor.close();
  }
}
