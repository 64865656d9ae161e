import type { CommandCall } from "../command.js";
import { CliError, EXIT } from "../exit-code.js";
import { writeList } from "../output.js";
import { withProgress } from "../progress.js";
import { renderTable } from "../table.js";

export async function run(call: CommandCall): Promise<number> {
  const [address = "", text = ""] = call.operands;
  if (!/^\d{1,5}$/.test(text)) throw new CliError("usage", `vfs: "${text}" is no number of virtual functions`);
  const options = call.timeoutMs === undefined ? {} : { timeoutMs: call.timeoutMs };
  const addresses = await call.withClient((client) =>
    withProgress(call.terminal, `setting the virtual functions of ${address}`, client.setVirtualFunctions(address, Number(text), options)),
  );
  const items = addresses.map((each) => ({ value: each, name: each }));
  const rows = addresses.map((each) => [each]);
  await writeList(call.terminal, call.format, items, () => renderTable([{ title: "ADDRESS" }], rows, call.terminal));
  return EXIT.ok.code;
}
