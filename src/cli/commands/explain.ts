import type { Lease } from "../../client/index.js";
import type { CommandCall } from "../command.js";
import { EXIT } from "../exit-code.js";
import { explain } from "../explanation.js";
import { renderExplanation } from "../explanation-view.js";
import { writeOne } from "../output.js";

export async function run(call: CommandCall): Promise<number> {
  const [address = ""] = call.operands;
  return await call.withClient(async (client) => {
    const device = await client.device(address);
    const leases: Lease[] = [];
    for await (const lease of client.leases()) leases.push(lease);
    const explanation = explain(device, leases, client.host.simulated);
    await writeOne(call.terminal, call.format, { value: explanation, name: explanation.verdict }, () =>
      renderExplanation(device, explanation, call.terminal),
    );
    return explanation.verdict === "YES" ? EXIT.ok.code : EXIT.conflict.code;
  });
}
