import type { VmmDevices } from "../../client/index.js";
import type { CommandCall } from "../command.js";
import { CliError, EXIT } from "../exit-code.js";
import { writeOne } from "../output.js";
import { VMM_NAMES, vmmOptions } from "../vmm-options.js";
import { plainLines, renderArguments } from "../vmm-view.js";

export async function run(call: CommandCall): Promise<number> {
  const options = vmmOptions(call);
  if (options === null) throw new CliError("usage", "for which VMM? Say --for", `one of ${VMM_NAMES.join(", ")}`);
  const devices = devicesOf(call);
  const made = await call.withClient((client) => client.vmmArguments(options, devices));
  if (call.format === "name") call.terminal.out(plainLines(made));
  else await writeOne(call.terminal, call.format, { value: made, name: "" }, () => renderArguments(made, call.terminal));
  return EXIT.ok.code;
}

function devicesOf({ operands, values }: CommandCall): VmmDevices {
  const leaseId = values.get("lease");
  if (leaseId === undefined && operands.length === 0)
    throw new CliError("usage", "for which devices? Name their addresses, or say --lease");
  if (leaseId === undefined) return { addresses: operands };
  if (operands.length > 0) throw new CliError("usage", "--lease says which devices: leave out the addresses");
  return { leaseId };
}
