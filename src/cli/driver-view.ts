// Changes of drivers as people read them: each step on stderr as it begins, the outcome as a table.

import type { DriverOutcome, DriverStep } from "../client/index.js";
import type { CommandCall } from "./command.js";
import { EXIT } from "./exit-code.js";
import { writeList } from "./output.js";
import { printable } from "./printable.js";
import { renderTable } from "./table.js";

const DOING: Readonly<Record<DriverStep["action"], (driver: string) => string>> = {
  UNSPECIFIED: () => "working",
  WAITING: () => "somebody uses it; waiting for them to let go",
  LOADING: (driver) => `looking for ${driver}`,
  UNBINDING: (driver) => `taking it from ${driver}`,
  BINDING: (driver) => `giving it to ${driver}`,
  UNDOING: (driver) => (driver === "" ? "undoing" : `undoing: ${driver}`),
  READING: () => "reading its regions",
};

/** Runs a change, telling its steps, and prints what became of it. */
export async function runChange(
  call: CommandCall,
  change: (onStep: (step: DriverStep) => void) => Promise<readonly DriverOutcome[]>,
): Promise<number> {
  const devices = await change(({ address, action, driver }) => {
    call.terminal.message(printable(`${address}: ${DOING[action](driver)}`));
  });
  const rows = devices.map(({ address, driverBefore, driver, changed }) => [address, driverBefore, driver, changed ? "yes" : "no"]);
  const columns = [{ title: "ADDRESS" }, { title: "DRIVER BEFORE" }, { title: "DRIVER" }, { title: "CHANGED" }];
  const items = devices.map((device) => ({ value: device, name: device.address }));
  await writeList(call.terminal, call.format, items, () => renderTable(columns, rows, call.terminal));
  return EXIT.ok.code;
}
