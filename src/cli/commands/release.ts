import type { CommandCall } from "../command.js";
import { EXIT } from "../exit-code.js";
import { releasing } from "../lease-session.js";
import { renderLeases } from "../lease-view.js";
import { writeOne } from "../output.js";
import { withProgress } from "../progress.js";
import { warnQuarantined } from "../quarantine-warning.js";

export async function run(call: CommandCall): Promise<number> {
  const [leaseId = ""] = call.operands;
  const lease = await call.withClient((client) =>
    withProgress(
      call.terminal,
      releasing(leaseId),
      client.release(leaseId, call.timeoutMs === undefined ? {} : { timeoutMs: call.timeoutMs }),
    ),
  );
  await writeOne(call.terminal, call.format, { value: lease, name: lease.id }, () => renderLeases([lease], call.terminal));
  warnQuarantined(lease, call.terminal);
  return EXIT.ok.code;
}
