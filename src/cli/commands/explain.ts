import type { Lease } from "../../client/index.js";
import type { CommandCall } from "../command.js";
import { EXIT, type ExitName } from "../exit-code.js";
import { explain, type Verdict } from "../explanation.js";
import { renderExplanation } from "../explanation-view.js";
import { writeOne } from "../output.js";

const STATUS: Readonly<Record<Verdict, ExitName>> = { YES: "ok", NOT_NOW: "conflict", NO: "conflict", DENIED: "denied" };

export async function run(call: CommandCall): Promise<number> {
  const [address = ""] = call.operands;
  return await call.withClient(async (client) => {
    const device = await client.device(address);
    const leases: Lease[] = [];
    for await (const lease of client.leases()) leases.push(lease);
    // Of this very process; the program and the cgroup of the one that will ask are not known here.
    const gids = [...new Set([process.getgid?.() ?? 0, ...(process.getgroups?.() ?? [])])];
    const policy = await client.testPolicy({ uid: process.getuid?.() ?? 0, gids, address });
    const explanation = explain(device, leases, policy, client.host.simulated);
    await writeOne(call.terminal, call.format, { value: explanation, name: explanation.verdict }, () =>
      renderExplanation(device, explanation, call.terminal),
    );
    return EXIT[STATUS[explanation.verdict]].code;
  });
}
