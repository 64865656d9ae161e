// docs/REASONS.md from the broker's table of reasons and the client library's own.

import { EXIT_CODES, REASONS, type Reason, reasonRow, type Told } from "../broker/refusal.js";
import { exitCodeOf } from "../cli/exit-code.js";
import { CLIENT_REASONS } from "../client/errors.js";
import { PUSH_REASONS, PushError, type PushReason } from "../push/errors.js";
import { code, table } from "./markdown.js";

const TOLD: Readonly<Record<Told, string>> = { GOODBYE: "GOODBYE", BOTH: "call, GOODBYE" };

const COUNTED: Readonly<Record<Told, string>> = {
  GOODBYE: "`aperture_peer_rejections_total`",
  BOTH: "`aperture_refusals_total`, `aperture_peer_rejections_total`",
};

function seconds(milliseconds: number | null): string {
  return milliseconds === null ? "" : `${milliseconds / 1000} s`;
}

export function reasonsPage(): string {
  const rows = (Object.keys(REASONS) as Reason[]).map((reason) => {
    const { status, told, retryMs, next } = reasonRow(reason);
    return [
      code(reason),
      status,
      String(EXIT_CODES[status]),
      told === null ? "call" : TOLD[told],
      told === null ? "`aperture_refusals_total`" : COUNTED[told],
      seconds(retryMs),
      next,
    ];
  });
  return `# Reasons

Every refusal carries a \`google.rpc.ErrorInfo\` (domain \`aperture\`) whose \`reason\` is one of these. They are stable: programs may rely on them. The same words stand in
\`Device.ineligible_reasons\`, in the log (\`lease.refused\`, \`peer.rejected\`), and as the label \`reason\` of the metric that counts them. Made from \`src/broker/refusal.ts\` by
\`npm run docs\`; a test provokes each of them (\`test/integration/reasons.test.ts\`).

Further details come where they fit: \`BadRequest\` names the field that was wrong, \`ResourceInfo\` what was not found, \`PreconditionFailure\` the device that is not as it has to be, and
\`RetryInfo\` says when to try again (column "retry": nothing but time is missing; without it, waiting alone does not help). What to do next also stands in
\`ErrorInfo.metadata["next"]\` and at the end of the status text.

"call": the status of a gRPC call, of a request in a session, or a REFUSED on a channel ([PROTOCOL.md](PROTOCOL.md)). "exit": the exit code of \`aperturectl\` ([CLI.md](CLI.md)).

${table(["reason", "gRPC status", "exit", "told by", "counted in", "retry", "what to do next"], rows)}

## Of the client library

\`ApertureError.reason\` is one of the above when the daemon refused. Where the daemon said nothing, it is the name of the gRPC status (\`DEADLINE_EXCEEDED\`, \`INTERNAL\`, ...), the name of an
errno when a system call of the process failed (\`SystemCallError\`: \`EBUSY\`, \`ENOMEM\`, ...), or one of these:

${table(
  ["reason", "code", "when"],
  Object.entries(CLIENT_REASONS).map(([reason, { code: status, when }]) => [code(reason), status, when]),
)}

## Of giving devices to a running VM

\`PushError\` of \`aperture/push\`, and of the commands that use it ([VMM-PUSH.md](VMM-PUSH.md)). What was done until then is undone as far as the VMM still answers, and the commands
give the lease back.

${table(
  ["reason", "code", "exit", "when"],
  (Object.keys(PUSH_REASONS) as PushReason[]).map((reason) => [
    code(reason),
    PUSH_REASONS[reason].code,
    String(exitCodeOf(new PushError(reason, ""))),
    PUSH_REASONS[reason].when,
  ]),
)}
`;
}
