// Whether a device can be leased, in a word and a colour.

import type { Device } from "../client/index.js";
import type { Cell } from "./table.js";
import type { Colour } from "./terminal.js";

/** `yes`, `not now` when somebody has it, or the codes of what is in the way. */
export function leasability(device: Device): Cell {
  const codes = device.ineligibleReasons.map(({ reason }) => reason);
  if (codes.length > 0) return { text: `no: ${codes.join(", ")}`, colour: "red" };
  return device.state === "FREE" ? { text: "yes", colour: "green" } : { text: "not now", colour: "yellow" };
}

export function stateCell(device: Device): Cell {
  return { text: device.state, colour: stateColour(device) };
}

function stateColour(device: Device): Colour {
  if (device.state === "FREE") return "plain";
  return device.state === "QUARANTINED" || device.state === "REMOVED" ? "red" : "yellow";
}
