// The devices of a host, a line each.

import type { Device, Region } from "../client/index.js";
import { deviceName, ids } from "./device-facts.js";
import { leasability, stateCell } from "./device-state.js";
import { humanSize } from "./size.js";
import { type Column, renderTable } from "./table.js";
import type { Look } from "./terminal.js";

// In this order they give way on a narrow terminal: the name first, which `device` shows in full.
const COLUMNS: readonly Column[] = [
  { title: "ADDRESS" },
  { title: "ID" },
  { title: "NAME", least: 0 },
  { title: "DRIVER", least: 8 },
  { title: "GROUP", align: "right" },
  { title: "LARGEST", align: "right" },
  { title: "STATE" },
  { title: "CAN BE LEASED", least: 14 },
];

export function renderDeviceList(devices: readonly Device[], look: Look): string {
  return renderTable(
    COLUMNS,
    devices.map((device) => [
      device.address,
      ids(device),
      device.names?.device || deviceName(device),
      device.driver,
      device.iommuGroup === null ? "" : String(device.iommuGroup.id),
      device.regions.length === 0 ? "" : humanSize(largest(device.regions)),
      stateCell(device),
      leasability(device),
    ]),
    look,
  );
}

function largest(regions: readonly Region[]): bigint {
  let most = 0n;
  for (const { size } of regions) if (size > most) most = size;
  return most;
}
