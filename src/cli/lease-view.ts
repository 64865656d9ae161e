// Leases for people.

import type { DescriptorInfo, Lease } from "../client/index.js";
import { hex, hexAndHuman } from "./size.js";
import { type Column, renderTable } from "./table.js";
import type { Look } from "./terminal.js";

const LEASE_COLUMNS: readonly Column[] = [
  { title: "LEASE" },
  { title: "KIND" },
  { title: "STATE" },
  { title: "DEVICES" },
  { title: "PID", align: "right" },
  { title: "UID", align: "right" },
  { title: "SINCE" },
];

const DESCRIPTOR_COLUMNS: readonly Column[] = [
  { title: "FD", align: "right" },
  { title: "KIND" },
  { title: "WORTH" },
  { title: "DEVICE" },
  { title: "NUMBER", align: "right" },
  { title: "OFFSET" },
  { title: "SIZE" },
];

/** A descriptor with its number in the process that has it. */
export interface NumberedDescriptor extends DescriptorInfo {
  readonly fd: number;
}

export function renderLeases(leases: readonly Lease[], look: Look): string {
  return renderTable(
    LEASE_COLUMNS,
    leases.map((lease) => [
      lease.id,
      lease.kind,
      lease.state,
      lease.devices.map(({ address }) => address).join(" "),
      String(lease.holderPid),
      String(lease.holderUid),
      lease.createTime?.toISOString() ?? "",
    ]),
    look,
  );
}

/** WORTH is the scope: what a process can do with the descriptor. NUMBER is the region index or the group number. */
export function renderDescriptors(descriptors: readonly NumberedDescriptor[], look: Look): string {
  return renderTable(
    DESCRIPTOR_COLUMNS,
    descriptors.map((descriptor) => [
      String(descriptor.fd),
      descriptor.kind,
      descriptor.scope,
      descriptor.address ?? "",
      String(descriptor.region ?? descriptor.group ?? ""),
      descriptor.kind === "REGION" ? hex(descriptor.offset) : "",
      descriptor.kind === "REGION" ? hexAndHuman(descriptor.size) : "",
    ]),
    look,
  );
}
